"""Figures of a report, each drawn from records alone."""

__all__ = [
    "band_map",
    "bound_of_layers",
    "bound_of_network",
    "certified_curve",
    "corruption_map",
    "filter_curves",
    "learning_curves",
    "stairs",
]

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..metrics import RADII, CertifiedCurve, dkw
from ..records import Record
from .drawing import COLORS, axes, frame, name_ends, spread, styled
from .numbers import bound, percent, radius_name

_STEPS = 1000  # of a curve, at the most
_LABELS = 9  # lines of a figure that carry their own name; of more, only the outermost do


def stairs(curve: CertifiedCurve, end: float) -> tuple[list[float], list[float]]:
    """The corners of a curve from 0 to `end`, of at most a thousand steps: more cannot be seen.

    Steps that are left out come early, each with the next that is drawn: no drawn height is above the
    curve, or below it by more than a thousandth.
    """
    every = max(1, -(-len(curve.steps) // _STEPS))
    x, y = [0.0], [curve(0.0)]
    for rank in range(0, len(curve.steps), every):
        left = max(len(curve.steps) - rank - every, 0) / curve.count
        x += [curve.steps[rank], curve.steps[rank]]
        y += [y[-1], left]
    return [*x, end], [*y, 0.0]


@styled
def certified_curve(curve: CertifiedCurve, accuracy: float) -> Figure:
    """Draws certified accuracy as a function of the radius, with a 95 % band around all of it."""
    figure, ax = axes()
    end = 1.04 * max(curve.steps[-1] if curve.steps else 0.0, RADII[3])
    if end >= 0.85:
        end = max(end, 1.04 * RADII[4])
    x, y = stairs(curve, end)
    reach = dkw(curve.count)
    low, high = [max(v - reach, 0) for v in y], [min(v + reach, 1) for v in y]
    ax.fill_between(x, low, high, color=COLORS["first"], alpha=0.14, linewidth=0)
    ax.plot(x, y, color=COLORS["first"])
    ax.plot(0, accuracy, "o", color=COLORS["second"], markersize=5, clip_on=False, zorder=3)
    marked = [radius for radius in RADII[1:] if radius < end]
    for radius in marked:
        share = curve(radius)
        ax.axvline(radius, color=COLORS["muted"], linewidth=0.7, linestyle=(0, (2, 3)))
        ax.plot(radius, share, "o", color=COLORS["first"], markersize=4.5)
        _note(ax, percent(share, unit=False), (radius, share), (4, 5))
    frame(ax, "radius ε, ℓ2 distance in pixels of [0, 1]", "images, %", percent=True)
    ax.set_xlim(0, end)
    places = spread(marked, gap=0.12 * end)  # the width of a label
    for radius, place in zip(marked, places, strict=True):
        at, name = ax.get_xaxis_transform(), radius_name(radius)
        ax.text(place, 1.02, name, transform=at, ha="center", color=COLORS["muted"])
    return figure


@styled
def corruption_map(cells: Sequence[Record]) -> Figure:
    """Draws a table of shares: a row for each corruption, from mild to hard, a column a severity.

    Arguments:
        cells: Records whose details name the `corruption` and the `severity`.
    """
    shares = {(c.details["corruption"], c.details["severity"]): c.value for c in cells}
    severities = sorted({severity for _, severity in shares})
    names = sorted({name for name, _ in shares})
    means = {name: sum(v for (n, _), v in shares.items() if n == name) for name in names}
    names.sort(key=lambda name: -means[name])
    table = [[shares.get((name, severity)) for severity in severities] for name in names]
    return _shares(
        table, [name.replace("_", " ") for name in names], [str(s) for s in severities], "severity"
    )


@styled
def band_map(cells: Sequence[Record]) -> Figure:
    """Draws a table of certified shares: a row for each band of frequencies, a column a radius.

    Arguments:
        cells: Records whose details name the `begin` and the `end` of the band, and the `radius`.
    """
    shares = {(c.details["begin"], c.details["end"], c.details["radius"]): c.value for c in cells}
    radii = sorted({radius for _, _, radius in shares})
    whole = (0.0, 1.0)
    ends = sorted({(low, high) for low, high, _ in shares} - {whole})
    names = [f"{low:g} to {high:g}" if high < 1 else f"{low:g} and above" for low, high in ends]
    rows = [*ends, whole]
    table = [[shares.get((*row, radius)) for radius in radii] for row in rows]
    columns = [radius_name(radius) for radius in radii]
    return _shares(table, [*names, "all frequencies"], columns, "radius ε of the perturbation")


def _shares(
    table: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
) -> Figure:
    """A table of shares in per cent, tinted."""
    figure, ax = axes(max(3.5, 0.9 + 0.6 * len(columns)), 0.6 + 0.22 * len(rows))
    for row, shares in enumerate(table):
        for column, share in enumerate(shares):
            if share is None:
                continue
            tint = Rectangle((column, row), 0.96, 0.92, color=COLORS["first"], alpha=0.7 * share**2)
            ax.add_patch(tint)
            text = percent(share, unit=False)
            ax.text(column + 0.48, row + 0.48, text, ha="center", va="center", fontsize=8.5)
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.set_xticks([i + 0.48 for i in range(len(columns))], columns)
    ax.set_yticks([i + 0.48 for i in range(len(rows))], rows)
    ax.tick_params(length=0, labelcolor=COLORS["ink"])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel(label)
    ax.spines[:].set_visible(False)
    return figure


@styled
def filter_curves(points: Sequence[Record], accuracy: float, chance: float) -> Figure:
    """Draws accuracy under low-pass and high-pass filters, for every radius.

    Arguments:
        points: Records whose details name the `filter` and the `radius`.
        accuracy: The accuracy on unfiltered images.
        chance: The share of the most common class.
    """
    figure, ax = axes()
    for level, text in ((accuracy, "unfiltered"), (chance, "most common class")):
        ax.axhline(level, color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        below = 0.06 < level == chance  # curves come down to the level of chance from above
        _note(ax, text, (1, level), (-2, -10 if below else 3), transform=True)
    for name, color in (("low_pass", "first"), ("high_pass", "second")):
        line = sorted((p.details["radius"], p.value) for p in points if p.details["filter"] == name)
        label = {
            "low_pass": "low-pass: keeps ρ ≤ r",
            "high_pass": "high-pass: keeps ρ > r",
        }[name]
        x, y = [r for r, _ in line], [share for _, share in line]
        ax.plot(x, y, "o-", color=COLORS[color], markersize=3.5, label=label)
    frame(ax, "cutoff r, cycles per image", "right, %", percent=True)
    ax.set_xlim(left=0)
    ax.legend(loc="best")
    return figure


@styled
def bound_of_network(history: Sequence[Record]) -> Figure:
    """Draws the proved Lipschitz bound of the network over the epochs."""
    figure, ax = axes(height=2.3)
    epochs, values = _line(history)
    ax.plot(epochs, values, color=COLORS["first"], marker="o", markersize=3)
    ax.margins(y=0.18)
    _scale(ax, values)
    rises = values[1] > values[0]
    _note(ax, bound(values[0], 3), (epochs[0], values[0]), (4, -10 if rises else 5))
    _note(ax, bound(values[-1], 3), (epochs[-1], values[-1]), (0, 6))
    frame(ax, "epoch", "Lipschitz bound")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def bound_of_layers(history: Sequence[Record]) -> Figure:
    """Draws the proved Lipschitz bound of each layer over the epochs, dark where it is deep.

    Arguments:
        history: Records whose details name the `layer`, in the order of layers.
    """
    layers = list(dict.fromkeys(record.details["layer"] for record in history))
    figure, ax = axes(height=max(2.8, 0.9 + 0.2 * min(len(layers), _LABELS)))
    lines = {name: _line([r for r in history if r.details["layer"] == name]) for name in layers}
    _scale(ax, [value for _, values in lines.values() for value in values])
    for depth, (epochs, values) in enumerate(lines.values()):
        shade = 0.3 + 0.7 * (depth + 1) / len(layers)
        ax.plot(epochs, values, color=COLORS["first"], alpha=shade, linewidth=1.4)
    frame(ax, "epoch", "Lipschitz bound")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_lines(figure, ax, lines)
    return figure


@styled
def learning_curves(history: Sequence[Record]) -> Figure:
    """Draws accuracy and certified accuracy on held-out images over the epochs."""
    figure, ax = axes(height=2.3)
    for name, color in (("test/accuracy", "second"), ("test/certified_accuracy", "first")):
        records = [record for record in history if record.name == name]
        if not records:
            continue
        label = "right"
        if "radius" in records[0].details:
            label = f"certified at {radius_name(records[0].details['radius'])}"
        ax.plot(*_line(records), "o-", color=COLORS[color], markersize=3, label=label)
    frame(ax, "epoch", "held-out images, %", percent=True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="best")
    return figure


def _line(history: Sequence[Record]) -> tuple[list[float], list[float]]:
    points = sorted((record.epoch or 0.0, record.value) for record in history)
    return [epoch for epoch, _ in points], [value for _, value in points]


def _scale(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis for values of several magnitudes; on others, none is magnified a lot."""
    low, high = min(values), max(values)
    if low > 0 and high > 5 * low:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        return
    ax.ticklabel_format(axis="y", useOffset=False, style="plain")
    middle, reach = (low + high) / 2, max(0.6 * (high - low), 0.05 * abs(high)) or 1.0
    ax.set_ylim(middle - reach, middle + reach)


def _name_lines(
    figure: Figure, ax: Axes, lines: dict[str, tuple[list[float], list[float]]]
) -> None:
    """Names lines at their right ends, labels moved apart."""
    names = sorted(lines, key=lambda name: lines[name][1][-1])
    if len(names) > _LABELS:
        names = [*names[: _LABELS // 2], *names[-_LABELS // 2 :]]
    ends = [
        (f"{name}  {bound(values[-1], 4)}", epochs[-1], values[-1])
        for name in names
        for epochs, values in [lines[name]]
    ]
    name_ends(figure, ax, ends)
    ax.set_xlim(right=max(epochs[-1] for epochs, _ in lines.values()))


def _note(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    transform: bool = False,
) -> None:
    ax.annotate(
        text,
        at,
        offset,
        xycoords=ax.get_yaxis_transform() if transform else "data",
        textcoords="offset points",
        ha="right" if transform else "left",
        color=COLORS["muted"] if transform else COLORS["ink"],
    )
