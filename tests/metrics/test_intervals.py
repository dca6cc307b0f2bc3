"""Tests of intervals and of paired comparisons: against sums of binomial weights, and simulations."""

import math

import pytest
import torch
from scipy.stats import binom, binomtest, ksone

from lipnets.metrics import (
    RADII,
    CertifiedCurve,
    bootstrap_mean,
    clopper_pearson_low,
    dkw,
    mcnemar,
    paired_difference,
    standard_radii,
)


def test_the_band_of_ten_thousand_images_is_the_one_that_is_published() -> None:
    assert dkw(10_000) == pytest.approx(0.0136, abs=5e-5)


def test_a_band_holds_at_least_as_often_as_it_says() -> None:
    for count in (10, 100):
        # Massart's band is two one-sided ones, of which the exact law is known.
        assert 2 * ksone.sf(dkw(count, 0.05), count) <= 0.05
        assert 2 * ksone.sf(0.8 * dkw(count, 0.05), count) > 0.05


@pytest.mark.slow
def test_bands_hold_whole_curves() -> None:
    missed = 0
    for _ in range(1000):
        curve = CertifiedCurve.of(torch.rand(50))  # of which 1 − r is beyond r
        steps = torch.tensor(curve.steps)
        above = 1 - torch.arange(50) / 50 - (1 - steps)  # just before each step
        missed += bool((above.abs() > dkw(50)).any() | ((above - 1 / 50).abs() > dkw(50)).any())
    assert missed <= 65  # 5 % of 1000, and two standard deviations


@pytest.mark.parametrize("arguments", [(0,), (5, 0.0), (5, 1.0)])
def test_a_band_of_nothing_is_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="A band needs"):
        dkw(*arguments)


@pytest.mark.parametrize(("successes", "trials"), [(1, 5), (3, 10), (99, 100), (100, 100)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_one_sided_end_is_where_the_upper_tail_is_alpha(
    successes: int, trials: int, alpha: float
) -> None:
    low = clopper_pearson_low(successes, trials, alpha)
    assert binom.sf(successes - 1, trials, low) == pytest.approx(alpha, rel=1e-6)


def test_the_one_sided_end_of_none_or_all_has_its_closed_form() -> None:
    assert clopper_pearson_low(0, 7, 0.01) == 0.0
    assert clopper_pearson_low(7, 7, 0.01) == pytest.approx(0.01 ** (1 / 7))
    assert clopper_pearson_low(0, 0, 0.01) == 0.0


@pytest.mark.parametrize("arguments", [(-1, 2, 0.1), (3, 2, 0.1), (1, 2, 0.0), (1, 2, 1.0)])
def test_the_one_sided_end_refuses_what_is_no_proportion(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="should be in"):
        clopper_pearson_low(*arguments)


@pytest.mark.parametrize(("both", "first", "second"), [(5, 3, 0), (0, 1, 9), (7, 4, 5), (2, 6, 6)])
def test_mcnemar_is_a_sum_of_binomial_weights(both: int, first: int, second: int) -> None:
    a = torch.tensor([True] * (both + first) + [False] * (second + 3))
    b = torch.tensor([True] * both + [False] * first + [True] * second + [False] * 3)
    tosses, least = first + second, min(first, second)
    tail = sum(math.comb(tosses, k) for k in range(least + 1)) / 2**tosses
    assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(a, b) == pytest.approx(binomtest(first, tosses).pvalue)
    assert mcnemar(a, b) == mcnemar(b, a)


def test_classifiers_that_agree_are_not_told_apart() -> None:
    right = torch.tensor([True, False, True])
    assert mcnemar(right, right) == 1.0


def test_mcnemar_wants_pairs_of_booleans() -> None:
    with pytest.raises(ValueError, match="booleans"):
        mcnemar(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="booleans"):
        mcnemar(torch.ones(3), torch.ones(3))


def test_a_paired_difference_is_second_minus_first() -> None:
    first, second = torch.tensor([1.0, 0.0, 3.0]), torch.tensor([2.0, 2.0, 3.5])
    found = paired_difference(first, second)
    assert found.value == pytest.approx(3.5 / 3)
    assert 0.5 <= found.low <= found.value <= found.high <= 2.0


def test_what_makes_images_hard_for_both_does_not_widen_the_interval() -> None:
    hard = 100 * torch.rand(200)
    found = paired_difference(hard, hard + 1.0)
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.0, 1.0))
    alone = bootstrap_mean(hard)
    assert alone[1] - alone[0] > 5


def test_pairs_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="same examples"):
        paired_difference(torch.zeros(3), torch.zeros(4))


@pytest.mark.slow
def test_paired_intervals_hold_the_difference_as_often_as_they_say() -> None:
    held = 0
    for draw in range(300):
        hard = torch.randn(80)
        first, second = hard + torch.randn(80), hard + 0.3 + torch.randn(80)
        found = paired_difference(first, second, resamples=500, seed=draw)
        held += found.low <= 0.3 <= found.high
    assert 0.90 <= held / 300 <= 0.985  # 95 %, less what percentiles lack, and noise


def test_radii_of_mnist_are_those_of_all_and_two_more() -> None:
    assert set(standard_radii("mnist")) == {*RADII, 0.3, 1.58}
    assert standard_radii("fashion_mnist") == RADII
