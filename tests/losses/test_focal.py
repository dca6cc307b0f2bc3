"""Focal losses, against sums written out with math.log and math.exp."""

import math

import pytest
import torch

from lipnets import losses

LOGITS = [[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]]
LABELS = [0, 1]


def annealed(power: float, temperature: float, offset: float) -> float:
    total = 0.0
    for row, y in zip(LOGITS, LABELS, strict=True):
        powers = [math.exp((z - offset * (j == y)) / temperature) for j, z in enumerate(row)]
        p = powers[y] / sum(powers)
        total -= temperature * (1 - p) ** power * math.log(p)
    return total / 2


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
def test_focal_weighs_cross_entropies_by_what_is_missing_to_certainty(power: float) -> None:
    loss = losses.build("focal", gamma=power, temperature=0.5, offset=0.7)
    value = loss(torch.tensor(LOGITS), torch.tensor(LABELS)).item()
    assert value == pytest.approx(annealed(power, 0.5, 0.7), rel=1e-12)


def test_logit_annealing_has_the_constants_of_its_paper() -> None:
    value = losses.build("logit_annealing")(torch.tensor(LOGITS), torch.tensor(LABELS)).item()
    assert value == pytest.approx(annealed(5.0, 0.75, 2.0), rel=1e-12)


def test_gradients_stay_finite_where_certainty_rounds_to_one() -> None:
    """(1 − p)^γ has no derivative at p = 1 for γ < 1, where p of float32 rounds to."""
    logits = torch.tensor([[60.0, 0.0]], dtype=torch.float32, requires_grad=True)
    losses.build("focal", gamma=0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
