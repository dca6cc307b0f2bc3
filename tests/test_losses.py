"""Losses, against sums written out with math.log and math.exp."""

import math

import pytest
import torch

from lipnets import losses

LOGITS = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def cross_entropy(row: list[float], label: int, temperature: float, offset: float) -> float:
    scaled = [(z - offset * (j == label)) / temperature for j, z in enumerate(row)]
    return temperature * (math.log(sum(map(math.exp, scaled))) - scaled[label])


@pytest.mark.parametrize(("temperature", "offset"), [(1.0, 0.0), (0.25, 0.0), (0.5, 0.7)])
def test_cross_entropy_takes_the_offset_from_the_true_logit_and_scales(
    temperature: float, offset: float
) -> None:
    loss = losses.build("cross_entropy", temperature=temperature, offset=offset)
    rows = zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    expected = sum(cross_entropy(row, label, temperature, offset) for row, label in rows) / 2
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_of_cross_entropy_keep_their_scale_at_any_temperature() -> None:
    """Far on the wrong side the gradient of a logit is 1 over the size of the batch."""
    logits = torch.tensor([[0.0, 50.0]], dtype=torch.float64, requires_grad=True)
    for temperature in (0.01, 0.1, 1.0):
        loss = losses.build("cross_entropy", temperature=temperature)(logits, torch.tensor([0]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.allclose(gradient, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))


def test_cold_cross_entropy_is_the_hinge() -> None:
    """At temperature t it is above the hinge by t log K at most."""
    loss = losses.build("cross_entropy", temperature=1e-3, offset=0.5)
    hinges = [max(0.0, 0.3 - 1.0 + 0.5), max(0.0, 2.0 - 0.1 + 0.5)]
    assert 0 <= loss(LOGITS, LABELS).item() - sum(hinges) / 2 <= 1e-3 * math.log(3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="'temperature' should be positive"):
        losses.build("cross_entropy", temperature=temperature)


def test_multi_margin_is_the_mean_of_hinges_over_classes() -> None:
    loss = losses.build("multi_margin", margin=1.0)
    first = max(0, -0.5 - 1.0 + 1) + max(0, 0.3 - 1.0 + 1)
    second = max(0, 0.2 - 0.1 + 1) + max(0, 2.0 - 0.1 + 1)
    assert loss(LOGITS, LABELS).item() == pytest.approx((first + second) / 3 / 2, rel=1e-12)


def test_hinge_kr_adds_up_hinges_and_differences_of_means() -> None:
    loss = losses.build("hinge_kr", alpha=2.0, margin=1.0)
    total = 0.0
    for k in range(3):
        inside = [row[k] for row, y in zip(LOGITS.tolist(), [0, 1], strict=True) if y == k]
        outside = [row[k] for row, y in zip(LOGITS.tolist(), [0, 1], strict=True) if y != k]
        hinges = [max(0.0, 0.5 - z) for z in inside] + [max(0.0, 0.5 + z) for z in outside]
        total += 2.0 * sum(hinges) / 2
        if inside and outside:
            total -= sum(inside) / len(inside) - sum(outside) / len(outside)
    assert loss(LOGITS, LABELS).item() == pytest.approx(total / 3, rel=1e-12)


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_rewards_margins_and_keeps_the_dtype(name: str) -> None:
    loss = losses.build(name)
    good = torch.nn.functional.one_hot(LABELS, 3).to(torch.float32)
    slopes = 1.5 * (1 - torch.eye(3))
    assert loss(good, LABELS, slopes) < loss(-good, LABELS, slopes)
    assert loss(good, LABELS, slopes).dtype == torch.float32
    assert loss(good, LABELS, slopes).shape == ()
