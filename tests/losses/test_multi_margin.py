"""The multi-class hinge, against sums of hinges."""

import pytest
import torch

from lipnets import losses

LOGITS = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def test_multi_margin_is_the_mean_of_hinges_over_classes() -> None:
    loss = losses.build("multi_margin", margin=1.0)
    first = max(0, -0.5 - 1.0 + 1) + max(0, 0.3 - 1.0 + 1)
    second = max(0, 0.2 - 0.1 + 1) + max(0, 2.0 - 0.1 + 1)
    assert loss(LOGITS, LABELS).item() == pytest.approx((first + second) / 3 / 2, rel=1e-12)


def test_multi_margin_is_that_of_torch() -> None:
    logits, labels = torch.randn(7, 5), torch.randint(5, (7,))
    expected = torch.nn.functional.multi_margin_loss(logits, labels, margin=0.7)
    assert torch.allclose(losses.build("multi_margin", margin=0.7)(logits, labels), expected)


def test_a_radius_asks_for_the_margin_of_each_pair() -> None:
    """Where all images are certified at the radius, and one of them barely, nothing is missing."""
    loss = losses.build("multi_margin", radius=0.25)
    slopes = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])
    assert loss(torch.tensor([[1.0, 0.75, 0.5]]), torch.tensor([0]), slopes) == 0
    missing = loss(torch.tensor([[1.0, 0.85, 0.7]]), torch.tensor([0]), slopes)
    assert missing.item() == pytest.approx((0.1 + 0.2) / 3)
