"""Accuracy on other images of the same classes."""

__all__ = ["shifts"]

from collections.abc import Iterator
from typing import Any

from .. import numbers
from ._section import Groups, Line, Section


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each shift."""
    rows: dict[str, dict[str, Any]] = {}
    for name, column in (
        ("shifted_accuracy", "right"),
        ("shifted_certified_accuracy", "safe"),
        ("shift_gap", "gap"),
    ):
        for record in groups.get(name, ()):
            rows.setdefault(record.details["shift"], {"safe": None, "gap": None})[column] = record
    return {"shift_rows": list(rows.values()), "effective": groups.get("effective_robustness", ())}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("shifted_accuracy", ()):
        ends = numbers.interval(record.details["low"], record.details["high"])
        yield f"right on {record.details['shift']}", numbers.percent(record.value), ends
    for record in groups.get("effective_robustness", ()):
        what = f"effective robustness, {record.details['shift']}"
        remark = f"points above the line of {record.details['standard']} standard models"
        yield what, f"{100 * record.value:+.1f}".replace("-", "−"), remark


shifts = Section("shifts", "Other images of the same classes", view=_view, summary=_summary)
