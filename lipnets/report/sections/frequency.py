"""Which spatial frequencies a network uses."""

__all__ = ["frequency"]

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from .. import frequencies, plots
from ._section import Groups, Line, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    drawn = {}
    if "filtered_accuracy" in groups:
        points = groups["filtered_accuracy"]
        details = points[0].details
        curves = plots.filter_curves(points, details["unfiltered"], details["chance"])
        drawn["filtered_accuracy"] = curves
    if "equal_energy_accuracy" in groups:
        drawn["equal_energy"] = frequencies.equal_energy(groups["equal_energy_accuracy"])
    if "shapley" in groups:
        drawn["shapley"] = frequencies.contributions(groups["shapley"])
    return drawn


def _view(groups: Groups) -> dict[str, Any]:
    return {
        "areas": {r.details["filter"]: r for r in groups.get("filter_area", ())},
        "shapley_score": next(iter(groups.get("shapley_score", ())), None),
    }


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


frequency = Section(
    "frequency", "Which spatial frequencies it uses", _figures, _view, summary=_summary
)
