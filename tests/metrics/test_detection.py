"""Tests of scores that tell known from unknown: against scikit-learn, closed forms and counting."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from lipnets.metrics import separation


def curve(known: torch.Tensor, unknown: torch.Tensor) -> float:
    truth = [1] * len(known) + [0] * len(unknown)
    return float(roc_auc_score(truth, torch.cat([known, unknown]).numpy()))


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_the_area_is_that_of_scikit_learn(levels: int) -> None:
    known = torch.randint(levels, (70,)).double() + 0.2 * levels
    unknown = torch.randint(levels, (45,)).double()
    if levels < 20:
        known = known.round()
    found = separation(known, unknown, resamples=10)
    assert found.auroc == pytest.approx(curve(known, unknown), abs=1e-12)


def test_ties_count_half() -> None:
    same = torch.zeros(4)
    assert separation(same, same, resamples=5).auroc == 0.5
    assert separation(torch.tensor([1.0, 0.0]), torch.tensor([0.0]), resamples=5).auroc == 0.75


def test_the_direction_is_high_for_known() -> None:
    high, low = torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])
    assert separation(high, low, resamples=5).auroc == 1.0
    assert separation(low, high, resamples=5).auroc == 0.0
    assert separation(high, low, resamples=5).fpr == 0.0
    assert separation(low, high, resamples=5).fpr == 1.0


def test_false_alarms_are_counted_at_the_largest_threshold_that_enough_known_images_reach() -> None:
    known = torch.arange(1.0, 21.0)  # 19 of 20 are at 2 or above
    unknown = torch.tensor([0.0, 1.0, 1.5, 2.0, 2.5])
    assert separation(known, unknown, resamples=5).fpr == 2 / 5
    # Of 21, 19 are 90.5 %: 20 are needed, hence the threshold 1.
    known = torch.cat([known, torch.tensor([0.0])])
    assert separation(known, unknown, resamples=5).fpr == 4 / 5


def test_a_share_that_is_a_whole_number_of_images_needs_no_more_of_them() -> None:
    assert 0.55 * 100 > 55  # in floats
    known, unknown = torch.arange(1.0, 101.0), torch.tensor([44.5, 45.5, 46.5])
    found = separation(known, unknown, level=0.55, resamples=5)  # 55 are at 46 or above
    assert found.fpr == pytest.approx(1 / 3)


def test_false_alarms_agree_with_trying_every_threshold() -> None:
    known, unknown = torch.randint(12, (33,)).double() + 3, torch.randint(12, (40,)).double()
    passing = [t for t in known.tolist() if (known >= t).double().mean() >= 0.95]
    expected = (unknown >= max(passing)).double().mean().item()
    assert separation(known, unknown, resamples=5).fpr == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="of unknown image 1"):
        separation(torch.zeros(3), torch.tensor([0.0, bad]))


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="known images"):
        separation(torch.zeros(0), torch.zeros(3))


def test_the_interval_is_that_of_the_variance_of_the_statistic() -> None:
    """The variance by placements (DeLong et al., 1988), of which the bootstrap knows nothing."""
    known, unknown = torch.randn(400) + 1, torch.randn(300)
    wins = (known[:, None] > unknown).double()
    variance = wins.mean(dim=1).var() / 400 + wins.mean(dim=0).var() / 300
    found = separation(known, unknown)
    for end, sign in zip(found.auroc_ends, (-1, 1), strict=True):
        expected = found.auroc + sign * 1.96 * math.sqrt(variance)
        assert end == pytest.approx(expected, abs=0.15 * math.sqrt(variance))


def test_the_interval_of_false_alarms_varies_with_both_sides() -> None:
    known, unknown = torch.randn(60) + 1, torch.randn(60)
    low, high = separation(known, unknown, resamples=400).fpr_ends
    assert low < separation(known, unknown, resamples=5).fpr < high


def test_it_is_repeatable_and_leaves_the_random_state_alone() -> None:
    known, unknown = torch.randn(50) + 1, torch.randn(50)
    state = torch.get_rng_state()
    first = separation(known, unknown, resamples=100)
    assert torch.equal(torch.get_rng_state(), state)
    assert separation(known, unknown, resamples=100) == first
