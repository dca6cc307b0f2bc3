"""How tight bounds are, and which checks held."""

__all__ = ["checks", "tightness"]

from collections.abc import Iterator
from typing import Any

from .. import numbers
from ._section import Groups, Line, Section

_METHODS = {
    "jacobian": "singular values of Jacobians",
    "power": "power iteration",
    "pairs": "pairs of near points",
}


def _audit(groups: Groups) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for quantity in ("bound", "slope", "ratio"):
        for record in groups.get(f"audit/{quantity}", ()):
            row = rows.setdefault(record.details["layer"], dict(record.details))
            row[quantity] = record.value
    methods: dict[str, dict[str, float]] = {}
    for record in groups.get("attained_slope", ()):
        layer = methods.setdefault(record.details["layer"], {})
        method = str(record.details["method"])
        layer[_METHODS.get(method, method)] = record.value
    wholes = {name: methods[name] for name in ("feature map", "network") if name in methods}
    margin = next(iter(groups.get("attained_margin", ())), None)
    return {"audit": list(rows.values()), "attained": wholes, "margin": margin}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("audit/ratio", ()):
        if record.details["layer"] == "network":
            yield "attained slope over bound", numbers.slope(record.value, 3), ""
    for record in groups.get("audit/slope", ()):
        if record.details["layer"] == "network" and "audit/ratio" not in groups:
            yield "attained slope", numbers.slope(record.value, 3), "no bound is proved"


def _checks(groups: Groups) -> dict[str, Any]:
    return {"checks": [r for name in groups if name.startswith("check/") for r in groups[name]]}


tightness = Section("tightness", "How tight the proof is", view=_audit, summary=_summary)
checks = Section("checks", "Checks that held", view=_checks)
