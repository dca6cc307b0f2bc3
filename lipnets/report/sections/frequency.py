"""Which spatial frequencies a network uses."""

__all__ = ["frequency"]

from collections.abc import Iterator

from matplotlib.figure import Figure

from .. import plots
from ._section import Groups, Line, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    points = groups.get("filtered_accuracy")
    if not points:
        return {}
    details = points[0].details
    curves = plots.filter_curves(points, details["unfiltered"], details["chance"])
    return {"filtered_accuracy": curves}


def _summary(groups: Groups) -> Iterator[Line]:
    points = groups.get("filtered_accuracy", ())
    for name, what in (("low_pass", "low frequencies"), ("high_pass", "high frequencies")):
        cells = [record for record in points if record.details["filter"] == name]
        good = [r for r in cells if r.value >= r.details["unfiltered"] / 2]
        if good:
            ends = sorted(record.details["radius"] for record in good)
            radius = ends[0] if name == "low_pass" else ends[-1]
            sign = "≤" if name == "low_pass" else ">"
            yield what, f"ρ {sign} {radius}", "suffice for half the accuracy"


frequency = Section("frequency", "Which spatial frequencies it uses", _figures, summary=_summary)
