"""How bounds and accuracy evolved during training, and what moved the Lipschitz constant."""

__all__ = ["evolution", "training"]

from collections.abc import Sequence
from statistics import fmean, variance
from typing import Any

from matplotlib.figure import Figure

from ...records import Record
from .. import evolution as draw
from .. import plots
from ._section import Groups, Section


def _history(groups: Groups) -> list[Record]:
    return [r for group in groups.values() for r in group if r.epoch is not None]


def _training(groups: Groups) -> dict[str, Figure]:
    history, drawn = _history(groups), {}
    if any(record.name == "test/accuracy" for record in history):
        drawn["learning_curves"] = plots.learning_curves(history)
    for name, function in (
        ("bound/network", plots.bound_of_network),
        ("bound/layer", plots.bound_of_layers),
    ):
        line = _eventful([record for record in history if record.name == name])
        if len({record.epoch for record in line}) > 1:
            drawn[name.replace("/", "_")] = function(line)
    return drawn


def _evolution(groups: Groups) -> dict[str, Figure]:
    history, drawn = _history(groups), {}
    whole = {record.name for record in history if "layer" not in record.details}
    for name, source, function in (
        ("ledger", "ledger/log_norm", draw.ledger),
        ("drivers", "driver/drift", draw.drivers),
        ("scores", "driver/z", draw.scores),
    ):
        lines = [record for record in history if record.name == source]
        if source in whole and len({record.step for record in lines}) > 1:
            drawn[name] = function(history)
    if "gain/band" in groups:
        drawn["frequencies"] = draw.frequencies(history)
    return drawn


def _eventful(history: Sequence[Record]) -> list[Record]:
    """Leaves out layers whose bound is exactly 1 at all times: activations and the like."""
    kept = {record.details.get("layer") for record in history if record.value != 1}
    return [record for record in history if record.details.get("layer") in kept]


def _scores(groups: Groups) -> dict[str, Any]:
    """The mean of all scores of single steps of the network, and their variance."""
    values = [r.value for r in groups.get("driver/z", ()) if "layer" not in r.details]
    if len(values) < 2:
        return {"scores": None}
    return {"scores": {"mean": fmean(values), "variance": variance(values), "count": len(values)}}


training = Section("training", "Training", _training)
evolution = Section("evolution", "What moved the Lipschitz constant", _evolution, _scores)
