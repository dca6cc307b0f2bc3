"""Tests of the spectrum of the Jacobian: of a linear network it is |FFT of weights|²."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, jacobian
from lipnets.probes._jacobians import spectra
from lipnets.records import Record

SHAPES = [(1, 6, 6), (3, 5, 5), (2, 4, 7), (1, 1, 3)]

Build = Callable[..., Any]


def found(subject: Subject, name: str, of: str = "logits") -> Record:
    return next(r for r in jacobian()(subject) if r.name == name and r.details["of"] == of)


def radii(height: int, width: int) -> np.ndarray:
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    return np.sqrt(y**2 + x**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectrum_of_a_linear_network_is_that_of_its_weights(
    shape: tuple[int, int, int], examine: Build, linear: Build
) -> None:
    weights = torch.randn(3, *shape)
    power = (np.abs(np.fft.fft2(weights.numpy(), norm="ortho")) ** 2).sum(axis=(0, 1))
    subject = examine(linear(weights), shape, 3)
    record = found(subject, "jacobian_power")
    assert np.allclose(record.details["map"], np.fft.fftshift(power))
    assert record.value == pytest.approx(weights.square().sum().item())  # Parseval
    rho = radii(*shape[1:]) * min(shape[1:])
    for ring, (mean, count) in enumerate(
        zip(record.details["power"], record.details["counts"], strict=True)
    ):
        chosen = power[np.round(rho) == ring]
        assert count == len(chosen)
        assert mean == pytest.approx(chosen.mean() if len(chosen) else 0)
    assert sum(record.details["shape"]) == pytest.approx(1)
    rank = min(3, weights[0].numel())
    limit = rank * subject.certificate.lipschitz**2
    assert record.value <= record.details["limit"] == pytest.approx(limit)
    center = found(subject, "jacobian_centroid").value
    assert center == pytest.approx((power * rho).sum() / power.sum())


def test_the_margin_is_that_of_the_prediction_and_the_runner_up(
    examine: Build, linear: Build
) -> None:
    weights = torch.randn(4, 1, 6, 6)
    subject = examine(linear(weights), (1, 6, 6), 4)
    order = subject.logits.argsort(dim=1, descending=True)
    margins = (weights[order[:, 0]] - weights[order[:, 1]]).numpy()
    power = (np.abs(np.fft.fft2(margins, norm="ortho")) ** 2).sum(axis=1)
    record = found(subject, "jacobian_power", "margin")
    assert np.allclose(record.details["map"], np.fft.fftshift(power.mean(axis=0)))
    low = radii(6, 6) <= 0.25
    ratio = power.mean(axis=0)[~low].sum() / power.mean(axis=0)[low].sum()
    assert found(subject, "jacobian_high_ratio", "margin").value == pytest.approx(ratio)
    column = next(r for r in jacobian()(subject) if r.name == "image/jacobian_centroid")
    each = (power * radii(6, 6) * 6).sum(axis=(1, 2)) / power.sum(axis=(1, 2))
    assert np.allclose(column.details["values"], each)


def test_powers_are_averaged_and_not_gradients(examine: Build) -> None:
    class Turning(nn.Module):
        """A gradient that has the opposite sign at half of the images."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, 0, 0].abs(), 0 * x[:, 0, 0, 0]], dim=1)

    subject = examine(Turning(), (1, 2, 2), 2)
    signed = subject.split.images.clone()
    signed[::2] *= -1
    subject = dataclasses.replace(subject, split=Split(signed, subject.labels))
    assert found(subject, "jacobian_power").value == pytest.approx(1)


def test_shifts_of_logits_do_not_matter(examine: Build, linear: Build) -> None:
    weights, bias = torch.randn(2, 1, 4, 4), torch.tensor([3.0, 3.0])
    first, second = (
        found(examine(linear(weights, each), (1, 4, 4), 2), "jacobian_power", "margin")
        for each in (None, bias)
    )
    assert first.details["map"] == second.details["map"]


@pytest.mark.parametrize("bug", ["not orthonormal", "half of the spectrum"])
def test_spectra_without_the_energy_of_gradients_are_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    def wrong(gradients: Tensor) -> Tensor:
        if bug == "not orthonormal":
            return torch.fft.fft2(gradients)
        half = spectra(gradients)
        half[..., gradients.shape[-1] // 2 + 1 :] = 0
        return half

    monkeypatch.setitem(jacobian.__globals__, "spectra", wrong)
    with pytest.raises(InvariantError, match="have the energy of the gradient"):
        list(jacobian()(subject))


def test_gradients_above_what_is_proved_are_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = jacobian.__globals__["_limits"](subject)
    halved = {of: limit / 2 for of, limit in limits.items()}
    monkeypatch.setitem(jacobian.__globals__, "_limits", lambda subject: halved)
    with pytest.raises(InvariantError, match="the energy of gradients is at most"):
        list(jacobian()(subject))


def test_a_network_without_gradients_is_told(examine: Build) -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :2].round()

    (record,) = jacobian()(examine(Steps(), (1, 2, 2), 2))
    assert record.name == "jacobian_skipped"


def test_a_quarter_of_a_cycle_per_pixel_is_low(examine: Build, linear: Build) -> None:
    wave = torch.cos(torch.pi / 2 * torch.arange(8)).expand(8, 8)
    fine = torch.cos(3 * torch.pi / 4 * torch.arange(8)).expand(8, 8)
    weights = torch.stack([wave + 2 * fine, torch.zeros(8, 8)])[:, None]
    subject = examine(linear(weights), (1, 8, 8), 2)
    assert found(subject, "jacobian_high_ratio").value == pytest.approx(4)


def test_the_limit_of_margins_is_the_mean_of_their_squared_slopes(
    examine: Build, linear: Build
) -> None:
    """Of a linear network each margin has the slope ‖w_i − w_j‖, and so its limit is attained."""
    weights = torch.randn(4, 1, 6, 6) * torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None, None, None]
    subject = examine(linear(weights / 10), (1, 6, 6), 4, 24)
    top = subject.logits.argsort(dim=1, descending=True)[:, :2]
    assert len({tuple(sorted(pair)) for pair in top.tolist()}) > 1
    record = found(subject, "jacobian_power", "margin")
    assert record.details["limit"] == pytest.approx(record.value, rel=1e-9)
