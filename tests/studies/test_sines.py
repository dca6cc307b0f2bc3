"""Spectra of samples: closed forms, and how high a Lipschitz function can swing."""

import cmath
import itertools
import math

import pytest
import torch
from torch import Tensor

from lipnets.studies import sines
from lipnets.studies.sines import (
    ceiling,
    energies,
    grid,
    open_ceiling,
    passage,
    sampled_ceiling,
    spectrum,
    split,
)


def by_sums(values: Tensor) -> list[complex]:
    """The amplitudes by explicit sums: twice those between the mean and the highest frequency."""
    points = len(values)
    found = []
    for k in range(points // 2 + 1):
        total = sum(
            v * cmath.exp(-2j * math.pi * j * k / points) for j, v in enumerate(values.tolist())
        )
        found.append(total / points * (1 if 2 * k in (0, points) else 2))
    return found


def triangle(points: int, k: int) -> Tensor:
    """A triangle wave of slope ±1 and frequency k, 1-periodic."""
    place = (grid(points) * k) % 1
    return (0.5 - (place - 0.5).abs()) / k


@pytest.mark.parametrize("points", [5, 8])
def test_amplitudes_are_explicit_sums(points: int) -> None:
    values = torch.randn(points)
    assert torch.allclose(spectrum(values), torch.tensor(by_sums(values)), atol=1e-12)


def test_a_sine_has_its_amplitude_and_no_other_frequency() -> None:
    values = sines.sines(40, [3, 7], [2.0, 0.5], [0.1, 0.7])
    amplitudes = spectrum(values)
    expected = torch.zeros(21)
    expected[3], expected[7] = 2.0, 0.5
    assert torch.allclose(amplitudes.abs(), expected, atol=1e-12)
    # A sin(2π(kt + φ)) is the real part of −iA exp(2πiφ) exp(2πikt).
    assert amplitudes[3] == pytest.approx(-2j * cmath.exp(0.2j * math.pi))


def test_the_highest_frequency_is_its_own_mirror_image() -> None:
    """Planted: twice the last bin would say that ±1 has the amplitude 2."""
    assert spectrum((-1.0) ** torch.arange(8))[-1].abs() == pytest.approx(1)


def test_with_the_end_of_the_interval_a_sine_would_leak() -> None:
    """Planted: 0 and 1 are one point of a periodic function."""
    assert grid(40)[-1] == pytest.approx(39 / 40)
    with_end = torch.linspace(0, 1, 40)
    others = torch.arange(21) != 3
    leaked = spectrum((2 * math.pi * 3 * with_end).sin()).abs()[others].max()
    assert leaked > 0.05
    assert spectrum((2 * math.pi * 3 * grid(40)).sin()).abs()[others].max() < 1e-12


def test_frequencies_that_the_grid_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 40/2"):
        sines.sines(40, [20], [1.0], [0.0])


@pytest.mark.parametrize("points", [9, 12])
def test_energies_sum_to_the_mean_square(points: int) -> None:
    values = torch.randn(points)
    total = energies(spectrum(values), points).sum()
    assert total == pytest.approx(values.square().mean().item())


# Ceilings.


def test_the_triangle_wave_attains_the_ceiling_of_the_integral() -> None:
    """The first coefficient of its series, by many samples."""
    for k in (1, 3):
        points = 6000 * k
        attained = spectrum(triangle(points, k))[k].abs().item()
        assert attained == pytest.approx(ceiling(1.0, k), rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5, 10, 25, 50])
def test_the_triangle_wave_attains_the_ceiling_of_samples(k: int) -> None:
    """Where its kinks are on the grid.  Planted: the ceiling of the integral is lower than this."""
    attained = spectrum(triangle(200, k))[k].abs().item()
    assert attained == pytest.approx(sampled_ceiling(1.0, k, 200), rel=1e-12)
    assert attained > ceiling(1.0, k) * (1 + 1e-6)


def test_the_ceiling_of_samples_tends_to_that_of_the_integral() -> None:
    assert sampled_ceiling(3.0, 2, 10**5) == pytest.approx(ceiling(3.0, 2), rel=1e-8)


