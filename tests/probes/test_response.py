"""Tests of the linear response: waves of all phases, for which it is exact."""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lipnets.probes import Subject, response
from lipnets.records import Record

Build = Callable[..., Any]
COUNT = 8


def corrupt(
    images: Tensor, name: str, severity: int, indices: Tensor | Sequence[int], seed: int
) -> Tensor:
    """Adds a wave of norm `severity` / 10 in each channel, its phase turning with the index."""
    height, width = images.shape[-2:]
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    row, column = map(int, name.split("_"))
    phases = torch.as_tensor(indices)[:, None, None].double() * 2 * math.pi / COUNT
    wave = math.sqrt(2 / (height * width)) * torch.cos(
        2 * math.pi * (row * y + column * x) + phases
    )
    return images.double() + severity / 10 * wave[:, None]


@pytest.fixture(autouse=True)
def _waves_for_corruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = SimpleNamespace(corrupt=corrupt, applicable=lambda channels: ["1_0", "0_1", "1_1"])
    monkeypatch.setitem(response.__globals__, "catalogue", catalogue)


def cells(subject: Subject, **settings: Any) -> list[Record]:
    return [r for r in response(**settings)(subject) if r.name == "response"]


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 6)])
def test_waves_of_all_phases_respond_as_spectra_say(
    shape: tuple[int, int, int], examine: Build, linear: Build
) -> None:
    weights = torch.randn(3, *shape)
    spectrum = np.fft.fft2(weights.numpy(), norm="ortho").sum(axis=1)  # one wave in all channels
    subject = examine(linear(weights), shape, 3, COUNT)
    for record in cells(subject, severities=(1, 4)):
        row, column = map(int, record.details["corruption"].split("_"))
        size = record.details["severity"] / 10
        expected = size**2 * (np.abs(spectrum[:, row, column]) ** 2).sum()
        assert record.value == pytest.approx(expected)
        assert record.details["predicted"] == pytest.approx(expected)
        assert record.details["linear"] == pytest.approx(expected)
        assert record.details["length"] == pytest.approx(size**2 * shape[0])


def test_a_change_that_knows_the_image_is_not_predicted(
    examine: Build, linear: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coefficients that are correlated add up: spectra alone miss it, gradients do not."""
    weights = torch.zeros(1, 1, 4, 4)
    weights[0, 0, 0, 0] = 2
    pixel = SimpleNamespace(
        corrupt=lambda images, *rest: images.double() + weights / 2, applicable=lambda c: ["dot"]
    )
    monkeypatch.setitem(response.__globals__, "catalogue", pixel)
    (record,) = cells(examine(linear(weights), (1, 4, 4), 1), severities=(1,))
    assert record.value == pytest.approx(4)
    assert record.details["linear"] == pytest.approx(4)
    assert record.details["predicted"] == pytest.approx(4 / 16)


def test_ranks_are_correlated(examine: Build, linear: Build) -> None:
    subject = examine(linear(torch.randn(2, 1, 6, 6)), (1, 6, 6), 2, COUNT)
    records = list(response(severities=(1, 2, 3))(subject))
    (found,) = [
        r.value for r in records if r.name == "response_correlation" and r.details["of"] == "change"
    ]
    assert found == pytest.approx(1)  # of a linear network, the order is that of the prediction
    few = list(response(names=["1_0"], severities=(1, 2))(subject))
    assert not [r for r in few if r.name == "response_correlation"]


def test_drops_are_those_of_accuracies(examine: Build, linear: Build) -> None:
    weights, bias = torch.randn(2, 1, 6, 6), torch.randn(2)
    model = linear(weights, bias)
    subject = examine(model, (1, 6, 6), 2, COUNT)
    (record,) = cells(subject, names=["1_0"], severities=(9,))
    moved = corrupt(subject.images, "1_0", 9, subject.indices, 0)
    right = (model(moved).argmax(dim=1) == subject.labels).double().mean()
    before = (subject.logits.argmax(dim=1) == subject.labels).double().mean()
    assert record.details["accuracy"] == right
    assert record.details["drop"] == pytest.approx(float(before - right))


def test_a_network_without_gradients_is_told(examine: Build) -> None:
    class Steps(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :2].round()

    (record,) = response()(examine(Steps(), (1, 2, 2), 2))
    assert record.name == "response_skipped"


def test_channels_that_are_out_of_phase_respond_as_spectra_say(
    examine: Build, linear: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waves of one channel a third of a period behind the other: the sign of the phase matters."""
    height, width = 5, 6
    column = torch.arange(width) / width

    def waves(turn: Tensor) -> Tensor:
        angles = 2 * math.pi * column + turn[:, None, None, None]
        behind = torch.tensor([0.0, 2 * math.pi / 3])[:, None, None]
        return torch.cos(angles + behind).expand(-1, -1, height, -1)

    def shifted(images: Tensor, name: str, severity: int, indices: Tensor, seed: int) -> Tensor:
        return images.double() + 0.1 * waves(indices.double() * 2 * math.pi / COUNT)

    catalogue = SimpleNamespace(corrupt=shifted, applicable=lambda channels: ["waves"])
    monkeypatch.setitem(response.__globals__, "catalogue", catalogue)
    weights = waves(torch.tensor([0.4, 1.9]))  # (2, 2, H, W), as far behind as the change
    (record,) = cells(examine(linear(weights), (2, height, width), 2, COUNT), severities=(1,))
    assert record.value > 0
    assert record.details["predicted"] == pytest.approx(record.value)
