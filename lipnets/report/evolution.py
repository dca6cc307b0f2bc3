"""Figures of what moved the Lipschitz constant in training, each drawn from the history alone."""

__all__ = ["drivers", "frequencies", "ledger", "scores"]

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..records import Record
from .drawing import COLORS, axes, frame, name_ends, styled

_COLUMNS = 24  # epochs of a frequency map, at most
_PANELS = 6  # convolutions of a frequency map, from the first to the last
_TERMS = {  # of the ledger, by what they are called in a figure, with colour and tint
    "gradient": ("first", 0.75),
    "weight decay": ("muted", 0.5),
    "curvature": ("second", 0.75),
    "square": ("second", 0.35),
    "BatchNorm": ("muted", 0.25),
    "other frequency": ("first", 0.3),
}


@styled
def ledger(history: Sequence[Record]) -> Figure:
    """Draws log K of the network over steps, and stacked below it the terms that it is the sum of.

    Terms that raise it are stacked upwards from zero, those that lower it downwards.
    """
    figure, ax = axes(width=5.6)
    steps, observed = _network(history, "ledger/log_norm")
    terms = _terms(history, steps)
    reach = max((abs(v) for values in terms.values() for v in values), default=0.0)
    terms = {name: values for name, values in terms.items() if max(map(abs, values)) > 0.01 * reach}
    for sign in (1, -1):
        base = [0.0] * len(steps)
        for name, values in terms.items():
            color, tint = _TERMS[name]
            edge = [b + (v if sign * v > 0 else 0.0) for b, v in zip(base, values, strict=True)]
            ax.fill_between(steps, base, edge, color=COLORS[color], alpha=tint, linewidth=0)
            base = edge
    changes = [value - observed[0] for value in observed]
    ax.plot(steps, changes, color=COLORS["ink"], linewidth=1.4)
    ax.axhline(0, color=COLORS["muted"], linewidth=0.7)
    frame(ax, "optimization step", "change of log K")
    ends = {"log K": changes[-1], **{name: values[-1] for name, values in terms.items()}}
    labels = [(f"{name}  {ends[name]:+.3f}", 0.0, y) for name, y in _middles(ends).items()]
    name_ends(figure, ax, labels, bold="log K")
    ax.margins(x=0)
    return figure


@styled
def drivers(history: Sequence[Record]) -> Figure:
    """Draws what theory says of single steps: their mean, term by term, and their deviation."""
    figure, ax = axes(width=5.6)
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for term, name in (
        ("drift", "drift"),
        ("noise_curvature", "noise-curvature"),
        ("deterministic", "of the step itself"),
    ):
        lines[name] = _network(history, f"driver/{term}")
    steps, variances = _network(history, "driver/variance")
    lines["± deviation"] = steps, [math.sqrt(max(v, 0.0)) for v in variances]
    looks = (("first", "-"), ("second", "-"), ("muted", "-"), ("muted", ":"))
    smallest = min(
        (abs(v) for _, values in lines.values() for v in values if v and math.isfinite(v)),
        default=1.0,
    )
    largest = max((abs(v) for _, vs in lines.values() for v in vs if math.isfinite(v)), default=1.0)
    for (name, (at, values)), (color, style) in zip(lines.items(), looks, strict=True):
        ax.plot(at, values, style, color=COLORS[color], label=name)
        if style == ":":
            ax.plot(at, [-value for value in values], style, color=COLORS[color])
    ax.set_yscale("symlog", linthresh=max(smallest, largest / 1e3), linscale=1.2)
    ax.axhline(0, color=COLORS["muted"], linewidth=0.7)
    frame(ax, "optimization step", "change of log K in a step")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def scores(history: Sequence[Record]) -> Figure:
    """Draws by how many deviations single steps missed their predicted mean."""
    figure, ax = axes(height=2.3)
    steps, values = _network(history, "driver/z")
    ax.axhspan(-2, 2, color=COLORS["first"], alpha=0.1, linewidth=0)
    ax.axhline(0, color=COLORS["muted"], linewidth=0.7)
    ax.plot(steps, values, "o", color=COLORS["first"], markersize=3)
    reach = max(3.2, *(1.1 * abs(value) for value in values))
    ax.set_ylim(-reach, reach)
    frame(ax, "optimization step", "miss, in deviations")
    return figure


