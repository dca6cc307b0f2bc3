"""Tests of path spectra: against numpy's Fourier transform, and functions of one frequency."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, paths
from lipnets.records import Record

Build = Callable[..., Any]


class Circle(nn.Module):
    """(cos, sin) of 2πk x₀: at the distance s from 0 it is 2 |sin πks| away."""

    def __init__(self, turns: float) -> None:
        super().__init__()
        self.turns = turns

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * self.turns * x.flatten(1)[:, 0]
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def ends(model: nn.Module) -> Subject:
    """Two images of different classes at distance 1."""
    images = torch.zeros(2, 1, 2, 2, dtype=torch.float32)
    images[1, 0, 0, 0] = 1
    return Subject.of(model.eval(), Split(images, torch.tensor([0, 1])), refuse=False)


def found(records: list[Record], name: str, outputs: str = "logits") -> Record:
    return next(r for r in records if r.name == name and r.details["outputs"] == outputs)


@pytest.mark.parametrize("turns", [2, 5, 11])
def test_the_peak_is_at_the_frequency_of_the_function(turns: int) -> None:
    record = found(list(paths(points=128)(ends(Circle(turns)))), "path_power")
    power = record.details["power"]
    assert record.details["frequencies"][int(np.argmax(power))] == turns
    assert record.details["lines"] == "between"


def test_spectra_are_those_of_numpy() -> None:
    subject = ends(Circle(3.3))
    record = found(list(paths(points=33)(subject)), "path_power")
    s = np.arange(33) / 32
    g = 2 * np.abs(np.sin(np.pi * 3.3 * s))
    window = np.hanning(33)
    spectrum = np.fft.rfft(window * (g - g.mean()), n=64)[1:-1]
    expected = 2 / 32 * np.abs(spectrum) ** 2 / (window**2).sum()
    assert np.allclose(record.details["frequencies"], np.arange(1, 32) / 2)
    assert np.allclose(record.details["power"], expected)
    assert record.value == pytest.approx(expected.sum() / 2)
    center = found(list(paths(points=33)(subject)), "path_centroid")
    frequencies = np.arange(1, 32) / 2
    assert center.value == pytest.approx((frequencies * expected).sum() / expected.sum())


def test_longer_lines_have_lower_frequencies() -> None:
    """Twice the distance with half of the frequency is the same function of the way."""
    first = ends(Circle(4))
    second = ends(Circle(2))
    second = dataclasses.replace(second, split=Split(2 * second.images, second.labels))
    peaks = []
    for subject in (first, second):
        record = found(list(paths(points=64)(subject)), "path_power")
        peaks.append(record.details["frequencies"][int(np.argmax(record.details["power"]))])
    assert peaks == [4, 2]


def test_a_linear_network_attains_its_slope_on_its_own_line(linear: Build) -> None:
    weights = torch.zeros(2, 1, 2, 2)
    weights[0, 0, 0, 0] = 3
    records = list(paths(points=8)(ends(linear(weights))))
    slope = found(records, "path_slope")
    assert slope.value == pytest.approx(3)
    assert slope.details["limit"] == pytest.approx(3)
    assert found(records, "path_slope", "probabilities").details["limit"] == pytest.approx(1.5)
    (check,) = [r for r in records if r.name == "check/paths"]
    assert check.value == pytest.approx(1)


def test_lines_within_a_class_stay_in_it_and_others_leave_it(subject: Subject) -> None:
    pairs = paths.__globals__["_pairs"](subject, 200, 0)
    for kind, (a, b) in pairs.items():
        same = subject.labels[a] == subject.labels[b]
        assert same.all() if kind == "within" else not same.any()
        assert len(a) == 100
        assert (a != b).all()


def test_the_order_of_images_does_not_matter(subject: Subject) -> None:
    order = torch.randperm(len(subject))
    shuffled = dataclasses.replace(
        subject,
        split=subject.split[order],
        indices=subject.indices[order],
        logits=subject.logits[order],
    )
    first, second = (
        [r.value for r in paths(lines=10, points=8)(each) if not r.name.startswith("check/")]
        for each in (subject, shuffled)
    )
    assert first == pytest.approx(second, rel=1e-12)


def test_outputs_that_change_too_fast_are_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = paths.__globals__["_outputs"]
    monkeypatch.setitem(paths.__globals__, "_outputs", lambda *given: 10 * outputs(*given))
    with pytest.raises(InvariantError, match="for each unit of distance"):
        list(paths(lines=10, points=8)(subject))


def test_one_class_has_no_lines_between_and_one_image_none(examine: Build, linear: Build) -> None:
    one = examine(linear(torch.randn(1, 1, 2, 2)), (1, 2, 2), 1)
    kinds = {r.details["lines"] for r in paths(points=8)(one) if r.name == "path_power"}
    assert kinds == {"within"}
    assert not list(paths(points=8)(one.sample(1)))
    with pytest.raises(ValueError, match="at least 4"):
        paths(points=3)
