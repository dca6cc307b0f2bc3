"""How tight bounds are, and which checks held."""

__all__ = ["checks", "tightness"]

from collections.abc import Iterator
from typing import Any

from .. import numbers
from ._section import Groups, Line, Section


def _audit(groups: Groups) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for quantity in ("bound", "slope", "ratio"):
        for record in groups.get(f"audit/{quantity}", ()):
            row = rows.setdefault(record.details["layer"], dict(record.details))
            row[quantity] = record.value
    return {"audit": list(rows.values())}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("audit/ratio", ()):
        if record.details["layer"] == "network":
            yield "attained slope over bound", numbers.slope(record.value, 3), ""


def _checks(groups: Groups) -> dict[str, Any]:
    return {"checks": [r for name in groups if name.startswith("check/") for r in groups[name]]}


tightness = Section("tightness", "How tight the proof is", view=_audit, summary=_summary)
checks = Section("checks", "Checks that held", view=_checks)