@styled
def frequencies(history: Sequence[Record]) -> Figure:
    """Draws the norms of convolutions in bands of frequencies over epochs, a panel for each.

    Cells are tinted from the least norm in the panel to the largest, which the title tells.
    """
    layers = list(dict.fromkeys(str(r.details["layer"]) for r in history if r.name == "gain/band"))
    if len(layers) > _PANELS:
        places = [round(i * (len(layers) - 1) / (_PANELS - 1)) for i in range(_PANELS)]
        layers = [layers[place] for place in places]
    columns = min(3, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(1.2 + 1.9 * columns, 0.7 + 1.7 * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for rank, ax in enumerate(panels.flat):
        if rank >= len(layers):
            ax.set_visible(False)
            continue
        edges, epochs, table = _bands(history, layers[rank])
        values = [value for row in table for value in row if math.isfinite(value)]
        low, high = min(values), max(values)
        least = low - 0.1 * (high - low)  # so that the least is seen as well
        ax.pcolormesh(_borders(epochs), edges, table, cmap=_tints(), vmin=least, vmax=high)
        title = f"{layers[rank]}  {low:.3g} to {high:.3g}"
        ax.set_title(title, loc="left", color=COLORS["muted"])
        ax.tick_params(length=0)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supxlabel("epoch", fontsize=8.5, color=COLORS["muted"])
    figure.supylabel("cycles per pixel", fontsize=8.5, color=COLORS["muted"])
    return figure


def _network(history: Sequence[Record], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a record of the network."""
    chosen = [r for r in history if r.name == name and "layer" not in r.details]
    return [record.step or 0 for record in chosen], [record.value for record in chosen]


def _terms(history: Sequence[Record], steps: Sequence[int]) -> dict[str, list[float]]:
    """What the change of log K is the sum of, by name."""

    def line(name: str) -> list[float]:
        found = dict(zip(*_network(history, f"ledger/{name}"), strict=True))
        return [found.get(step, 0.0) for step in steps]

    decay = line("decay")
    return {
        "gradient": [a - b for a, b in zip(line("linear"), decay, strict=True)],
        "weight decay": decay,
        "curvature": line("curvature"),
        "square": line("square"),
        "BatchNorm": [a + b for a, b in zip(line("gain"), line("buffer"), strict=True)],
        "other frequency": line("switch"),
    }


def _middles(ends: Mapping[str, float]) -> dict[str, float]:
    """Where the stacked terms are at the end: the heights of their middles."""
    heights = {"log K": ends["log K"]}
    for sign in (1, -1):
        names = [name for name, value in ends.items() if name != "log K" and sign * value > 0]
        edges = [0.0, *accumulate(ends[name] for name in names)]
        heights |= {name: (a + b) / 2 for name, a, b in zip(names, edges, edges[1:], strict=False)}
    return heights


def _bands(
    history: Sequence[Record], layer: str
) -> tuple[list[float], list[float], list[list[float]]]:
    """The edges of bands, the epochs, and the norms, a row for each band."""
    chosen = [r for r in history if r.name == "gain/band" and r.details["layer"] == layer]
    lows = sorted({float(r.details["low"]) for r in chosen})
    epochs = sorted({r.epoch or 0.0 for r in chosen})
    epochs = epochs[:: -(-len(epochs) // _COLUMNS)]
    found = {(float(r.details["low"]), r.epoch or 0.0): r.value for r in chosen}
    table = [[found.get((low, epoch), math.nan) for epoch in epochs] for low in lows]
    return [*lows, max(float(r.details["high"]) for r in chosen)], epochs, table


def _tints() -> ListedColormap:
    """One colour of the page, from none of it to all."""
    return ListedColormap([to_rgba(COLORS["first"], i / 63) for i in range(64)])


def _borders(centers: Sequence[float]) -> list[float]:
    """Where cells around some numbers end."""
    if len(centers) == 1:
        return [centers[0] - 0.5, centers[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(centers)]
    first, end = centers[0] - (middles[0] - centers[0]), 2 * centers[-1] - middles[-1]
    return [first, *middles, end]
