"""Losses that read the Lipschitz constant of the network as it is, and so train it.

References:
    | Globally-Robust Neural Networks (Leino, Wang & Fredrikson, 2021)
    | https://arxiv.org/abs/2102.08452: the bottom class, and its combination with TRADES
    | Unlocking Deterministic Robustness Certification on ImageNet (Hu et al., 2023)
    | https://arxiv.org/abs/2301.12549: EMMA

What differs: the temperature, 1 in the papers, follows the radius unless it is given, so that losses
fit networks of any constant; the slopes are estimates that `MarginSlopes` gives, of which a step of power iteration
is taken in each step of training; the radius stays what it is, where the code of EMMA
(https://github.com/hukkai/liresnet) lets it grow from 0.1 × 36/255 to 3 × 36/255 in the course of
training.
"""

__all__ = ["emma", "gloro", "trades"]

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._loss import Loss, needing_slopes
from ._margin import Margin, temperatures, without_true
from ._registry import registry


@registry.register
def gloro(radius: float = 108 / 255, temperature: float | None = None) -> Loss:
    """Builds the cross-entropy with a further class ⊥, of images whose radius is too small.

    With the predicted class ŷ and the slopes s,

        z_⊥ = maxⱼ (zⱼ + r s_ŷⱼ) over j ≠ ŷ,    ℓ(z, y) = −t log softmax((z, z_⊥) / t)ᵧ:

    ⊥ has the largest logit where ŷ is not certified at radius r.

    Arguments:
        radius: The radius r to train for, ℓ2 in [0, 1] pixels.
        temperature: The temperature t, in logits; by default 0.3 r times the mean slope, 1
            at most.

    Raises:
        ValueError: If the radius or the temperature is not positive.
    """
    _check(radius, temperature)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        bottom = _bottom(logits, slopes, radius)
        joined = torch.cat([logits, bottom[:, None]], dim=1)  # (B, K + 1)
        t, constant = temperatures(temperature, radius, slopes)
        return F.cross_entropy(joined / t, labels) * constant

    return needing_slopes(loss)


@registry.register
def trades(
    radius: float = 108 / 255, weight: float = 1.0, temperature: float | None = None
) -> Loss:
    """Builds the cross-entropy with a penalty for what the class ⊥ of `gloro` takes away.

    With p the softmax of z / t, and p̃ that of (z, z_⊥) / t,

        ℓ(z, y) = −t log pᵧ + λ t KL(p ‖ p̃),    KL(p ‖ p̃) = −log(1 − p̃_⊥),

    as p̃ = (1 − p̃_⊥) p on the K classes; with λ = 1 this is `gloro`, for −log p̃ᵧ is the sum of both.

    Arguments:
        radius: The radius r to train for, ℓ2 in [0, 1] pixels.
        weight: The weight λ of the penalty: larger trades clean accuracy for radii.
        temperature: The temperature t, in logits; by default 0.3 r times the mean slope, 1
            at most.

    Raises:
        ValueError: If the radius or the temperature is not positive, or the weight negative.
    """
    _check(radius, temperature)
    if not 0 <= weight < math.inf:
        raise ValueError(f"'weight' should not be negative, got {weight}.")

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        t, constant = temperatures(temperature, radius, slopes)
        bottom, logits = _bottom(logits, slopes, radius) / t, logits / t
        divergence = F.softplus(bottom - logits.logsumexp(dim=1)).mean()
        return (F.cross_entropy(logits, labels) + weight * divergence) * constant

    return needing_slopes(loss)


@registry.register
def emma(radius: float = 108 / 255, temperature: float | None = None) -> Loss:
    """Builds the EMMA loss: against every class, the margin asked for is not out of reach.

    With εⱼ = clamp((zᵧ − zⱼ) / sᵧⱼ, r/100, r), taken as a constant,

        ℓ(z, y) = −t log softmax((z + ε sᵧ) / t)ᵧ.

    The gradient goes through the slopes sᵧ, which thus shrink.

    Arguments:
        radius: The radius r to train for, ℓ2 in [0, 1] pixels.
        temperature: The temperature t, in logits; by default 0.3 r times the mean slope, 1
            at most.

    Raises:
        ValueError: If the radius or the temperature is not positive.
    """
    _check(radius, temperature)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        own = slopes[labels]  # (B, K)
        margins = logits.gather(1, labels[:, None]) - logits
        epsilon = (margins / own.clamp_min(1e-8)).clamp(0.01 * radius, radius).detach()
        t, constant = temperatures(temperature, radius, slopes)
        return F.cross_entropy((logits + epsilon * own) / t, labels) * constant

    return needing_slopes(loss)


def _bottom(logits: Tensor, slopes: Tensor, radius: float) -> Tensor:
    """The logit of ⊥, with shape (B,); −∞ if there is one class."""
    predicted = logits.argmax(dim=1)
    reached = logits + radius * slopes[predicted]
    return without_true(reached, predicted, -math.inf).amax(dim=1)


def _check(radius: float, temperature: float | None) -> None:
    if temperature is not None and not temperature > 0:
        raise ValueError(f"'temperature' should be positive, got {temperature}.")
    Margin("margin", None, radius, default=0.0)
