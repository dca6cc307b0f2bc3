"""What the network costs."""

__all__ = ["cost"]

from collections.abc import Iterator
from typing import Any

from .. import numbers
from ._section import Groups, Line, Section


def _seconds(value: float) -> str:
    """A time with its unit.

    Example:
        >>> _seconds(2.5), _seconds(0.00123)
        ('2.5\u202fs', '1.23\u202fms')
    """
    return f"{value:.3g}\u202fs" if value >= 1 else f"{1e3 * value:.3g}\u202fms"


def _view(groups: Groups) -> dict[str, Any]:
    sizes = {
        r.details["form"]: numbers.count(int(r.value)) for r in groups.get("cost/parameters", ())
    }
    work = [numbers.count(int(r.value)) for r in groups.get("cost/operations", ())]
    rows: dict[str, dict[str, Any]] = {}
    for record in groups.get("cost/latency", ()):
        low, high = record.details["low"], record.details["high"]
        rows[record.details["arithmetic"]] = {
            "latency": _seconds(record.value),
            "ends": f"{_seconds(low)} to {_seconds(high)}",
            "about": record.details,
        }
    for record in groups.get("cost/throughput", ()):
        row = rows.setdefault(record.details["arithmetic"], {})
        row["throughput"] = numbers.count(round(record.value))
        row["batch"] = record.details["batch_size"]
    proofs = [_seconds(record.value) for record in groups.get("cost/certification", ())]
    return {"sizes": sizes, "work": work, "times": rows, "proofs": proofs}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("cost/latency", ()):
        if record.details["arithmetic"] == "float32":
            yield "time for an image", _seconds(record.value), record.details["machine"]


cost = Section("cost", "What it costs", view=_view, summary=_summary)
