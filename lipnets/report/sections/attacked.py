"""What attacks found, beside what is certified."""

__all__ = ["attacked"]

import math
from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from ...metrics import CertifiedCurve
from ...records import Record
from .. import numbers
from ..drawing import COLORS, axes, frame, styled
from ..plots import stairs
from ._section import Groups, Line, Section

_NAMES = {
    "margin": "the lead of the label over the next class",
    "ce": "cross-entropy",
    "dlr": "the lead over that of the third class (DLR)",
    "targeted_margin": "the lead over each other class",
    "targeted_dlr": "the lead over each other class (targeted DLR)",
    "autoattack": "AutoAttack",
    "bisection": "the search of the nearest wrong image",
}


@styled
def sandwich(curve: Record, balls: list[Record]) -> Figure:
    """Draws the share of images that attacks did not break, and of those certified, by radius.

    Arguments:
        curve: The record of the distances of wrong images.
        balls: Attacked accuracies at radii in ℓ2.
    """
    figure, ax = axes()
    count, details = curve.count or 1, curve.details
    infinite = [math.inf] * int(details["infinite"])
    above = CertifiedCurve(tuple(details["distances"]) + tuple(infinite), count)
    below = CertifiedCurve(tuple(details.get("certified", ())), count)
    finite = details["distances"] or [0.5]
    end = max(finite[int(0.98 * (len(finite) - 1))], *(r.details["radius"] for r in balls), 0.1)
    end *= 1.04
    steps = tuple(step for step in above.steps if step < end)
    x, y = stairs(CertifiedCurve(steps, count), end)
    rest = (len(above.steps) - len(steps)) / count
    y = [height + rest for height in y]
    ax.plot(x, y, color=COLORS["second"], label="not broken by any attack")
    if below.steps:
        certified = tuple(step for step in below.steps if step < end)
        left = (len(below.steps) - len(certified)) / count
        p, q = stairs(CertifiedCurve(certified, count), end)
        q = [height + left for height in q]
        ax.plot(p, q, color=COLORS["first"], label="certified")
        ax.fill_between(p, q, color=COLORS["first"], alpha=0.14, linewidth=0)
    for record in balls:
        ax.plot(record.details["radius"], record.value, "o", color=COLORS["second"], markersize=4.5)
    ax.plot(0, details["hits"] / count, "o", color=COLORS["ink"], markersize=4.5, clip_on=False)
    frame(ax, "radius ε, ℓ2 distance in pixels of [0, 1]", "images, %", percent=True)
    ax.set_xlim(0, end)
    ax.legend(loc="upper right")
    return figure


def _balls(groups: Groups, norm: str) -> list[Record]:
    records = groups.get("attacked_accuracy", ())
    return [record for record in records if record.details["norm"] == norm]


def _figures(groups: Groups) -> dict[str, Figure]:
    curves = [r for r in groups.get("attacked_curve", ()) if not r.details.get("vacuous")]
    return {"attacked_curve": sandwich(curves[0], _balls(groups, "l2"))} if curves else {}


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each radius, and under it one for each attack."""
    gaps = {_ball(record): record for record in groups.get("certified_gap", ())}
    rows = []
    for record in groups.get("attacked_accuracy", ()):
        attacks = [r for r in groups.get("attack_success", ()) if _ball(r) == _ball(record)]
        named = [(_NAMES.get(r.details["loss"], r.details["loss"]), r) for r in attacks]
        sign = "ℓ∞" if record.details["norm"] == "linf" else "ℓ2"
        gap = gaps.get(_ball(record))
        rows.append({"norm": sign, "record": record, "gap": gap, "attacks": named})
    return {"attacked": rows, "gap_known": bool(gaps)}


def _ball(record: Record) -> tuple[str, float]:
    return record.details["norm"], record.details["radius"]


def _summary(groups: Groups) -> Iterator[Line]:
    for record in _balls(groups, "l2"):
        name = f"survives attacks at {numbers.radius_name(record.details['radius'])}"
        ends = numbers.interval(record.details["low"], record.details["high"])
        yield name, numbers.percent(record.value), f"{ends} of {record.count}"
    for record in groups.get("certified_share", ()):
        low, high = (numbers.slope(record.details["quantiles"][q], 2) for q in ("0.05", "0.95"))
        remark = f"median; 90 % from {low} to {high}"
        yield "certified over attacked radius", numbers.slope(record.value, 2), remark


attacked = Section("attacked", "Attacked images", _figures, _view, _summary)
