"""Tests of calibration: against closed forms, loops and a grid of temperatures."""

import math

import pytest
import torch

from lipnets.metrics import (
    brier,
    calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihoods,
    reliability,
)


def sure(confidence: float, count: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two classes with a given confidence in class 0, of which some are right."""
    logits = torch.tensor([[math.log(confidence / (1 - confidence)), 0.0]]).repeat(count, 1)
    return logits, (torch.arange(count) >= right).long()


def test_the_calibration_error_is_that_of_known_confidences() -> None:
    first, second = sure(0.9, 10, 7), sure(0.6, 30, 21)
    logits, labels = (torch.cat(pair) for pair in zip(first, second, strict=True))
    expected = (10 * abs(0.9 - 0.7) + 30 * abs(0.6 - 0.7)) / 40
    for adaptive in (False, True):
        found = reliability(logits, labels, bins=2 if adaptive else 10, adaptive=adaptive)
        assert calibration_error(found) == pytest.approx(expected)
        assert found.count == (30, 10)
        assert found.confidence == pytest.approx((0.6, 0.9))
        assert found.accuracy == pytest.approx((0.7, 0.7))


def test_bins_agree_with_a_loop() -> None:
    logits, labels = 3 * torch.randn(200, 4), torch.randint(4, (200,))
    total = 0.0
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    confidence, chosen = probabilities.max(dim=1)
    for m in range(1, 16):
        held = [i for i in range(200) if (m - 1) / 15 < confidence[i] <= m / 15]
        if held:
            share = sum(chosen[i] == labels[i] for i in held) / len(held)
            total += len(held) / 200 * abs(share - confidence[held].mean())
    assert calibration_error(reliability(logits, labels)) == pytest.approx(float(total))


def test_adaptive_bins_hold_as_many_images_each_and_equal_confidences_together() -> None:
    logits, labels = torch.randn(90, 5), torch.randint(5, (90,))
    counts = reliability(logits, labels, bins=9, adaptive=True).count
    assert counts == (10,) * 9
    logits, labels = sure(0.8, 12, 6)
    assert reliability(logits, labels, bins=4, adaptive=True).count == (12,)


def test_what_is_right_does_not_depend_on_the_temperature() -> None:
    """The two largest numbers below 2 are one number when both are divided by 1.7."""
    below = math.nextafter(2.0, 0.0)
    logits = torch.tensor([[math.nextafter(below, 0.0), below]])
    assert len(set((logits / 1.7)[0].tolist())) == 1
    assert reliability(logits, torch.tensor([1]), 1.7).accuracy == (1.0,)


def test_a_single_class_is_calibrated() -> None:
    logits, labels = torch.randn(5, 1), torch.zeros(5, dtype=torch.int64)
    assert calibration_error(reliability(logits, labels)) == 0.0
    assert brier(logits, labels) == 0.0


def test_likelihood_and_brier_have_their_closed_forms() -> None:
    logits, labels = sure(0.8, 4, 3)
    losses = negative_log_likelihoods(logits, labels).tolist()
    assert losses == pytest.approx([-math.log(0.8)] * 3 + [-math.log(0.2)])
    assert brier(logits, labels) == pytest.approx((3 * 2 * 0.2**2 + 2 * 0.8**2) / 4)
    uniform = torch.zeros(2, 4)
    assert brier(uniform, torch.tensor([0, 3])) == pytest.approx(0.75**2 + 3 * 0.25**2)


def test_probabilities_are_computed_in_double_precision() -> None:
    logits = torch.tensor([[40.0, 0.0]], dtype=torch.float32)
    loss = negative_log_likelihoods(logits, torch.tensor([0])).item()
    assert loss == pytest.approx(math.exp(-40), rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite logits"):
        log_probabilities(torch.tensor([[0.0, bad]]))
    with pytest.raises(ValueError, match="finite logits"):
        log_probabilities(torch.zeros(0, 2))


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_best_temperature_undoes_the_scale_of_logits(factor: float) -> None:
    """Of two classes with one gap the best probability is the share that is right."""
    logits, labels = sure(0.75, 100, 90)
    expected = math.log(0.75 / 0.25) / math.log(0.9 / 0.1)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * expected, rel=1e-9)


def test_the_best_temperature_is_best_on_a_grid() -> None:
    logits, labels = 4 * torch.randn(300, 5), torch.randint(5, (300,))
    labels = torch.where(torch.rand(300) < 0.6, logits.argmax(dim=1), labels)
    best = fit_temperature(logits, labels)
    least = negative_log_likelihoods(logits, labels, best).mean()
    for factor in torch.linspace(-1, 1, 41).exp().tolist():
        assert negative_log_likelihoods(logits, labels, best * factor).mean() >= least - 1e-12


def test_logits_that_tell_nothing_or_everything_have_an_end_of_the_search() -> None:
    labels = torch.tensor([0, 1])
    assert fit_temperature(torch.zeros(2, 2), labels) == 1.0
    assert fit_temperature(torch.eye(2), labels, largest=100.0) == pytest.approx(0.5 / 100)
    assert fit_temperature(-torch.eye(2), labels, largest=100.0) == pytest.approx(0.5 * 100)
