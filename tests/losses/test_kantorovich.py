"""The HKR losses, against sums written out for each class or example."""

import math

import pytest
import torch

from lipnets import losses

LOGITS = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.1, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


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


def test_soft_hkr_weighs_the_others_by_a_softmax_whose_scale_follows_the_logits() -> None:
    alpha, m, tau = 2.0, 0.4, 3.0
    loss = losses.build("soft_hkr", alpha=alpha, margin=m, temperature=tau)
    rows = LOGITS.tolist()
    scale = tau / max(sum(abs(z) for row in rows for z in row) / 6, m)
    total = 0.0
    for row, y in zip(rows, LABELS.tolist(), strict=True):
        others = [z for j, z in enumerate(row) if j != y]
        chances = [math.exp(scale * z) for z in others]
        weighted = [(c / sum(chances), z) for c, z in zip(chances, others, strict=True)]
        hinges = max(0, m / 2 - row[y]) + sum(w * max(0, m / 2 + z) for w, z in weighted)
        total += sum(w * z for w, z in weighted) - row[y] + alpha * hinges
    assert loss(LOGITS, LABELS).item() == pytest.approx(total / 2, rel=1e-12)


def test_lse_hkr_compares_with_the_smooth_maximum_of_the_others() -> None:
    alpha, m, penalty = 2.0, 0.4, 0.5
    loss = losses.build("lse_hkr", alpha=alpha, margin=m, penalty=penalty)
    t, total = math.log(2) / (penalty * m / 2), 0.0
    for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        n = math.log(sum(math.exp(t * z) for j, z in enumerate(row) if j != y)) / t
        total += n - row[y] + alpha * (max(0, m / 2 - row[y]) + max(0, m / 2 + n))
    assert loss(LOGITS, LABELS).item() == pytest.approx(total / 2, rel=1e-12)


@pytest.mark.parametrize("name", ["soft_hkr", "lse_hkr"])
def test_of_two_classes_the_other_one_is_the_maximum(name: str) -> None:
    loss = losses.build(name, alpha=2.0, margin=1.0)
    value = loss(torch.tensor([[0.2, 0.7]]), torch.tensor([0])).item()
    assert value == pytest.approx(0.7 - 0.2 + 2.0 * ((0.5 - 0.2) + (0.5 + 0.7)), rel=1e-12)


@pytest.mark.parametrize("name", ["hinge_kr", "soft_hkr", "lse_hkr"])
def test_a_radius_gives_the_margin_of_the_mean_slope(name: str) -> None:
    slopes = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])
    by_radius = losses.build(name, radius=0.4)(LOGITS, LABELS, slopes)
    by_margin = losses.build(name, margin=0.4 * 1.5)(LOGITS, LABELS)
    assert by_radius.item() == pytest.approx(by_margin.item(), rel=1e-12)
