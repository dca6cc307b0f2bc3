"""The numbers of an evaluation that fit on a screen."""

__all__ = ["summary"]

from collections.abc import Iterator, Sequence

from ..records import Record
from . import numbers


def summary(records: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    """Yields lines: what was measured, the number, and its interval or a remark."""
    for record in records:
        if record.name in ("accuracy", "certified_accuracy"):
            what = "classified right"
            if "radius" in record.details:
                what = f"certified at {numbers.radius_name(record.details['radius'])}"
            ends = numbers.interval(record.details["low"], record.details["high"])
            yield what, numbers.percent(record.value), ends
        elif record.name == "mean_radius":
            low, high = record.details["low"], record.details["high"]
            ends = f"[{numbers.radius(low)}, {numbers.radius(high)}]"
            yield "mean certified radius", numbers.radius(record.value), ends
        elif record.name == "bound/network" and record.epoch is None:
            yield "Lipschitz bound", numbers.bound(record.value, 4), ""
        elif record.name == "audit/ratio" and record.details["layer"] == "network":
            yield "attained slope over bound", numbers.slope(record.value, 3), ""
    for name, what in (
        ("corrupted_accuracy", "right when corrupted"),
        ("corrupted_certified_accuracy", "certified when corrupted"),
    ):
        cells = [record for record in records if record.name == name]
        if cells:
            worst = min(cells, key=lambda record: record.value)
            remark = (
                f"mean; least {numbers.percent(worst.value)} for {worst.details['corruption']} "
                f"{worst.details['severity']}"
            )
            mean = sum(record.value for record in cells) / len(cells)
            yield what, numbers.percent(mean), remark
    filtered = [record for record in records if record.name == "filtered_accuracy"]
    for name, what in (("low_pass", "low frequencies"), ("high_pass", "high frequencies")):
        cells = [record for record in filtered if record.details["filter"] == name]
        good = [r for r in cells if r.value >= r.details["unfiltered"] / 2]
        if good:
            ends = sorted(record.details["radius"] for record in good)
            radius = ends[0] if name == "low_pass" else ends[-1]
            sign = "≤" if name == "low_pass" else ">"
            yield what, f"ρ {sign} {radius}", "suffice for half the accuracy"
