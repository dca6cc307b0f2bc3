"""Losses from optimal transport: they push logits apart, and hinges hold them to a margin.

References:
    | Achieving robustness in classification using optimal transport with hinge regularization
    | (Serrurier et al., 2021) https://arxiv.org/abs/2006.06520: HKR
    | On the explainable properties of 1-Lipschitz Neural Networks: An Optimal Transport Perspective
    | (Serrurier et al., 2023) https://arxiv.org/abs/2206.06854: SoftHKR
    | https://github.com/deel-ai/deel-torchlip, SoftHKRMulticlassLoss and LseHKRMulticlassLoss: the
    | second is in code only

What differs: there, a number α' in [0, 1] weighs the hinge and 1 − α' the rest; here the rest has
weight 1 and α = α' / (1 − α'), which multiplies the loss by 1 / (1 − α').  The softmax of SoftHKR
follows the logits of the batch, there a moving average of batches, and is of their quotient by it,
there times the margin (1 by default) and clamped: so units cancel.  LseHKR has no factor of logits
beside its margin, and takes two classes, where that code divides by log 1.
"""

__all__ = ["hinge_kr", "lse_hkr", "soft_hkr"]

import math

import torch.nn.functional as F
from torch import Tensor

from ._loss import Loss
from ._margin import Margin, without_true
from ._registry import registry


@registry.register
def hinge_kr(alpha: float = 10.0, margin: float | None = None, radius: float | None = None) -> Loss:
    """Builds the hinge-regularized Kantorovich–Rubinstein loss, one class against the others.

    With sₖ = 1 where the label is k and −1 elsewhere, and means over the examples of each side,

        ℓ = 1/K ∑ₖ [α mean (m/2 − sₖ zₖ)₊ − (mean of zₖ at k − mean of zₖ elsewhere)].

    A class that is absent from the batch, or alone in it, has no second term.

    Arguments:
        alpha: The weight α of the hinge.
        margin: The distance m asked for between both sides, in logits; 1 if neither it nor a radius
            is given.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: m is its product with the mean slope.

    Raises:
        ValueError: If the radius is not positive, or it and a margin are given.
    """
    asked = Margin.either("margin", margin, radius, default=1.0)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        m = asked.typical(slopes)
        true = F.one_hot(labels, logits.shape[1]).to(logits.dtype)  # (B, K)
        hinge = F.relu(m / 2 - (2 * true - 1) * logits).mean(dim=0)  # (K,)
        inside, outside = true.sum(dim=0), (1 - true).sum(dim=0)
        gap = (true * logits).sum(dim=0) / inside.clamp_min(1)
        gap = gap - ((1 - true) * logits).sum(dim=0) / outside.clamp_min(1)
        gap = gap.where((inside > 0) & (outside > 0), 0)
        return asked.scaled((alpha * hinge - gap).mean(), slopes)

    return Loss(loss, asked.needs_slopes)


@registry.register
def soft_hkr(
    alpha: float = 10.0,
    margin: float | None = None,
    temperature: float = 1.0,
    radius: float | None = None,
) -> Loss:
    """Builds the HKR loss of the true class against a soft maximum of the others.

    With the mean a of |z| over the batch, taken as a constant, and w = softmax(τ z / max(a, m)) over
    j ≠ y,

        ℓ(z, y) = ∑ⱼ wⱼ zⱼ − zᵧ + α [(m/2 − zᵧ)₊ + ∑ⱼ wⱼ (m/2 + zⱼ)₊].

    Arguments:
        alpha: The weight α of the hinge.
        margin: The distance m asked for, in logits; 1 if neither it nor a radius is given.
        temperature: The factor τ: larger attends to the largest of the other logits.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: m is its product with the mean slope.

    Raises:
        ValueError: If τ, the margin or the radius is not positive, or both of these are given.
    """
    if not temperature > 0:
        raise ValueError(f"'temperature' should be positive, got {temperature}.")
    asked = _positive(margin, radius)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        m = asked.typical(slopes)
        true = logits.gather(1, labels[:, None])[:, 0]
        ones = F.relu(m / 2 - true)
        if logits.shape[1] == 1:
            return asked.scaled((alpha * ones - true).mean(), slopes)
        spread = logits.abs().mean().maximum(m).detach()
        weights = without_true(temperature * logits / spread, labels, -math.inf).softmax(dim=1)
        hinges = ones + (weights * F.relu(m / 2 + logits)).sum(dim=1)
        value = ((weights * logits).sum(dim=1) - true + alpha * hinges).mean()
        return asked.scaled(value, slopes)

    return Loss(loss, asked.needs_slopes)


@registry.register
def lse_hkr(
    alpha: float = 10.0,
    margin: float | None = None,
    penalty: float = 1.0,
    radius: float | None = None,
) -> Loss:
    """Builds the HKR loss of the true class against a smooth maximum of the others.

    With t = log(K − 1) / (λ m / 2) and n = 1/t log ∑ⱼ exp(t zⱼ) over j ≠ y, which is between their
    maximum and that plus λ m / 2,

        ℓ(z, y) = n − zᵧ + α [(m/2 − zᵧ)₊ + (m/2 + n)₊].

    Arguments:
        alpha: The weight α of the hinge.
        margin: The distance m asked for, in logits; 1 if neither it nor a radius is given.
        penalty: The factor λ of what the smooth maximum may exceed the maximum by, positive.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: m is its product with the mean slope.

    Raises:
        ValueError: If λ, the margin or the radius is not positive, or both of these are given.
    """
    if not penalty > 0:
        raise ValueError(f"'penalty' should be positive, got {penalty}.")
    asked = _positive(margin, radius)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        m, others = asked.typical(slopes), logits.shape[1] - 1
        true = logits.gather(1, labels[:, None])[:, 0]
        ones = F.relu(m / 2 - true)
        if others == 0:
            return asked.scaled((alpha * ones - true).mean(), slopes)
        # Of one number, the smooth maximum is that number at any t.
        t = math.log(max(others, 2)) / (penalty * m / 2)
        largest = without_true(t * logits, labels, -math.inf).logsumexp(dim=1) / t  # (B,)
        value = (largest - true + alpha * (ones + F.relu(m / 2 + largest))).mean()
        return asked.scaled(value, slopes)

    return Loss(loss, asked.needs_slopes)


def _positive(margin: float | None, radius: float | None) -> Margin:
    if margin is not None and not margin > 0:
        raise ValueError(f"'margin' should be positive, got {margin}.")
    return Margin.either("margin", margin, radius, default=1.0)
