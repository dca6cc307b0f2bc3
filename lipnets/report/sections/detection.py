"""How well images of no known class are told from known ones."""

__all__ = ["detection"]

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from ...records import Record
from .. import numbers
from ..drawing import COLORS, styled
from ._section import Groups, Line, Section

_COLUMNS = 3
_SCORES = ("msp", "max_logit", "energy", "margin", "radius")


@styled
def histograms(records: Sequence[Record]) -> Figure:
    """Draws how scores of known and unknown images are spread, a panel for each set.

    Arguments:
        records: Records whose details hold the counts of `known` and `other` images from 0 to `end`.
    """
    rows = math.ceil(len(records) / _COLUMNS)
    figure = Figure(figsize=(4.8, 0.45 + 0.85 * rows))
    end = max(record.details["end"] for record in records)
    for place, record in enumerate(records, start=1):
        ax = figure.add_subplot(rows, _COLUMNS, place)
        for key, color, fill in (("known", "first", 0.3), ("other", "second", 0.0)):
            counts = record.details[key]
            edges = [record.details["end"] * i / len(counts) for i in range(len(counts) + 1)]
            top = max(counts) or 1
            heights = [count / top for count in counts]
            ax.stairs(heights, edges, color=COLORS[color], linewidth=1.2)
            if fill:
                ax.stairs(heights, edges, color=COLORS[color], alpha=fill, fill=True, linewidth=0)
        ax.set_title(record.details["against"].replace("_", " "), color=COLORS["ink"], pad=3)
        ax.set_xlim(0, end)
        ax.set_ylim(0, 1.08)
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines["left"].set_visible(False)
        if place <= (rows - 1) * _COLUMNS:
            ax.set_xticklabels([])
    score = records[0].details["score"]
    figure.supxlabel(
        "certified radius" if score == "radius" else "margin of logits",
        fontsize=8.5,
        color=COLORS["muted"],
    )
    return figure


def _figures(groups: Groups) -> dict[str, Figure]:
    records = groups.get("detection/histogram", ())
    return {"detection_histograms": histograms(records)} if records else {}


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each set of unknown images."""
    rows: dict[str, dict[str, Any]] = {}
    for record in groups.get("detection/auroc", ()):
        row = rows.setdefault(record.details["against"], {"auroc": {}, "fpr": {}, **record.details})
        row["auroc"][record.details["score"]] = record
    for record in groups.get("detection/fpr95", ()):
        rows[record.details["against"]]["fpr"][record.details["score"]] = record
    certified = groups.get("detection/certified_auroc", ())
    least = min((record.details["radius"] for record in certified), default=None)
    for record in certified:
        if record.details["radius"] == least:
            rows[record.details["against"]]["certified"] = record
    measured = {score for row in rows.values() for score in row["auroc"]}
    return {
        "unknown": list(rows.values()),
        "scores": [score for score in _SCORES if score in measured],
        "moved": least,
    }


def _summary(groups: Groups) -> Iterator[Line]:
    records = groups.get("detection/auroc", ())
    scores = {record.details["score"] for record in records}
    for score in ("radius", "msp"):
        chosen = [record for record in records if record.details["score"] == score]
        if score in scores:
            worst = min(chosen, key=lambda record: record.value)
            mean = sum(record.value for record in chosen) / len(chosen)
            name = "certified radius" if score == "radius" else "probability"
            against = worst.details["against"].replace("_", " ")
            remark = f"mean AUROC; least {numbers.percent(worst.value)} for {against}"
            yield f"unknown images by {name}", numbers.percent(mean), remark


detection = Section("detection", "Images of no known class", _figures, _view, _summary)
