"""What is right, and what is proved to stay right."""

__all__ = ["certified", "examples"]

from collections.abc import Iterator

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


certified = Section("certified", "Certified accuracy", _figures, summary=_summary)
examples = Section("examples", "Some of the images")
