"""gloro, TRADES and EMMA, against sums written out for each example."""

import math

import pytest
import torch

from lipnets import losses

LOGITS = [[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]]
LABELS = [0, 1]
SLOPES = [[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]]
RADIUS, TEMPERATURE = 0.25, 0.5


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(z / TEMPERATURE) for z in row)
    return [math.exp(z / TEMPERATURE) / total for z in row]


def bottom(row: list[float]) -> float:
    first = row.index(max(row))
    return max(z + RADIUS * SLOPES[first][j] for j, z in enumerate(row) if j != first)


def value(name: str, **arguments: float) -> float:
    loss = losses.build(name, radius=RADIUS, temperature=TEMPERATURE, **arguments)
    return loss(torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(SLOPES)).item()


def test_gloro_is_the_cross_entropy_with_a_bottom_class() -> None:
    chances = [softmax([*row, bottom(row)])[y] for row, y in zip(LOGITS, LABELS, strict=True)]
    expected = -TEMPERATURE * sum(map(math.log, chances)) / 2
    assert value("gloro") == pytest.approx(expected, rel=1e-12)


def test_trades_adds_the_divergence_of_distributions_with_and_without_the_bottom_class() -> None:
    total = 0.0
    for row, y in zip(LOGITS, LABELS, strict=True):
        plain, joined = softmax(row), softmax([*row, bottom(row)])
        divergence = sum(p * math.log(p / q) for p, q in zip(plain, joined[:-1], strict=True))
        total += TEMPERATURE * (-math.log(plain[y]) + 1.7 * divergence)
    assert value("trades", weight=1.7) == pytest.approx(total / 2, rel=1e-12)


def test_trades_of_weight_1_is_gloro() -> None:
    assert value("trades", weight=1.0) == pytest.approx(value("gloro"), rel=1e-12)


def test_emma_asks_of_each_class_for_the_margin_that_is_there_within_limits() -> None:
    total = 0.0
    for row, y in zip(LOGITS, LABELS, strict=True):
        asked = []
        for j, z in enumerate(row):
            reached = (row[y] - z) / SLOPES[y][j] if j != y else 0.0
            asked.append(z + min(max(reached, 0.01 * RADIUS), RADIUS) * SLOPES[y][j])
        total -= TEMPERATURE * math.log(softmax(asked)[y])
    assert value("emma") == pytest.approx(total / 2, rel=1e-12)


def test_emma_takes_the_radii_that_it_asks_for_as_constants() -> None:
    """With p the softmax of z + εs, gradients are p − e in logits and εp in slopes, for ε within."""
    logits = torch.tensor([[1.0, 0.9]], requires_grad=True)
    slopes = torch.tensor([[0.0, 2.0], [2.0, 0.0]], requires_grad=True)
    loss = losses.build("emma", radius=0.25)(logits, torch.tensor([0]), slopes)
    loss.backward()
    epsilon = 0.1 / 2.0  # reached, below 0.25: both logits of the softmax are equal then
    assert logits.grad is not None
    assert slopes.grad is not None
    assert torch.allclose(logits.grad, torch.tensor([[-0.5, 0.5]]))
    assert slopes.grad[0, 1].item() == pytest.approx(0.5 * epsilon)


def test_bottom_has_the_largest_logit_where_the_radius_is_not_certified() -> None:
    """At temperature 0, gloro is the part of what is missing to certify a prediction that is right."""
    loss = losses.build("gloro", radius=0.25, temperature=1e-3)
    slopes = torch.tensor(SLOPES)
    for margin, missing in ((0.2, 0.05), (0.3, 0.0)):
        logits = torch.tensor([[1.0, 1.0 - margin, -9.0]])
        assert loss(logits, torch.tensor([0]), slopes).item() == pytest.approx(missing, abs=1e-6)
