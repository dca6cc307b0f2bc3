"""Tests of costs: of networks whose operations can be counted by hand."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lipnets.data import Split
from lipnets.probes import Subject, cost
from lipnets.records import Record


def found(records: list[Record], name: str, **details: Any) -> Record:
    (record,) = [
        r
        for r in records
        if r.name == f"cost/{name}" and all(r.details.get(k) == v for k, v in details.items())
    ]
    return record


@pytest.fixture
def records() -> list[Record]:
    conv = parametrizations.weight_norm(nn.Conv2d(2, 3, 3, padding=1, bias=False))
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 5, 4)).eval()
    images = torch.rand(6, 2, 4, 5, dtype=torch.float32)
    split = Split(images, torch.arange(6) % 4)
    return list(cost(repeats=4, batch_size=8)(Subject.of(model, split)))


def test_operations_are_two_for_each_product(records: list[Record]) -> None:
    convolution, head = 4 * 5 * 3 * 2 * 9, 3 * 4 * 5 * 4
    assert found(records, "operations").value == 2 * (convolution + head)


def test_parameters_are_counted_in_training_and_as_exported(records: list[Record]) -> None:
    assert found(records, "parameters", form="exported").value == 3 * 2 * 9 + 240 + 4
    assert found(records, "parameters", form="stored").value == 3 * 2 * 9 + 3 + 240 + 4


def test_times_name_the_machine_and_are_marked(records: list[Record]) -> None:
    timed = [r for r in records if r.unit in ("seconds", "images per second")]
    assert len(timed) == 5
    for record in timed:
        assert record.value > 0
        assert record.details["timing"] is True
        assert record.details["machine"]
        assert record.details["threads"] == torch.get_num_threads()
        assert record.details["device"] == "cpu"
    for name in ("float32", "float64"):
        latency = found(records, "latency", arithmetic=name)
        assert latency.details["low"] <= latency.value <= latency.details["high"]
        assert found(records, "throughput", arithmetic=name).details["batch_size"] == 8


def test_a_wait_is_measured(monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: 0.5 * next(clock))
    records = list(cost(repeats=3, batch_size=10)(subject))
    assert found(records, "latency", arithmetic="float32").value == 0.5
    assert found(records, "throughput", arithmetic="float32").value == 10 / 0.5
    assert found(records, "certification").value == 0.5


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="'repeats'"):
        cost(repeats=1)
