"""The page of a comparison: several networks on the same images."""

__all__ = ["comparison_figures", "comparison_page"]

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from ..metrics import RADII, CertifiedCurve
from ..records import Record
from . import drawing, numbers
from .drawing import COLORS, axes, frame, spread, styled
from .plots import stairs
from .summary import grouped, summary
from .templates import environment, read

Runs = Mapping[str, Sequence[Record]]

_COLORS = ("first", "second", "third", "fourth", "fifth", "sixth")
_DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.5, 1.2)))  # of runs beyond the colours
_SHARES = {
    "accuracy": "right",
    "certified_accuracy": "certified at",
    "attacked_accuracy": "survives attacks at",
    "corrupted_accuracy": "right, main corruptions",
}


def comparison_figures(runs: Runs, compared: Sequence[Record]) -> dict[str, Figure]:
    """Draws what the records of a comparison allow, by name.

    Arguments:
        runs: The records of each evaluation by its name, the baseline first.
        compared: What `lipnets.comparison.compare` says of them.
    """
    drawn = {}
    curves = {name: curve for name, records in runs.items() if (curve := _curve(records))}
    if curves:
        drawn["certified_curves"] = certified_curves(curves, list(runs))
    shares = [r for r in compared if r.name.removeprefix("difference/") in _SHARES]
    if shares:
        drawn["differences"] = differences(shares, list(runs))
    return drawn


def comparison_page(names: Sequence[str], runs: Runs, compared: Sequence[Record]) -> str:
    """Writes the page: one HTML document that asks for nothing else.

    Arguments:
        names: The names of the evaluations, in the order of columns; the first is the baseline.
        runs: Their records, by name.
        compared: What `lipnets.comparison.compare` says of them.

    Returns:
        The document.
    """
    drawn = comparison_figures({name: runs[name] for name in names}, compared)
    rows: dict[str, dict[str, str]] = {}
    for name in names:
        for what, number, _ in summary(runs[name]):
            rows.setdefault(what, {}).setdefault(name, number)  # the first, where there are several
    first = next((r for r in compared if r.name == "difference/accuracy"), None)
    return (
        environment()
        .get_template("comparison.html")
        .render(
            names=list(names),
            baseline=names[0],
            data=first.details.get("data", "") if first else "",
            count=first.count if first else 0,
            verdicts=[_verdict(r) for r in compared if r.name == "difference/accuracy"],
            rows=rows,
            differences=[_row(record) for record in compared],
            figures={name: Markup(drawing.svg(each, name)) for name, each in drawn.items()},
            css=Markup(read("page.css")),
            script=Markup(read("page.js")),
        )
    )


@styled
def certified_curves(curves: Mapping[str, CertifiedCurve], names: Sequence[str]) -> Figure:
    """Draws certified accuracy as a function of the radius, of several networks.

    Arguments:
        curves: The curves, by name.
        names: The names of all networks, in the order of their colours.
    """
    figure, ax = axes(height=3.1)
    end = 1.04 * max(
        RADII[3], *(curve.steps[-1] if curve.steps else 0.0 for curve in curves.values())
    )
    for name, curve in curves.items():
        color, dash = _look(names, name)
        ax.plot(*stairs(curve, end), color=color, linestyle=dash, linewidth=1.5, label=name)
    marked = [radius for radius in RADII[1:] if radius < end]
    for radius in marked:
        ax.axvline(radius, color=COLORS["muted"], linewidth=0.7, linestyle=(0, (2, 3)))
    frame(ax, "radius ε, ℓ2 distance in pixels of [0, 1]", "images, %", percent=True)
    ax.set_xlim(0, end)
    for radius, place in zip(marked, spread(marked, gap=0.12 * end), strict=True):
        at, label = ax.get_xaxis_transform(), numbers.radius_name(radius)
        ax.text(place, 1.02, label, transform=at, ha="center", color=COLORS["muted"])
    ax.legend(loc="upper right")
    return figure


@styled
def differences(records: Sequence[Record], names: Sequence[str]) -> Figure:
    """Draws differences from the baseline in points of a hundred, with their paired intervals.

    Arguments:
        records: Records of differences of shares.
        names: The names of all networks, in the order of their colours.
    """
    runs = list(dict.fromkeys(record.details["run"] for record in records))
    whats = list(dict.fromkeys(map(_what, records)))
    lanes = len(runs) + 0.8
    figure, ax = axes(height=0.8 + 0.15 * lanes * len(whats) + 0.18 * len(runs))
    ax.axvline(0, color=COLORS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
    for run in runs:
        color, _ = _look(names, run)
        own = [record for record in records if record.details["run"] == run]
        heights = [whats.index(_what(r)) * lanes + runs.index(run) for r in own]
        lows, highs = ([100 * r.details[end] for r in own] for end in ("low", "high"))
        ax.hlines(heights, lows, highs, color=color, linewidth=1.5)
        values = [100 * record.value for record in own]
        ax.plot(values, heights, "o", color=color, markersize=4, label=run)
    frame(ax, f"points of 100 more than {names[0]}", "")
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x")
    middle = (len(runs) - 1) / 2
    ax.set_yticks([place * lanes + middle for place in range(len(whats))], whats)
    ax.tick_params(axis="y", labelcolor=COLORS["ink"])
    ax.set_ylim(len(whats) * lanes - 0.8, -0.9)
    ax.spines["left"].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(runs)), borderpad=0)
    return figure


def _curve(records: Sequence[Record]) -> CertifiedCurve | None:
    found = grouped(records).get("certified_curve", [])
    return CertifiedCurve(tuple(found[0].details["steps"]), found[0].count or 1) if found else None


def _look(names: Sequence[str], name: str) -> tuple[str, Any]:
    """The colour and the dashes of a network."""
    place = list(names).index(name)
    dash = _DASHES[place // len(_COLORS) % len(_DASHES)]
    return COLORS[_COLORS[place % len(_COLORS)]], dash


def _what(record: Record) -> str:
    name = record.name.removeprefix("difference/")
    if "radius" in record.details:
        return f"{_SHARES[name]} {numbers.radius_name(record.details['radius'])}"
    return {"mean_radius": "mean radius", "nll": "loss, nats"}.get(name) or _SHARES[name]


def _row(record: Record) -> dict[str, str]:
    """A row of the table of differences."""
    details = record.details
    share = record.unit == "fraction"
    scale, digits = (100, 1) if share else (1, 4)
    low, value, high = (
        f"{scale * number:+.{digits}f}".replace("-", "−")
        for number in (details["low"], record.value, details["high"])
    )
    return {
        "run": details["run"],
        "what": _what(record),
        "first": numbers.percent(details["first"]) if share else f"{details['first']:.4f}",
        "second": numbers.percent(details["second"]) if share else f"{details['second']:.4f}",
        "difference": value,
        "interval": f"[{low}, {high}]",
        "only": f"{details['only_first']} : {details['only_second']}" if "p" in details else "",
        "p": _p(details["p"]) if "p" in details else "",
    }


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _verdict(record: Record) -> dict[str, str]:
    """What to say of accuracy at a glance."""
    points = 100 * record.value
    says = f"{abs(points):.1f} of 100 images {'more' if points > 0 else 'fewer'} right than"
    if not record.value:
        says = "as many images right as"
    apart = "chance in the choice of images does not explain it"
    if record.details["p"] >= 0.05:
        apart = "chance in the choice of images may well explain it"
    return {
        "run": record.details["run"],
        "says": says,
        "apart": f"{apart} (p {_sign(record.details['p'])})",
    }


def _sign(value: float) -> str:
    text = _p(value)
    return text if text.startswith("<") else f"= {text}"
