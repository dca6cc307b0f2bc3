"""Cross-entropies, against sums written out with math.log and math.exp."""

import math

import pytest
import torch

from lipnets import losses

LOGITS = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])
ROWS = list(zip(LOGITS.tolist(), LABELS.tolist(), strict=True))
SLOPES = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]], dtype=torch.float64)
TEMPERATURE = 0.3  # over the margin, for losses that are given a radius


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


def by_radius(row: list[float], label: int, temperature: float) -> float:
    """What a radius of 0.4 asks for."""
    asked = [z + 0.4 * slope for z, slope in zip(row, SLOPES[label].tolist(), strict=True)]
    return cross_entropy(asked, label, temperature, 0.0)


def mean_loss(loss: losses.Loss) -> float:
    return loss(LOGITS, LABELS, SLOPES).item()


def test_a_radius_sets_the_offset_of_each_pair_and_a_temperature() -> None:
    temperature = TEMPERATURE * 0.4 * 1.5  # of the mean slope
    expected = [by_radius(row, y, temperature) for row, y in ROWS]
    value = mean_loss(losses.build("cross_entropy", radius=0.4))
    assert value == pytest.approx(sum(expected) / 2, rel=1e-12)


def test_the_temperature_of_a_radius_is_one_at_most() -> None:
    loss, large = losses.build("cross_entropy", radius=0.4), 10 * SLOPES
    rows = [[z + 4.0 * s for z, s in zip(row, SLOPES[y].tolist(), strict=True)] for row, y in ROWS]
    expected = sum(cross_entropy(row, y, 1.0, 0.0) for row, (_, y) in zip(rows, ROWS, strict=True))
    assert loss(LOGITS, LABELS, large).item() == pytest.approx(expected / 2, rel=1e-12)


def test_what_is_given_beside_a_radius_is_kept() -> None:
    warm = mean_loss(losses.build("cross_entropy", temperature=2.0, radius=0.4))
    expected = [by_radius(row, y, 2.0) for row, y in ROWS]
    assert warm == pytest.approx(sum(expected) / 2, rel=1e-12)
    fixed = mean_loss(losses.build("cross_entropy", offset=0.7, radius=0.4))
    expected = [cross_entropy(row, y, TEMPERATURE * 0.4 * 1.5, 0.7) for row, y in ROWS]
    assert fixed == pytest.approx(sum(expected) / 2, rel=1e-12)


def test_certificate_regularization_rewards_radii_of_images_that_are_classified_right() -> None:
    regular = losses.build("certificate_regularization", gamma=0.3, temperature=0.5, offset=0.7)
    plain = losses.build("cross_entropy", temperature=0.5, offset=0.7)
    reward = 0.3 * (1.0 - 0.3) / math.sqrt(2) / 2  # of two images, the other one is wrong
    assert mean_loss(regular) == pytest.approx(mean_loss(plain) - reward, rel=1e-12)
