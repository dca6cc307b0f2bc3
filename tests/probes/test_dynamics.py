"""Tests of the probe that reads the history."""

import dataclasses

import pytest

from lipnets.probes import InvariantError, Subject, dynamics
from lipnets.records import Record


def with_history(subject: Subject, network: float, *layers: float) -> Subject:
    """A history of one more epoch than the test needs, and then the bounds given."""
    when = {"step": 20, "epoch": 2.0}
    history = [
        Record("bound/network", 6.0, "1", step=0, epoch=0.0),
        Record("bound/layer", 2.0, "1", step=0, epoch=0.0, details={"layer": "first"}),
        Record("bound/layer", 3.0, "1", step=0, epoch=0.0, details={"layer": "second"}),
        Record("train/loss", 1.0, "1", step=20, epoch=2.0),
        Record("test/accuracy", 0.5, "fraction", 100, **when),
        Record("bound/network", network, "1", **when),
    ]
    history += [
        Record("bound/layer", value, "1", **when, details={"layer": f"layer {i}"})
        for i, value in enumerate(layers)
    ]
    return dataclasses.replace(subject, history=history)


def test_bounds_and_held_out_records_are_passed_on_as_they_are(subject: Subject) -> None:
    subject = with_history(subject, subject.certificate.lipschitz, 100.0)
    records = list(dynamics()(subject))
    kept = [record for record in subject.history if record.name != "train/loss"]
    assert records[:-1] == kept
    assert (records[-1].name, records[-1].value, records[-1].count) == ("check/product", 1.0, 2)


def test_a_run_without_a_history_has_no_dynamics(subject: Subject) -> None:
    assert list(dynamics()(subject)) == []


def test_weights_of_another_run_are_caught(subject: Subject) -> None:
    now = subject.certificate.lipschitz
    with pytest.raises(InvariantError, match="weights that were saved"):
        list(dynamics()(with_history(subject, now * 1.01, 100.0)))


def test_a_network_above_the_product_of_its_layers_is_caught(subject: Subject) -> None:
    now = subject.certificate.lipschitz
    with pytest.raises(InvariantError, match="at step 20"):
        list(dynamics()(with_history(subject, now, now, 0.999)))


def test_what_the_ledger_leaves_is_told(subject: Subject) -> None:
    terms = {"linear": 0.5, "curvature": 0.25, "square": -0.125, "decay": -7.0}
    history = [Record("ledger/log_norm", 1.0, "nats", step=0, epoch=0.0)]
    when = {"step": 9, "epoch": 1.0}
    history += [Record(f"ledger/{name}", value, "nats", **when) for name, value in terms.items()]
    layer = {"layer": "head", "role": "free"}
    history.append(Record("ledger/linear", 100.0, "nats", **when, details=layer))
    history.append(Record("ledger/log_norm", 1.75, "nats", **when))
    records = list(dynamics()(dataclasses.replace(subject, history=history)))
    [left] = [record for record in records if record.name == "ledger/remainder"]
    assert (left.value, left.details) == (0.125, {"change": 0.75})
    assert records[: len(history)] == history
