"""What rounding costs a certificate, arithmetic by arithmetic."""

__all__ = ["rounding"]

from typing import Any

from ._section import Groups, Section


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each arithmetic: what it loses, and the shares certified in it."""
    rows: dict[str, dict[str, Any]] = {}
    for record in groups.get("certified_accuracy_in", ()):
        name = record.details["arithmetic"]
        row = rows.setdefault(name, {"arithmetic": name, "loss": None, "shares": []})
        row["shares"].append(record)
    for record in groups.get("rounding_loss", ()):
        rows[record.details["arithmetic"]]["loss"] = record
    return {"rounding": list(rows.values())}


rounding = Section("rounding", "What rounding costs", view=_view)
