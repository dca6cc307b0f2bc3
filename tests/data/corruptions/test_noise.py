"""Noise has the moments of its law; constants are those of CIFAR-10-C."""

import math

import pytest
import torch
from torch import Tensor

from lipnets.data.corruptions import corrupt

COUNT = 40 * 3 * 32 * 32


def _noisy(name: str, severity: int, level: float) -> Tensor:
    images = torch.full((40, 3, 32, 32), level)
    return corrupt(images, name, severity, range(40)).flatten()


def _has_moments(values: Tensor, mean: float, std: float, kurtosis: float) -> None:
    """Five standard errors: those of a mean, and of a variance."""
    assert abs(values.mean().item() - mean) < 5 * std / math.sqrt(COUNT)
    error = std**2 * math.sqrt((kurtosis - 1) / COUNT)
    assert abs(values.var().item() - std**2) < 5 * error


@pytest.mark.parametrize(
    ("severity", "sigma"), list(enumerate([0.04, 0.06, 0.08, 0.09, 0.10], start=1))
)
def test_gaussian_noise_is_normal(severity, sigma) -> None:
    values = _noisy("gaussian_noise", severity, level=0.5)  # 5σ from the ends: hardly clipped
    _has_moments(values, mean=0.5, std=sigma, kurtosis=3)
    within = ((values - 0.5).abs() < sigma).double().mean().item()
    assert within == pytest.approx(math.erf(math.sqrt(0.5)), abs=5 * 0.47 / math.sqrt(COUNT))


@pytest.mark.parametrize(
    ("severity", "sigma"), list(enumerate([0.06, 0.1, 0.12, 0.16, 0.2], start=1))
)
@pytest.mark.parametrize("level", [0.25, 0.5])
def test_speckle_noise_is_in_proportion_to_light(severity, sigma, level) -> None:
    values = _noisy("speckle_noise", severity, level)
    _has_moments(values, mean=level, std=sigma * level, kurtosis=3)


@pytest.mark.parametrize(("severity", "photons"), list(enumerate([500, 250, 100, 75, 50], start=1)))
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_shot_noise_counts_photons(severity, photons, level) -> None:
    values = _noisy("shot_noise", severity, level)
    counts = values * photons
    assert torch.allclose(counts, counts.round(), atol=1e-9)
    rate = photons * level
    _has_moments(values, level, math.sqrt(level / photons), kurtosis=3 + 1 / rate)


def test_shot_noise_leaves_the_dark_dark() -> None:
    assert (_noisy("shot_noise", 5, level=0.0) == 0).all()


@pytest.mark.parametrize(
    ("severity", "p"), list(enumerate([0.01, 0.02, 0.03, 0.05, 0.07], start=1))
)
def test_impulse_noise_is_salt_and_pepper(severity, p) -> None:
    values = _noisy("impulse_noise", severity, level=0.3)
    salt, pepper = ((values == end).double().mean().item() for end in (1, 0))
    error = 5 * math.sqrt(p / 2 / COUNT)
    assert salt == pytest.approx(p / 2, abs=error)
    assert pepper == pytest.approx(p / 2, abs=error)
    assert ((values == 1) | (values == 0) | (values == 0.3)).all()
