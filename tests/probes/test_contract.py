"""Every probe in the registry is held to the same contract: to exist is to be tested."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lipnets import probes
from lipnets.data import Split
from lipnets.probes import Subject
from lipnets.records import Record


@pytest.fixture(params=probes.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def history(bound: float) -> list[Record]:
    """A history of two epochs that ends with a given bound."""
    return [
        Record(what, bound * factor, "1", step=10 * epoch, epoch=float(epoch), details=details)
        for epoch, factor in ((0, 2.0), (1, 1.0))
        for what, details in (("bound/network", {}), ("bound/layer", {"layer": "head"}))
    ]


def with_history(model: nn.Module, split: Split, **settings: Any) -> Subject:
    subject = Subject.of(model, split, **settings)
    return dataclasses.replace(subject, history=history(subject.certificate.lipschitz))


def same(first: Record, second: Record) -> bool:
    """Whether two records are equal but for rounding: sums are taken in another order."""
    if first.details.get("timing") and second.details.get("timing"):  # which no run repeats
        return (first.name, first.unit, first.count) == (second.name, second.unit, second.count)
    if first.name == second.name == "check/batches":  # what it measures is rounding
        return max(first.value, second.value) <= 1
    return _close(first.to_dict(), second.to_dict())


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_close(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return first == second


_AT_ONCE: dict[str, list[Record]] = {}  # by probe: several tests compare with them


@pytest.fixture
def at_once(model: nn.Sequential, split: Split, name: str) -> list[Record]:
    """What a probe finds in one batch, in float64; the model and the images are always the same."""
    if name not in _AT_ONCE:
        _AT_ONCE[name] = list(probes.build(name)(with_history(model, split)))
    return _AT_ONCE[name]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_records_do_not_depend_on_the_batch_size(
    model: nn.Sequential, split: Split, name: str, batch_size: int, at_once: list[Record]
) -> None:
    probe = probes.build(name)
    in_batches = list(probe(with_history(model, split, batch_size=batch_size)))
    assert at_once
    assert len(at_once) == len(in_batches)
    assert all(map(same, at_once, in_batches))


def test_the_model_its_mode_and_the_random_state_are_left_as_they_were(
    model: nn.Sequential, split: Split, name: str
) -> None:
    parameters = {key: (tensor, tensor.clone()) for key, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    images, labels, state = split.images.clone(), split.labels.clone(), torch.get_rng_state()

    list(probes.build(name)(with_history(model, split)))

    for key, tensor in model.state_dict().items():
        before, copy = parameters[key]
        assert tensor.data_ptr() == before.data_ptr()
        assert torch.equal(tensor, copy)
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(split.images, images)
    assert torch.equal(split.labels, labels)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_default_dtype_does_not_matter(
    model: nn.Sequential, split: Split, name: str, at_once: list[Record]
) -> None:
    torch.set_default_dtype(torch.float32)
    in_single = list(probes.build(name)(with_history(model, split)))
    assert len(at_once) == len(in_single)
    assert all(map(same, at_once, in_single))


def test_every_record_says_what_a_reader_needs(
    model: nn.Sequential, split: Split, name: str
) -> None:
    subject = with_history(model, split, provenance={"data": "patterns", "sha256": "00"})
    for record in probes.build(name)(subject):
        known = ("fraction", "l2 pixels", "1", "class", "images per second", "seconds", "bytes")
        assert record.unit in (
            *known,
            "nats",
            "cycles per image",
            "cycles per l2 pixel",
            "linf pixels",
            "l1 pixels",
        )
        assert json.loads(json.dumps(record.to_dict()))
        if record.epoch is None:  # others are the history's
            assert {"data", "sha256", "images", "dtype"} <= record.details.keys()
            measured = record.unit != "1" or record.name.startswith("check/")
            assert (record.count is not None) == measured


def test_progress_is_shown_to_the_end(model: nn.Sequential, split: Split, name: str) -> None:
    shown: list[tuple[str, int, int]] = []

    def track(items: Any, what: str) -> Iterator[Any]:
        for done, item in enumerate(items, start=1):
            yield item
            shown.append((what, done, len(items)))

    list(probes.build(name)(with_history(model, split, batch_size=8, track=track)))
    assert ("clean images", 8, 8) in shown
    for what in {what for what, _, _ in shown}:
        counts = [(done, total) for name, done, total in shown if name == what]
        assert counts[-1][0] == counts[-1][1] == len(counts)


class Lost(nn.Module):
    """A network of which no rule knows anything, and which gives no number for some images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True) > 0.5
        return torch.where(bright, torch.nan, self.inner(x))


def test_images_without_outputs_leave_no_nan_in_records(
    model: nn.Sequential, split: Split, name: str
) -> None:
    subject = Subject.of(Lost(model).eval(), split, limit=8, refuse=False)
    assert 0 < int(subject.logits.isnan().any(dim=1).sum()) < 8
    for record in probes.build(name, **probes.PRESETS.get(name, {}).get("quick", {}))(subject):
        assert "NaN" not in json.dumps(record.to_dict()), record.name
