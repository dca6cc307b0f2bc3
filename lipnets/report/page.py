"""The page of a report: what was measured, in the words of someone who was not there."""

__all__ = ["Facts", "figures", "page"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from statistics import fmean, variance
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ..metrics import CertifiedCurve
from ..records import Record
from . import drawing, evolution, numbers, plots

_RADIUS = 36 / 255  # of the verdict


@dataclass(frozen=True)
class Facts:
    """What a page says of a run besides its records.

    Arguments:
        model: The name of the model.
        data: The name of the data set.
        classes: The names of classes, in the order of labels.
        shape: The shape of an image, (C, H, W).
        parameters: The number of parameters of the network.
        config: The config of the run, as YAML.
        checksums: SHA-256 sums by what they are of.
        versions: Versions by package.
        pictures: Images as data URIs, by their index in the data set.
    """

    model: str
    data: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    parameters: int
    config: str
    checksums: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)


def figures(records: Sequence[Record]) -> dict[str, Figure]:
    """Draws every figure that the records allow, by name."""
    by_name = _grouped(records)
    drawn: dict[str, Figure] = {}
    accuracy = by_name["accuracy"][0].value if "accuracy" in by_name else None
    if accuracy is not None and "certified_curve" in by_name:
        drawn["certified_curve"] = plots.certified_curve(_curve(by_name), accuracy)
    for name in ("corrupted_accuracy", "corrupted_certified_accuracy"):
        if name in by_name:
            drawn[name] = plots.corruption_map(by_name[name])
    if "band_certified_accuracy" in by_name:
        drawn["band_certified_accuracy"] = plots.band_map(by_name["band_certified_accuracy"])
    if "filtered_accuracy" in by_name:
        details = by_name["filtered_accuracy"][0].details
        drawn["filtered_accuracy"] = plots.filter_curves(
            by_name["filtered_accuracy"], details["unfiltered"], details["chance"]
        )
    history = [record for record in records if record.epoch is not None]
    if any(record.name == "test/accuracy" for record in history):
        drawn["learning_curves"] = plots.learning_curves(history)
    for name, function in (
        ("bound/network", plots.bound_of_network),
        ("bound/layer", plots.bound_of_layers),
    ):
        line = _eventful([record for record in history if record.name == name])
        if len({record.epoch for record in line}) > 1:
            drawn[name.replace("/", "_")] = function(line)
    whole = {record.name for record in history if "layer" not in record.details}
    for name, source, function in (
        ("ledger", "ledger/log_norm", evolution.ledger),
        ("drivers", "driver/drift", evolution.drivers),
        ("scores", "driver/z", evolution.scores),
    ):
        lines = [record for record in history if record.name == source]
        if source in whole and len({record.step for record in lines}) > 1:
            drawn[name] = function(history)
    if "gain/band" in by_name:
        drawn["frequencies"] = evolution.frequencies(history)
    return drawn


def page(records: Sequence[Record], facts: Facts, drawn: Mapping[str, Figure]) -> str:
    """Writes the page: one HTML document that asks for nothing else.

    Arguments:
        records: What was measured; sections of what was not are left out.
        facts: What else there is to say of the run.
        drawn: The figures of these records.

    Returns:
        The document.
    """
    by_name = _grouped(records)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "bound": numbers.bound,
        "count": numbers.count,
        "percent": numbers.percent,
        "radius": numbers.radius,
        "radius_name": numbers.radius_name,
        "slope": numbers.slope,
    }
    environment.globals["interval"] = numbers.interval
    home = files("lipnets.report")
    template = environment.from_string((home / "page.html").read_text(encoding="utf-8"))
    return template.render(
        css=Markup((home / "page.css").read_text(encoding="utf-8")),
        facts=facts,
        first={name: group[0] for name, group in by_name.items()},
        all=by_name,
        figures={name: Markup(drawing.svg(each, name)) for name, each in drawn.items()},
        verdict=_verdict(by_name),
        audit=_audit(by_name),
        rounding=_rounding(by_name),
        scores=_scores(by_name),
        verdict_radius=_RADIUS,
        values=math.prod(facts.shape),
        lipschitz=next((r for r in by_name.get("bound/network", []) if r.epoch is None), None),
        checks=[record for record in records if record.name.startswith("check/")],
    )


def _grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.name, []).append(record)
    return groups


def _eventful(history: list[Record]) -> list[Record]:
    """Leaves out layers whose bound is exactly 1 at all times: activations and the like."""
    kept = {record.details.get("layer") for record in history if record.value != 1}
    return [record for record in history if record.details.get("layer") in kept]


def _curve(by_name: dict[str, list[Record]]) -> CertifiedCurve:
    record = by_name["certified_curve"][0]
    return CertifiedCurve(tuple(record.details["steps"]), record.count or 1)


def _verdict(by_name: dict[str, list[Record]]) -> Record | None:
    """The record of certified accuracy at the radius that the field compares at."""
    certified = by_name.get("certified_accuracy", [])
    return next((r for r in certified if math.isclose(r.details["radius"], _RADIUS)), None)


def _rounding(by_name: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """A row for each arithmetic: what it loses, and the shares certified in it."""
    rows: dict[str, dict[str, Any]] = {}
    for record in by_name.get("certified_accuracy_in", []):
        name = record.details["arithmetic"]
        row = rows.setdefault(name, {"arithmetic": name, "loss": None, "shares": []})
        row["shares"].append(record)
    for record in by_name.get("rounding_loss", []):
        rows[record.details["arithmetic"]]["loss"] = record
    return list(rows.values())


def _scores(by_name: dict[str, list[Record]]) -> dict[str, float] | None:
    """The mean of all scores of single steps of the network, and their variance."""
    values = [r.value for r in by_name.get("driver/z", []) if "layer" not in r.details]
    if len(values) < 2:
        return None
    return {"mean": fmean(values), "variance": variance(values), "count": len(values)}


def _audit(by_name: dict[str, list[Record]]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for quantity in ("bound", "slope", "ratio"):
        for record in by_name.get(f"audit/{quantity}", []):
            row = rows.setdefault(record.details["layer"], dict(record.details))
            row[quantity] = record.value
    return list(rows.values())
