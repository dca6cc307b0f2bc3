"""Whether the drift of the Lipschitz constant answers to its noise, across architectures.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588: the closed form of Var K, which takes them as independent
"""

__all__ = ["compensation"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import correlation, fmean, stdev

from matplotlib.figure import Figure

from ..records import Record
from ..report.drawing import COLORS, axes, frame, styled
from . import architectures
from ._registry import registry
from .architectures import Models
from .finding import Finding
from .lab import Lab, crossed
from .theory import TERMS, every_step, orders


@registry.register
def compensation(
    lab: Lab, *, models: Models | None = None, replicas: int = 8, steps: int = 300
) -> Finding:
    """Asks whether the drift answers to the noise: if so, replicas spread less than their noise.

    The coefficient is the correlation over replicas of the martingale, which is what log K did less what
    was predicted of each step, with the integral of the drift: −1 if the drift undoes the noise.

    Where weights are constrained K does not move.  What is followed there is the sum over layers of log σ₁
    of the parameters behind weights, if each weight has one of its shape.

    Arguments:
        lab: Where it trains, by plain stochastic gradient descent.
        models: The models by what they are called; several small ones by default.
        replicas: The number of trainings of each that differ in the order of images alone.
        steps: The number of optimization steps.
    """
    models = models or {**architectures.FREE, **architectures.RAW}
    histories = crossed(
        lab,
        {name: {"model": model, **every_step(steps)} for name, model in models.items()},
        orders(range(1, 1 + replicas)),
    )
    found = {name: _Answer.of(here) for name, here in histories.items()}
    rows = [(name, *each.row()) for name, each in found.items()]
    free = [each for each in found.values() if each.free]
    raw = [each for each in found.values() if not each.free]
    answering = [each.answers for each in free or raw]
    return Finding(
        claim="The closed form of Var K, which takes the drift to be independent of the noise, "
        "overestimates: the drift answers to the noise (ours).",
        verdict="confirmed"
        if all(answering)
        else "undecided"
        if any(answering)
        else "not confirmed",
        sentence=" ".join([*_sentence("log K", free), *_sentence("raw weights", raw)]),
        header=("architecture", "weights", "growth", "its deviation", "martingale", "∫ drift", "r"),
        rows=rows,
        figure=_scatter(found),
        scale=f"{steps} steps, {replicas} replicas of each of {len(models)} architectures",
    )


@dataclass(frozen=True)
class _Answer:
    """What replicas of a training say: the growth of log K is the prediction plus the martingale.

    Arguments:
        free: Whether the weights are parameters, so that log K is what grows.
        growths: How much the sum over layers of log σ₁ has grown, of each replica.
        drifts: The integral of its drift.
        noises: Its martingale.
    """

    free: bool
    growths: Sequence[float]
    drifts: Sequence[float]
    noises: Sequence[float]

    @classmethod
    def of(cls, histories: Sequence[Sequence[Record]]) -> "_Answer":
        free = {
            r.details["role"]
            for r in histories[0]
            if r.name == "driver/drift"
            if r.details.get("layer")
        }
        sums = [_sums(history) for history in histories]
        return cls("raw" not in free, *map(list, zip(*sums, strict=True)))

    @property
    def coefficient(self) -> float:
        """The correlation of martingale and ∫ drift."""
        return correlation(self.noises, self.drifts)

    @property
    def left(self) -> float:
        """The deviation of the growth over that of the martingale."""
        return stdev(self.growths) / stdev(self.noises)

    @property
    def answers(self) -> bool:
        """Whether the drift undoes some of the noise."""
        return self.coefficient < -0.5 and self.left < 0.7

    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        deviations = (stdev(each) for each in (self.growths, self.noises, self.drifts))
        return (
            *("in use" if self.free else "raw", f"{fmean(self.growths):+.3f}"),
            *(f"{each:.4f}" for each in deviations),
            f"{self.coefficient:+.2f}",
        )


def _sums(history: Sequence[Record]) -> tuple[float, float, float]:
    """Growth, ∫ drift and martingale of one training, of all layers that have drivers.

    What the running variance of a normalization did is left out: no driver predicts it.
    """
    driven = {r.details.get("layer") for r in history if r.name == "driver/drift"} - {None}
    end = max(r.step or 0 for r in history if r.name == "ledger/log_norm")
    growth, sums = 0.0, dict.fromkeys(TERMS, 0.0)
    for record in history:
        kind, _, name = record.name.partition("/")
        if record.details.get("layer") not in driven:
            continue
        if kind == "driver" and name in sums and (record.step or 0) < end:
            sums[name] += record.value
        elif kind == "ledger" and record.step in (0, end):
            sign = {"log_norm": 1, "buffer": -1}.get(name, 0) * (1 if record.step else -1)
            growth += sign * record.value
    return growth, sums["drift"], growth - sum(sums.values())


def _sentence(what: str, found: Sequence[_Answer]) -> list[str]:
    """What a group of architectures says, if there are any of them."""
    if not found:
        return []
    r, left = ([getattr(each, name) for each in found] for name in ("coefficient", "left"))
    sentence = (
        f"Of {what}, the drift answers in {sum(each.answers for each in found)} of {len(found)} "
        f"architectures: its correlation with the martingale is {min(r):+.2f} to {max(r):+.2f}, and the "
        f"deviation over replicas {min(left):.2f} to {max(left):.2f} times that of the martingale."
    )
    return [sentence]


@styled
def _scatter(found: Mapping[str, _Answer]) -> Figure:
    """∫ drift over the martingale of replicas, both less their means, in deviations of the martingale."""
    figure, ax = axes(5.6)
    count = {True: 0, False: 0}
    for name, each in found.items():
        unit = stdev(each.noises)
        x, y = (
            [(value - fmean(values)) / unit for value in values]
            for values in (each.noises, each.drifts)
        )
        color = COLORS["first" if each.free else "second"]
        marker = "os^Dv<>pP*"[count[each.free] % 10]
        count[each.free] += 1
        ax.plot(x, y, marker, color=color, markersize=4, markerfacecolor="none", label=name)
    reach = max(abs(value) for value in (*ax.get_xlim(), 1.0))
    ax.plot([-reach, reach], [reach, -reach], color=COLORS["muted"], lw=0.8, label="full answer")
    frame(ax, "martingale of a replica, in its deviations", "∫ drift, in the same")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
