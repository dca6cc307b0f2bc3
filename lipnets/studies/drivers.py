"""Which force moves the Lipschitz constant, over architectures, batch sizes and wrong labels.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["drivers"]

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean
from typing import ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..records import Record
from ..report.drawing import COLORS, frame, styled
from ._registry import registry
from .architectures import FREE, Models
from .finding import Finding
from .lab import Changes, Lab, crossed, series

# Its gains begin at 1: those of a residual network begin at 0, where log K is −∞.
_NORMALIZED = "convolutions, batch normalization"


@registry.register
def drivers(
    lab: Lab,
    *,
    models: Models | None = None,
    sizes: Sequence[int] = (16, 64, 256),
    share: float = 0.5,
    seeds: Sequence[int] = (0, 1),
    steps: int = 3000,
    every: int = 50,
) -> Finding:
    """Takes the growth of log K apart: flow along the gradient, curvature, and what noise adds to it.

    The terms of the ledger add up to the growth, whatever batches were drawn.  Of what the curvature of a layer
    did between two looks at its drivers, noise-curvature is given the share that it has of the mean
    of the next step: κ itself, summed up, is too much where singular values are close, as at the start of an
    orthogonal layer.  What noise did along the slope, which averages out, is among the first-order
    terms; (∫ λ²)^½ says how much that can be.  All conditions take as many steps.

    Arguments:
        lab: Where it trains, by plain stochastic gradient descent.
        models: The models by what they are called; several small ones by default.
        sizes: The numbers of images of a batch, increasing.
        share: The share of labels drawn at random in the last condition, with batches of the middle size.
        seeds: The seeds of initial weights and of the order of images.
        steps: The number of optimization steps.
        every: The number of steps between two looks at the drivers.
    """
    models = models or {**FREE, _NORMALIZED: {**FREE["convolutions"], "norm": "batch_norm2d"}}
    middle = sizes[len(sizes) // 2]
    conditions: dict[tuple[str, int, float], Changes] = {}
    for name, model in models.items():
        common = {
            "model": model,
            "data.replacement": True,
            "schedule.max_steps": steps,
            "record.ledger": {"every": every, "scan_every": 1},
            "record.drivers": {"every": every, "examples": 256},
        }
        for size, wrong in (*((size, 0.0) for size in sizes), (middle, share)):
            changes = {"data.batch_size": size, "data.label_noise": wrong}
            conditions[name, size, wrong] = {**common, **changes}
    histories = crossed(lab, conditions, [{"seed": seed} for seed in seeds])
    found = {
        where: _Parts.mean([_parts(h, every) for h in here]) for where, here in histories.items()
    }
    flow = [each.share("linear") for each in found.values()]
    ends = (sizes[0], sizes[-1])
    noise = [[found[name, size, 0.0].share("noise") for name in models] for size in ends]
    jumps = [[found[name, size, 0.0].share("switch") for name in models] for size in ends]
    kept = [found[name, middle, share].growth / found[name, middle, 0.0].growth for name in models]
    fewer = all(b < a for a, b in zip(*noise, strict=True))
    sentence = (
        f"Of all that moved the norms of weights, up or down, steps along the gradient are more than half in "
        f"{sum(each > 0.5 for each in flow)} of {len(flow)} conditions ({_range(flow)}); noise-curvature is "
        f"{_range(noise[0])} with batches of {ends[0]} and {_range(noise[1])} with {ends[1]}; switches from one "
        f"frequency of a convolution to another are up to {max(jumps[0]):.0%} and {max(jumps[1]):.0%}. With "
        f"{share:.0%} of labels drawn at random, log K grows {_range(kept)} as much."
    )
    return Finding(
        claim="Of the three forces that move log K (arXiv 2506.18588), the flow along the gradient does most; "
        "noise-curvature does less, and the less the larger the batches (ours).",
        verdict="confirmed" if min(flow) > 0.5 and fewer else "not confirmed",
        sentence=sentence,
        header=("architecture", "batch", "random labels", *_Parts.HEADER),
        rows=[
            (name, str(size), f"{wrong:.0%}", *each.row())
            for (name, size, wrong), each in found.items()
        ],
        figure=_draw(found),
        scale=f"{lab.dataset.name}, {steps} steps, {len(seeds)} seeds",
    )


@dataclass(frozen=True)
class _Parts:
    """What moved log K in a training, in nats.

    All but `noise` and `deviation` add up to the growth.

    Arguments:
        growth: How much log K has grown.
        linear: What steps did along the slope of log K, with the noise in them.
        curvature: What its bend added.
        square: What the logarithm took off.
        switch: What was gained as another frequency of a convolution became the largest.
        normalization: What the gains and running variances of normalizations did.
        noise: The part of the curvature that gradient noise causes.
        deviation: (∫ λ²)^½, how far gradient noise would carry log K if nothing answered it.
    """

    growth: float
    linear: float
    curvature: float
    square: float
    switch: float
    normalization: float
    noise: float
    deviation: float

    HEADER: ClassVar = (
        *("growth", "linear", "curvature", "of it noise", "square", "switch", "normalization"),
        "(∫ λ²)^½",
    )

    @property
    def moved(self) -> float:
        """All that moved the norms of weights, up or down."""
        return sum(map(abs, (self.linear, self.curvature, self.square, self.switch)))

    def share(self, name: str) -> float:
        """One of them, as a share of that."""
        return abs(getattr(self, name)) / self.moved

    @classmethod
    def mean(cls, parts: Sequence["_Parts"]) -> "_Parts":
        """The mean of each over several trainings."""
        return cls(*(fmean(each) for each in zip(*map(astuple, parts), strict=True)))

    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        terms = (self.linear, self.curvature, self.noise, self.square, self.switch)
        cells = (self.growth, *terms, self.normalization)
        return (*(f"{value:+.3f}" for value in cells), f"{self.deviation:.3f}")


def _parts(history: Sequence[Record], every: int) -> _Parts:
    """The parts of one training, with looks at its noise at each `every` steps."""

    def ledger(name: str) -> float:
        values = series(history, f"ledger/{name}", layer=None)[1]
        return values[-1] - values[0] if values else 0.0

    variances = series(history, "driver/variance", layer=None)[1]
    return _Parts(
        growth=ledger("log_norm"),
        linear=ledger("linear"),
        curvature=ledger("curvature"),
        square=ledger("square"),
        switch=ledger("switch"),
        normalization=ledger("gain") + ledger("buffer"),
        noise=_noise(history),
        deviation=math.sqrt(every * sum(variances)),
    )


def _noise(history: Sequence[Record]) -> float:
    """What gradient noise did by curvature: its share in the mean of steps, of what curvature did."""
    said: dict[tuple[str, int], dict[str, float]] = {}
    for record in history:
        kind, _, name = record.name.partition("/")
        if (layer := record.details.get("layer")) and kind == "driver":
            said.setdefault((layer, record.step or 0), {})[name] = record.value
    total = 0.0
    for layer in dict.fromkeys(layer for layer, _ in said):
        steps, sums = series(history, "ledger/curvature", layer=layer)
        for step, (before, after) in zip(steps, itertools.pairwise(sums), strict=False):
            terms = said[layer, step]
            # The step of the mean gradient alone: what the logarithm took off stands apart in the ledger.
            own = max(0.0, terms["deterministic"] + terms["drift"] ** 2 / 2)
            if noise := terms["noise_curvature"]:
                total += noise / (noise + own) * (after - before)
    return total


def _range(shares: Sequence[float]) -> str:
    """The least and the largest of some shares, in per cent."""
    return f"{100 * min(shares):.3g} to {100 * max(shares):.3g} %"


@styled
def _draw(found: Mapping[tuple[str, int, float], _Parts]) -> Figure:
    """The parts of each condition as a bar, a panel for each architecture."""
    kinds = list(dict.fromkeys((size, wrong) for _, size, wrong in found))
    labels = [f"B = {size}" + f", {wrong:.0%} random" * (wrong > 0) for size, wrong in kinds]
    names = list(dict.fromkeys(name for name, *_ in found))
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(1.4 + 2.6 * columns, 0.9 + rows * (0.5 + 0.2 * len(kinds))))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for name, ax in zip(names, panels, strict=False):
        for place, kind in enumerate(kinds):
            _stack(ax, place, found[name, *kind])
        ax.set_yticks(range(len(kinds)), labels)
        ax.set_title(name)
        ax.axvline(0, color=COLORS["muted"], linewidth=0.7)
        frame(ax, "", "")
        ax.grid(visible=False, axis="y")
    panels[0].invert_yaxis()  # shared by all
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    for ax in panels[max(0, len(names) - columns) : len(names)]:
        ax.set_xlabel("growth of log K, nats")
    marks = [Patch(color=COLORS[color], label=label) for label, color in _PARTS.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


_PARTS = {  # of a bar, and their colours
    "along the gradient": "first",
    "noise-curvature": "second",
    "other curvature": "muted",
    "frequency switches": "third",
    "normalization": "fourth",
}


def _stack(ax: Axes, place: int, parts: _Parts) -> None:
    """Draws a bar: what raised log K to the right of zero, what lowered it to the left."""
    rest = parts.curvature + parts.square - parts.noise
    values = (parts.linear, parts.noise, rest, parts.switch, parts.normalization)
    ends = {True: 0.0, False: 0.0}
    for value, color in zip(values, _PARTS.values(), strict=True):
        up = value > 0
        ax.barh(place, value, left=ends[up], height=0.6, color=COLORS[color])
        ends[up] += value
