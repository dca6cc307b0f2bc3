"""Tests of single steps of an ascent, on functions whose values and gradients are known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipnets.attacks._ascent import Objective, Rows, Tally
from lipnets.attacks._losses import LOSSES
from lipnets.attacks._search import _Hunt


class Given(nn.Module):
    """Gives the same logits whatever it is shown."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, points: Tensor) -> Tensor:
        return self.logits + 0 * points.sum()


def hill(points: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """−‖x − ½‖², largest in the middle of the box."""
    away = points - 0.5
    return -away.square().sum(dim=1), -2 * away, torch.zeros(len(points), dtype=torch.bool)


def rows(start: Tensor, radius: float = 0.2) -> Rows:
    count, owners = len(start), torch.arange(len(start))
    objective: Any = hill
    return Rows.begin(
        *(objective, "l2", owners, start, start.clone(), owners, owners),
        radii=torch.full((count,), radius),
        noise=torch.ones_like(start),
    )


def test_losses_are_of_logits_over_the_scale() -> None:
    logits, labels = torch.tensor([[4.0, 2.0, -2.0], [0.0, 6.0, 2.0]]), torch.tensor([0, 2])
    objective = Objective(Given(logits), LOSSES["ce"], 2.0, Tally())
    values, _, wrong = objective(torch.rand(2, 5), labels, labels)
    torch.testing.assert_close(values, F.cross_entropy(logits / 2, labels, reduction="none"))
    assert wrong.tolist() == [False, True]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_wrong_even_for_their_own_label(broken: float) -> None:
    logits = torch.tensor([[broken, 0.0], [1.0, 0.0]])  # argmax names class 0 in both rows
    objective = Objective(Given(logits), LOSSES["ce"], 1.0, Tally())
    labels = torch.tensor([0, 0])
    assert objective(torch.rand(2, 5), labels, labels)[2].tolist() == [True, False]


def test_the_best_point_stays_when_a_step_leads_down() -> None:
    top = torch.full((1, 4), 0.5)
    state = rows(top)
    objective: Any = hill
    state.advance(objective, "l2", 0)
    assert state.values[0] < state.best_values[0] == 0
    assert torch.equal(state.best, top)
    assert not torch.equal(state.points, top)
    assert torch.equal(state.best_gradients, torch.zeros(1, 4))


def test_steps_that_rose_too_seldom_are_halved_and_go_back_to_the_best() -> None:
    state = rows(torch.full((2, 4), 0.4))
    state.rises = torch.tensor([7.0, 8.0])  # of ten: three quarters are enough
    state.marks = state.best_values - 1  # neither is stuck
    state.best, state.points = torch.full((2, 4), 0.5), torch.full((2, 4), 0.3)
    before = state.sizes.clone()
    state.halve(10)
    assert torch.equal(state.sizes, before * torch.tensor([0.5, 1.0]))
    assert torch.equal(state.points, torch.tensor([0.5, 0.3])[:, None].expand(2, 4))
    assert state.rises.tolist() == [0, 0]


def test_of_images_that_stay_the_point_of_the_largest_loss_is_kept() -> None:
    centers = torch.full((2, 3), 0.5, dtype=torch.float64)
    hunt: Any = SimpleNamespace(
        centers=centers,
        radii=torch.ones(2, dtype=torch.float64),
        norm="l2",
        values=torch.tensor([0.0, 5.0], dtype=torch.float64),
        images=centers.clone(),
    )
    found: Any = SimpleNamespace(
        owners=torch.tensor([0, 1]), best_values=torch.tensor([1.0, 3.0]), best=centers + 0.1
    )
    _Hunt._note(hunt, found)
    assert hunt.values.tolist() == [1, 5]
    torch.testing.assert_close(hunt.images[0], centers[0] + 0.1)
    assert torch.equal(hunt.images[1], centers[1])
