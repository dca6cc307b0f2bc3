"""Figures of what a network does with spatial frequencies, each drawn from records alone."""

__all__ = [
    "contributions",
    "equal_energy",
    "gain_curves",
    "heat_maps",
    "path_spectra",
    "power_spectrum",
    "responses",
]

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..records import Record
from .drawing import COLORS, axes, frame, styled

_LEVELS = 24  # tints of a map
_LAYERS = 7  # convolutions that are drawn, from the first to the last


@styled
def heat_maps(records: Sequence[Record], label: str, percent: bool = False) -> Figure:
    """Draws maps of frequencies side by side, frequency 0 in the middle, on one scale from 0 on.

    Arguments:
        records: Records whose details hold the `map`, its `rows` and `columns`, and the `norm`.
        label: What the numbers are.
        percent: Whether they are shares.
    """
    largest = max(max(map(max, r.details["map"])) for r in records)
    top = largest or 1.0
    width = 1.3 * len(records) + 1.15
    figure = Figure(figsize=(max(width, 3.1), 2.05))
    ratios = [*([1.0] * len(records)), 0.09]
    *panels, scale = figure.subplots(
        1, len(records) + 1, squeeze=False, gridspec_kw={"width_ratios": ratios}
    )[0]
    for rank, (record, ax) in enumerate(zip(records, panels, strict=True)):
        rows, columns = record.details["rows"], record.details["columns"]
        step = _step(rows, columns)
        edges = [[numbers[0] - step / 2, numbers[-1] + step / 2] for numbers in (columns, rows)]
        _tint(ax, record.details["map"], columns, rows, step, top)
        ax.set_xlim(*edges[0])
        ax.set_ylim(*edges[1])
        ax.set_aspect("equal")
        ax.set_title(f"v = {record.details['norm']:g}", color=COLORS["muted"])
        _quiet(ax)
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        if rank:
            ax.tick_params(labelleft=False)
    panels[0].set_ylabel("vertical frequency")
    panels[len(panels) // 2].set_xlabel("horizontal frequency, cycles per image")
    _scale_bar(scale, top, label, percent)
    return figure


@styled
def power_spectrum(records: Sequence[Record], lipschitz: float | None) -> Figure:
    """Draws the root mean square of gradients ring by ring.

    Arguments:
        records: Records of `jacobian_power`, of the logits and of the margin.
        lipschitz: The proved bound of the network, if there is one; drawn if it is near.
    """
    figure, ax = axes(height=2.6)
    for record, color in zip(records, ("first", "second"), strict=False):
        power, counts = record.details["power"], record.details["counts"]
        places = [ring for ring, count in enumerate(counts) if count]
        values = [math.sqrt(max(power[ring], 0.0)) for ring in places]
        name = {"logits": "all logits", "margin": "lead of the winner"}[record.details["of"]]
        ax.plot(places, values, "o-", color=COLORS[color], markersize=3.5, label=name)
    largest = max(math.sqrt(max(record.details["power"])) for record in records)
    shown = lipschitz is not None and lipschitz <= 3 * largest
    if lipschitz is not None and shown:
        ax.axhline(lipschitz, color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        at = ax.get_yaxis_transform()
        ax.text(
            1, lipschitz, "bound L", transform=at, ha="right", va="bottom", color=COLORS["muted"]
        )
    frame(ax, "frequency ρ, cycles per image", "gain, root mean square")
    ax.set_ylim(bottom=0, top=1.12 * lipschitz if lipschitz is not None and shown else None)
    ax.set_xlim(left=0)
    ax.legend(loc="best")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def contributions(records: Sequence[Record]) -> Figure:
    """Draws Shapley values of bands of frequencies as bars, with their intervals."""
    figure, ax = axes(height=2.4)
    for record in records:
        band = record.details["band"]
        color = COLORS["first"] if record.value >= 0 else COLORS["second"]
        ax.add_patch(Rectangle((band - 0.36, 0), 0.72, record.value, color=color, alpha=0.75))
        ends = [record.details["low"], record.details["high"]]
        ax.plot([band, band], ends, color=COLORS["ink"], linewidth=1.1)
    ends = [record.details[name] for record in records for name in ("low", "high")]
    low, high = min(0.0, *ends), max(0.0, *ends)
    reach = 0.06 * (high - low or 1.0)
    ax.set_ylim(low - (reach if low < 0 else 0), high + reach)
    ax.axhline(0, color=COLORS["muted"], linewidth=0.7)
    names = [f"{record.details['begin']:.2g}".lstrip("0") or "0" for record in records]
    frame(ax, "band, from this frequency on, cycles per pixel", "contribution ψ, nats")
    ax.set_xticks(range(len(records)), names)
    ax.set_xlim(-0.6, len(records) - 0.4)
    return figure


@styled
def equal_energy(points: Sequence[Record]) -> Figure:
    """Draws accuracy over the share of the energy that a filter leaves.

    Arguments:
        points: Records of `equal_energy_accuracy`.
    """
    figure, ax = axes(height=2.4)
    for name, color, label in (
        ("low_pass", "first", "its lowest frequencies"),
        ("high_pass_and_mean", "second", "its highest, and the mean"),
    ):
        line = sorted((p.details["energy"], p.value) for p in points if p.details["filter"] == name)
        x, y = [100 * energy for energy, _ in line], [share for _, share in line]
        ax.plot(x, y, "o-", color=COLORS[color], markersize=4, label=label)
    frame(ax, "energy that is left, %", "right, %", percent=True)
    ax.set_xlim(0, 100)
    ax.legend(loc="best", title="kept of each image", title_fontsize=8.5)
    return figure


@styled
def gain_curves(layers: Sequence[Record], envelope: Record | None) -> Figure:
    """Draws the largest and the least gain of each convolution over frequencies, a panel for each."""
    if len(layers) > _LAYERS:
        places = [round(i * (len(layers) - 1) / (_LAYERS - 1)) for i in range(_LAYERS)]
        layers = [layers[place] for place in places]
    count = len(layers) + (envelope is not None)
    columns = min(4, count)
    lines = math.ceil(count / columns)
    figure = Figure(figsize=(1.0 + 1.35 * columns, 0.55 + 1.35 * lines))
    top = max(
        max(record.details["largest"]) for record in [*layers, *([envelope] if envelope else [])]
    )
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for rank, ax in enumerate(panels.flat):
        if rank >= count:
            ax.set_visible(False)
            continue
        if rank < len(layers):
            details, color, title = layers[rank].details, "first", layers[rank].details["layer"]
            ax.fill_between(
                details["frequencies"],
                details["least"],
                details["largest"],
                color=COLORS["first"],
                alpha=0.16,
                linewidth=0,
            )
            line = details["mean"]
            ax.plot(details["frequencies"], line, color=COLORS[color], linewidth=1.2)
        else:
            details, color, title = envelope.details if envelope else {}, "second", "product"
            line = details["largest"]
        style = "o-" if len(details["frequencies"]) < 3 else "-"
        ax.plot(
            details["frequencies"],
            details["largest"],
            style,
            color=COLORS[color],
            linewidth=1.8,
            markersize=3,
        )
        ax.set_title(title, loc="left", color=COLORS["muted"])
        _quiet(ax)
        ax.grid(axis="y")
        ax.set_ylim(0, 1.18 * top or 1.0)
        ax.set_xlim(0, 0.75)
        ax.set_xticks([0, 0.25, 0.5, 0.75], ["0", "¼", "½", "¾"])
    figure.supxlabel(
        "frequency, cycles per pixel of the layer", fontsize=8.5, color=COLORS["muted"]
    )
    figure.supylabel("gain", fontsize=8.5, color=COLORS["muted"])
    return figure


@styled
def path_spectra(records: Sequence[Record]) -> Figure:
    """Draws power densities of the logits along straight lines, within a class and between two."""
    figure, ax = axes(height=2.6)
    for kind, color in (("within", "first"), ("between", "second")):
        for record in records:
            if record.details["lines"] == kind and record.details["outputs"] == "logits":
                power = record.details["power"]
                label = "within a class" if kind == "within" else "between classes"
                ax.plot(record.details["frequencies"], power, color=COLORS[color], label=label)
    ax.set_yscale("log")
    largest = max(max(r.details["power"]) for r in records if r.details["outputs"] == "logits")
    if largest > 0:
        ax.set_ylim(bottom=largest / 1e6)
    frame(ax, "cycles for each unit of ℓ2 distance", "power density")
    ax.set_xlim(left=0)
    ax.legend(loc="best")
    return figure


@styled
def responses(records: Sequence[Record], of: Literal["change", "drop"]) -> Figure:
    """Draws corruptions as dots: what spectra predict, and what was measured.

    Arguments:
        records: Records of `response`.
        of: What is measured: the change of logits, or the drop of accuracy.
    """
    figure, ax = axes(width=3.6, height=3.0)
    x = [math.sqrt(max(r.details["predicted"], 0.0)) for r in records]
    y = [math.sqrt(r.value) if of == "change" else 100 * r.details["drop"] for r in records]
    ax.plot(x, y, "o", color=COLORS["first"], markersize=4.5, alpha=0.75, markeredgewidth=0)
    right = 1.08 * max(x)
    if of == "change":
        top = 1.08 * max(y)
        end = min(right, top)
        ax.plot([0, end], [0, end], color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        frame(ax, "predicted change of logits", "measured change of logits")
        ax.set_ylim(0, top)
    else:
        frame(ax, "predicted change of logits", "loss of accuracy, percentage points")
        ax.axhline(0, color=COLORS["muted"], linewidth=0.7)
    ax.set_xlim(0, 1.45 * right)
    worst = sorted(range(len(records)), key=lambda i: -y[i])[:5]
    for i in _apart(worst, y, 0.07 * (ax.get_ylim()[1] - ax.get_ylim()[0])):
        name = str(records[i].details["corruption"]).replace("_", " ")
        text = f"{name} {records[i].details['severity']}"
        ax.annotate(
            text, (x[i], y[i]), (5, 0), textcoords="offset points", va="center", fontsize=7.5
        )
    return figure


def _apart(places: Sequence[int], heights: Sequence[float], gap: float) -> list[int]:
    """Those of some places, from the first on, whose heights are apart from those before."""
    kept: list[int] = []
    for place in places:
        if all(abs(heights[place] - heights[other]) >= gap for other in kept):
            kept.append(place)
    return kept


def _tint(
    ax: Axes,
    table: Sequence[Sequence[float]],
    columns: Sequence[int],
    rows: Sequence[int],
    step: float,
    top: float,
) -> None:
    """Tints the cells of a table; all cells of a tint are one shape, whose colour a page can turn."""
    cells: dict[int, list[Path]] = {}
    for row, values in zip(rows, table, strict=True):
        for column, value in zip(columns, values, strict=True):
            level = round(_LEVELS * min(max(value / top, 0.0), 1.0))
            box = Rectangle((column - step / 2, row - step / 2), step, step)
            path = box.get_patch_transform().transform_path(box.get_path())
            cells.setdefault(level, []).append(path)
    for level, paths in sorted(cells.items()):
        if level:
            shape = Path.make_compound_path(*paths)
            color, alpha = COLORS["first"], level / _LEVELS
            ax.add_patch(PathPatch(shape, facecolor=color, alpha=alpha, linewidth=0))


def _scale_bar(ax: Axes, top: float, label: str, percent: bool) -> None:
    """A bar with the tints from 0 to the largest number."""
    for level in range(_LEVELS + 1):
        box = (0, (level - 0.5) / _LEVELS * top)
        alpha = level / _LEVELS
        color = COLORS["first"]
        ax.add_patch(Rectangle(box, 1, top / _LEVELS, color=color, alpha=alpha, linewidth=0))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, top)
    ax.set_xticks([])
    _quiet(ax)
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.yaxis.set_major_locator(MaxNLocator(4))
    if percent:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    ax.tick_params(length=0)
    ax.set_ylabel(label)


def _quiet(ax: Axes) -> None:
    ax.tick_params(length=0)
    ax.set_axisbelow(True)


def _step(rows: Sequence[int], columns: Sequence[int]) -> float:
    """The distance of frequencies that were measured."""
    for numbers in (rows, columns):
        if len(numbers) > 1:
            return float(numbers[1] - numbers[0])
    return 1.0
