"""Tests of metrics: against counting by hand, exact rationals and brute force."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lipnets.metrics import (
    RADII,
    CertifiedCurve,
    accuracy,
    bootstrap_mean,
    certified_accuracy,
    clopper_pearson,
    correct,
    margins,
    mean_radius,
    mean_radius_of_correct,
    predictions,
)

NAN, INF = math.nan, math.inf


def test_the_first_class_wins_ties() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    assert predictions(logits).tolist() == [0, 1, 0]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_rows_that_are_not_finite_are_wrong_whatever_the_label(bad: float, label: int) -> None:
    for position in range(3):
        logits = torch.zeros(1, 3)
        logits[0, position] = bad
        labels = torch.tensor([label])
        assert not correct(logits, labels).any()
        assert margins(logits, labels).item() == -INF


def test_accuracy_is_a_total_over_all_examples() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3, 0, 0, 0]]
    labels = torch.tensor([0, 1, 2, 3, 1, 2, 3])
    assert accuracy(logits, labels) == 4 / 7


def test_accuracy_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="B > 0"):
        certified_accuracy(torch.zeros(0), 0.1)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_labels_that_are_no_class_are_refused_with_their_index(label: int) -> None:
    with pytest.raises(ValueError, match=f"got {label} at index 1"):
        correct(torch.zeros(2, 3), torch.tensor([0, label]))


@pytest.mark.parametrize("labels", [torch.zeros(2), torch.zeros(3, dtype=torch.int64)])
def test_labels_of_another_type_or_length_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="'labels'"):
        correct(torch.zeros(2, 3), labels)


def test_a_single_class_is_always_right_with_an_infinite_margin() -> None:
    logits, labels = torch.randn(5, 1), torch.zeros(5, dtype=torch.int64)
    assert accuracy(logits, labels) == 1.0
    assert margins(logits, labels).tolist() == [INF] * 5


def test_margins_agree_with_a_loop() -> None:
    logits, labels = torch.randn(50, 6), torch.randint(6, (50,))
    for row, label, margin in zip(
        logits.tolist(), labels.tolist(), margins(logits, labels).tolist(), strict=True
    ):
        assert margin == row[label] - max(row[:label] + row[label + 1 :])


def test_margins_of_float32_logits_are_exact_differences() -> None:
    logits = torch.tensor([[16777216.0, 1.5]], dtype=torch.float32)  # 2²⁴ − 1.5 is no float32
    assert margins(logits, torch.tensor([0])).item() == 16777214.5


def test_certified_accuracy_is_strict() -> None:
    radii = torch.tensor([0.5, 0.5, 0.25, 0.0, -1.0])
    assert certified_accuracy(radii, 0.0) == 3 / 5
    assert certified_accuracy(radii, 0.25) == 2 / 5
    assert certified_accuracy(radii, 0.5) == 0.0
    assert certified_accuracy(radii, np.nextafter(0.5, 0)) == 2 / 5


@pytest.mark.parametrize("radius", [-1e-9, NAN])
def test_a_negative_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        certified_accuracy(torch.ones(1), radius)


def test_a_radius_that_is_not_a_number_is_refused_with_its_index() -> None:
    with pytest.raises(ValueError, match="Radius 1 is not a number"):
        CertifiedCurve.of(torch.tensor([0.0, NAN]))


def test_the_certified_curve_is_a_count_at_every_radius() -> None:
    radii = torch.randn(40).round(decimals=1)  # many ties
    curve = CertifiedCurve.of(radii)
    values = radii.tolist()
    for radius in [0.0, *RADII, *[abs(value) for value in values]]:
        assert curve(radius) == sum(value > radius for value in values) / 40
        assert curve.certified(radius) == round(40 * curve(radius))


def test_the_area_under_the_curve_is_the_average_certified_radius() -> None:
    radii = torch.randn(200)
    curve = CertifiedCurve.of(radii)
    area, last = 0.0, 0.0
    for step in curve.steps:
        area += (step - last) * curve(last)
        last = step
    assert area == pytest.approx(mean_radius(radii), rel=1e-12)
    assert mean_radius(radii) == pytest.approx(np.maximum(radii.numpy(), 0).mean(), rel=1e-12)


def test_radii_are_clipped_to_the_diameter() -> None:
    radii = torch.tensor([INF, 1.0, 0.0, -INF])
    assert mean_radius(radii, largest=8.0) == 9 / 4
    assert mean_radius_of_correct(radii, largest=8.0) == 9 / 2
    assert mean_radius(radii) == INF


def test_the_mean_radius_of_the_correct_is_zero_where_none_is() -> None:
    assert mean_radius_of_correct(torch.tensor([-1.0, 0.0])) == 0.0


def _tail(successes: int, trials: int, share: float) -> Fraction:
    """P(X ≥ successes) of a binomial law, in exact rationals."""
    p = Fraction(share)
    return sum(
        (
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k in range(successes, trials + 1)
        ),
        Fraction(0),
    )


@pytest.mark.parametrize(("successes", "trials"), [(1, 2), (3, 10), (9, 10), (59, 60), (1, 60)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_clopper_pearson_ends_where_binomial_tails_are_alpha_halves(
    successes: int, trials: int, alpha: float
) -> None:
    low, high = clopper_pearson(successes, trials, alpha)
    assert 0 < low < successes / trials < high < 1
    assert float(_tail(successes, trials, low)) == pytest.approx(alpha / 2, rel=1e-9)
    assert float(1 - _tail(successes + 1, trials, high)) == pytest.approx(alpha / 2, rel=1e-9)


@pytest.mark.parametrize("trials", [1, 10, 10_000])
def test_clopper_pearson_of_none_or_all_has_its_closed_form(trials: int) -> None:
    reach = 0.025 ** (1 / trials)
    assert clopper_pearson(trials, trials) == (pytest.approx(reach, rel=1e-12), 1.0)
    assert clopper_pearson(0, trials) == (0.0, pytest.approx(1 - reach, rel=1e-12))


def test_clopper_pearson_of_no_trials_is_everything() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("arguments", [(-1, 2), (3, 2), (1, 2, 0.0), (1, 2, 1.0)])
def test_clopper_pearson_refuses_what_is_no_proportion(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="should be in"):
        clopper_pearson(*arguments)


def test_bootstrap_intervals_are_those_of_the_central_limit() -> None:
    values = torch.rand(400)
    low, high = bootstrap_mean(values)
    error = values.std(correction=0).item() / 20
    # Percentiles of 2000 resamples are off by about 0.05 standard errors; thrice that is allowed.
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.15 * error)


def test_the_bootstrap_is_repeatable_and_leaves_the_random_state_alone() -> None:
    values, state = torch.rand(10), torch.get_rng_state()
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_bootstrap_of_a_constant_is_that_constant() -> None:
    assert bootstrap_mean(torch.full((5,), 0.25)) == (0.25, 0.25)


def test_the_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="B > 0"):
        bootstrap_mean(torch.zeros(0))
