"""What noise, blur and the like do to accuracy."""

__all__ = ["corruptions"]

import base64
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...records import Record
from .. import numbers, plots
from ..drawing import COLORS, axes, frame, name_ends, styled
from ._section import Groups, Line, Section

_NAMES = {
    "corrupted_accuracy": "right when corrupted",
    "corrupted_certified_accuracy": "certified when corrupted",
}
_FAMILIES = ("noise", "blur", "weather", "digital")
_COLUMNS = 5  # images in a row of the strip


def _figures(groups: Groups) -> dict[str, Figure]:
    drawn = {name: plots.corruption_map(groups[name]) for name in _NAMES if name in groups}
    cells = groups.get("corrupted_accuracy", ())
    if len({record.details["severity"] for record in cells if "family" in record.details}) > 1:
        drawn["corruption_severities"] = _severities(cells)
    if "corruption_example" in groups:
        drawn["corruption_examples"] = _strip(groups["corruption_example"])
    return drawn


@styled
def _severities(cells: Sequence[Record]) -> Figure:
    """Draws the mean share that is right in each family, over severities."""
    figure, ax = axes(4.3, 2.7)
    clean = cells[0].details["clean"]
    ax.axhline(clean, color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
    at, below = ax.get_yaxis_transform(), clean > 0.93
    ax.annotate(
        "without corruption",
        (0.02, clean),
        (0, -11 if below else 6),
        xycoords=at,
        textcoords="offset points",
        color=COLORS["muted"],
    )
    styles = ("first", "-"), ("second", "-"), ("first", (0, (2, 2))), ("second", (0, (2, 2)))
    ends = []
    for family, (color, dashes) in zip(_FAMILIES, styles, strict=True):
        members = [record for record in cells if record.details.get("family") == family]
        if not members:
            continue
        severities = sorted({record.details["severity"] for record in members})
        means = [
            fmean(r.value for r in members if r.details["severity"] == severity)
            for severity in severities
        ]
        ax.plot(severities, means, "o", linestyle=dashes, color=COLORS[color], markersize=3.5)
        ends.append((family, severities[-1], means[-1]))
    frame(ax, "severity", "right, %", percent=True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_ends(figure, ax, ends)
    return figure


@styled
def _strip(examples: Sequence[Record]) -> Figure:
    """Shows one image under each corruption."""
    rows = -(-len(examples) // _COLUMNS)
    figure = Figure(figsize=(4.8, 1.18 * rows))
    grid = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for ax in grid:
        ax.set_axis_off()
    for ax, record in zip(grid, examples, strict=False):
        channels, height, width = record.details["shape"]
        levels = np.frombuffer(base64.b64decode(record.details["pixels"]), np.uint8)
        pixels = levels.reshape(channels, height, width)
        if channels != 3:
            pixels = np.repeat(pixels.mean(axis=0, keepdims=True).round().astype(np.uint8), 3, 0)
        ax.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
        name = record.details["corruption"].replace("_", " ")
        # The longest names take two lines.
        ax.set_title(name.replace(" ", "\n", 1) if len(name) > 12 else name, fontsize=7.5, pad=3)
    return figure


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each corruption, from mild to hard; those of all and of families are first."""
    rows: dict[str, dict[str, Any]] = {}
    for name, column in (("corrupted_accuracy", "right"), ("corrupted_certified_accuracy", "safe")):
        for record in groups.get(name, ()):
            key = record.details["corruption"]
            row = rows.setdefault(key, {"name": key, "details": record.details, "shares": {}})
            row["shares"].setdefault(column, []).append(record.value)
            row.setdefault("distances", []).append(record.details.get("distance", 0.0))
    table = [
        {
            "name": row["name"],
            "family": row["details"].get("family", ""),
            "source": row["details"].get("source", "computed"),
            "right": fmean(row["shares"]["right"]),
            "worst": min(row["shares"]["right"]),
            "safe": fmean(row["shares"]["safe"]) if "safe" in row["shares"] else None,
            "distance": fmean(row["distances"]),
        }
        for row in rows.values()
        if "right" in row["shares"]
    ]
    safe = {r.details["family"]: r for r in groups.get("corruption_certified_mean", ())}
    means = [
        {"family": r.details["family"], "right": r, "safe": safe.get(r.details["family"])}
        for r in groups.get("corruption_mean", ())
    ]
    return {
        "corruption_rows": sorted(table, key=lambda row: -row["right"]),
        "corruption_means": means,
        "corruption_main": next((each for each in means if each["family"] == "all"), None),
    }


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("corruption_mean", ()):
        if record.details["family"] == "all":
            ends = numbers.interval(1 - record.details["high"], 1 - record.details["low"])
            remark = f"{ends}; mean over {len(record.details['corruptions'])} corruptions"
            yield "wrong when corrupted", numbers.percent(1 - record.value), remark
    for name, what in _NAMES.items():
        cells = groups.get(name, ())
        if cells:
            worst = min(cells, key=lambda record: record.value)
            remark = (
                f"mean; least {numbers.percent(worst.value)} for {worst.details['corruption']} "
                f"{worst.details['severity']}"
            )
            mean = sum(record.value for record in cells) / len(cells)
            yield what, numbers.percent(mean), remark
    for record in groups.get("mce", ()):
        yield "mCE", f"{100 * record.value:.1f}", f"100 is {record.details['baseline']}"
    for record in groups.get("mnist_c_mean", ()):
        yield "wrong on MNIST-C", numbers.percent(1 - record.value), "mean over 15 corruptions"


corruptions = Section("corruptions", "Corrupted images", _figures, _view, _summary)
