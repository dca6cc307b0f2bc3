"""What is right, and what is proved to stay right."""

__all__ = ["certified", "examples"]

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from ...metrics import CertifiedCurve
from .. import numbers, plots
from ._section import Groups, Line, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    if not {"accuracy", "certified_curve"} <= groups.keys():
        return {}
    record = groups["certified_curve"][0]
    curve = CertifiedCurve(tuple(record.details["steps"]), record.count or 1)
    return {"certified_curve": plots.certified_curve(curve, groups["accuracy"][0].value)}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in [*groups.get("accuracy", ()), *groups.get("certified_accuracy", ())]:
        what = "classified right"
        if "radius" in record.details:
            what = f"certified at {numbers.radius_name(record.details['radius'])}"
        ends = numbers.interval(record.details["low"], record.details["high"])
        yield what, numbers.percent(record.value), ends
    for record in groups.get("mean_radius", ()):
        low, high = record.details["low"], record.details["high"]
        ends = f"[{numbers.radius(low)}, {numbers.radius(high)}]"
        yield "mean certified radius", numbers.radius(record.value), ends
    for record in groups.get("bound/network", ()):
        if record.epoch is None:
            yield "Lipschitz bound", numbers.bound(record.value, 4), ""


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each kind of certificate and its images, and one for what stays among few classes."""
    kinds: dict[tuple[str, int], dict[str, Any]] = {}
    for record in groups.get("mean_radius_by", ()):
        name, count = record.details["certificate"], record.count or 0
        row = {"name": name.replace("_", " "), "mean": record.value, "shares": [], "count": count}
        kinds[name, count] = row
    for record in groups.get("certified_accuracy_by", ()):
        kinds[record.details["certificate"], record.count or 0]["shares"].append(record)
    tops: dict[tuple[str, int], dict[str, Any]] = {}
    for record in groups.get("certified_accuracy_top", ()):
        keeps, top = record.details["keeps"], record.details["top"]
        what = "the set of" if keeps == "set" else "the class among"
        row = tops.setdefault((keeps, top), {"name": f"{what} the first {top}", "shares": []})
        row["shares"].append(record)
    order = sorted(kinds.values(), key=lambda row: (-row["count"], row["mean"]))
    return {
        "kinds": order,
        "refined": any(name in ("tightened", "local") for name, _ in kinds),
        "tops": [row for _, row in sorted(tops.items())],
    }


certified = Section("certified", "Certified accuracy", _figures, _view, _summary)
examples = Section("examples", "Some of the images")
