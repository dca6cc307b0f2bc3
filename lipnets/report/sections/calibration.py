"""Whether confidence is what it says."""

__all__ = ["calibration"]

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from ...records import Record
from ..drawing import COLORS, axes, frame, styled
from ._section import Groups, Line, Section


@styled
def reliability(curves: Sequence[Record]) -> Figure:
    """Draws the share that is right over confidence, with dots as large as bins are full.

    Arguments:
        curves: Records whose details hold `confidence`, `accuracy` and how many each bin `held`.
    """
    figure, ax = axes(3.6, 3.3)
    ax.plot([0, 1], [0, 1], color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
    for record, color in zip(curves, ("first", "second"), strict=False):
        details = record.details
        total = sum(details["held"])
        sizes = [6 + 160 * held / total for held in details["held"]]
        label = f"temperature {details['temperature']:.3g}"
        ax.plot(
            details["confidence"],
            details["accuracy"],
            color=COLORS[color],
            linewidth=1.1,
            label=label,
        )
        ax.scatter(
            details["confidence"],
            details["accuracy"],
            s=sizes,
            color=COLORS[color],
            alpha=0.75,
            linewidths=0,
            clip_on=False,
        )
    frame(ax, "confidence, %", "right, %", percent=True)
    ax.set_xlim(0, 1.02)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    ax.legend(loc="best")
    return figure


def _halves(groups: Groups, name: str) -> list[Record]:
    """Both temperatures on the same half of the images; or all there is."""
    records = groups.get(f"calibration/{name}", ())
    halves = [record for record in records if record.details["part"] == "half"]
    return halves or list(records)


def _figures(groups: Groups) -> dict[str, Figure]:
    curves = _halves(groups, "curve")
    return {"reliability": reliability(curves)} if curves else {}


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each temperature and the images it was measured on."""
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for name in ("ece", "adaptive_ece", "nll", "brier"):
        for record in groups.get(f"calibration/{name}", ()):
            key = record.details["part"], record.details["temperature"]
            rows.setdefault(key, {"about": record})[name] = record.value
    return {"calibrated": list(rows.values())}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("calibration/ece", ()):
        if record.details["part"] == "all":
            yield "calibration error", f"{100 * record.value:.1f}\u202f%", "at temperature 1"
        elif record.details["temperature"] != 1:
            at = f"at temperature {record.details['temperature']:.3g}, fitted on other images"
            yield "calibration error", f"{100 * record.value:.1f}\u202f%", at


calibration = Section("calibration", "Whether confidence is right", _figures, _view, _summary)