@pytest.mark.parametrize("points", [6, 7, 8])
def test_no_periodic_samples_are_above_their_ceiling(points: int) -> None:
    """Slopes of −1, 0 and 1 that return: the corners of all there are, for even numbers of points."""
    highest = torch.zeros(points // 2 + 1)
    for slopes in itertools.product((-1.0, 0.0, 1.0), repeat=points):
        if sum(slopes) == 0:
            values = torch.tensor(slopes).cumsum(0) / points
            highest = torch.maximum(highest, spectrum(values).abs())
    bounds = torch.tensor([sampled_ceiling(1.0, k, points) for k in range(1, points // 2 + 1)])
    assert (highest[1:] <= bounds * (1 + 1e-12)).all()
    if points == 8:
        assert torch.allclose(highest[1:], bounds)


@pytest.mark.parametrize("points", [6, 7, 8])
def test_no_samples_at_all_are_above_the_open_ceiling_which_the_ramp_attains(points: int) -> None:
    highest, within = torch.zeros(points // 2 + 1), 0.0
    for slopes in itertools.product((-1.0, 1.0), repeat=points - 1):  # the corners of all there are
        values = torch.tensor((0.0, *slopes)).cumsum(0) / points
        amplitudes = spectrum(values).abs()
        highest = torch.maximum(highest, amplitudes)
        jump = (values[0] - values[-1]).abs().item()
        for k in range(1, points // 2 + 1):
            bound = open_ceiling(1.0, k, points, jump=jump)
            within = max(within, amplitudes[k].item() / bound)
    bounds = torch.tensor([open_ceiling(1.0, k, points) for k in range(1, points // 2 + 1)])
    assert torch.allclose(highest[1:], bounds)
    assert torch.allclose(spectrum(grid(points)).abs()[1:], bounds)
    assert within <= 1 + 1e-12


def test_a_ramp_is_above_the_ceiling_of_periodic_functions() -> None:
    """Planted: 2L/(π²k) without the term of the jump would call a linear network a violation."""
    ramp = spectrum(grid(200)).abs()
    assert ramp[1] / ceiling(1.0, 1) == pytest.approx(math.pi / 2, rel=1e-4)
    assert ramp[1] > sampled_ceiling(1.0, 1, 200)
    assert open_ceiling(1.0, 1, 200, jump=199 / 200) >= ramp[1]


def test_a_function_that_returns_has_the_ceiling_of_periodic_ones() -> None:
    assert open_ceiling(2.0, 3, 200, jump=0.01) == sampled_ceiling(2.0, 3, 200)


# Time.


def test_the_first_passage_is_infinite_if_there_is_none() -> None:
    assert passage([0, 5, 9], [1.0, 0.05, 0.5], 0.05) == 5
    assert passage([0, 5], [1.0, 0.06], 0.05) == math.inf


def test_an_error_split_goes_to_1_as_low_frequencies_are_learned() -> None:
    target = spectrum(sines.sines(40, [1, 2, 5, 6], [1.0] * 4, [0.0, 0.2, 0.4, 0.6]))
    low_learned, high_learned = target.clone(), target.clone()
    low_learned[:4], high_learned[4:] = 0, 0
    far = target.clone()
    far[0] = 10.0  # a network that begins far from 0: planted, its error would be halved at 1
    edge, base, sb = split(
        torch.stack([target, low_learned, high_learned, 0.5 * target, far]), target, 40
    )
    assert 2 < edge <= 5
    assert base == pytest.approx(0, abs=1e-9)
    # Sines of amplitude 1 have the energy ½, two on each side, and the mean of 10 has 100.
    assert torch.allclose(sb, torch.tensor([0.0, 1.0, -1.0, 0.0, (1 - 101) / 102]), atol=1e-9)


def test_an_uneven_target_is_split_where_it_is_nearest_to_half() -> None:
    target = spectrum(sines.sines(40, [1, 2, 3], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0]))
    edge, base, _ = split(target[None], target, 40)
    assert (edge, base) == (3, pytest.approx(1 / 3))
    even = spectrum(sines.sines(40, [1, 2, 3], [1.0, 1.0, 1.0], [0.3, 0.1, 0.7]))
    assert split(even[None], even, 40)[0] == 2  # of two that are as near, whatever rounding says
