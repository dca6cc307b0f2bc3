"""Randomized smoothing, beside what is proved."""

__all__ = ["smoothing"]

from collections.abc import Iterator
from typing import Any

from .. import numbers
from ._section import Groups, Line, Section


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each width of the noise, and one for the network on the same images."""
    rows: dict[float, dict[str, Any]] = {}
    for record in groups.get("smoothed_accuracy", ()):
        rows[record.details["sigma"]] = {"accuracy": record, "shares": []}
    for record in groups.get("smoothed_certified_accuracy", ()):
        rows[record.details["sigma"]]["shares"].append(record)
    for record in groups.get("smoothed_mean_radius", ()):
        rows[record.details["sigma"]]["mean"] = record
    return {"smoothed": list(rows.values())}


def _summary(groups: Groups) -> Iterator[Line]:
    means = groups.get("smoothed_mean_radius", ())
    if means:
        best = max(means, key=lambda record: record.value)
        remark = f"σ = {best.details['sigma']:g}, {best.details['forwards']} forwards an image"
        yield "mean radius when smoothed", numbers.radius(best.value), remark


smoothing = Section("smoothing", "Beside randomized smoothing", view=_view, summary=_summary)
