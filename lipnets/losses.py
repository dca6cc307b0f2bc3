"""Losses: functions of logits and labels that ask for margins.

A network of constant L classifies at radius r what it classifies with margin √2 L r, so a loss for
certified networks must say how large a margin it asks for.  Builders take that wish and return the
loss, a function of logits (B, K) and labels (B,) whose value is the mean over the batch.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160: offset and temperature
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li et al., 2019) https://arxiv.org/abs/1911.00937: the multi-class hinge
    | Achieving robustness in classification using optimal transport with hinge regularization
    | (Serrurier et al., 2021) https://arxiv.org/abs/2006.06520: HKR
"""

__all__ = ["Loss", "build", "cross_entropy", "hinge_kr", "multi_margin", "names", "registry"]

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from .registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (B, K), labels (B,) -> scalar

registry: Registry[Loss] = Registry("loss")
build, names = registry.build, registry.names


@registry.register
def cross_entropy(temperature: float = 1.0, offset: float = 0.0) -> Loss:
    """Builds the cross-entropy of logits from which a margin was taken.

    With t the temperature, o the offset and p = softmax((z − o eᵧ) / t),

        ℓ(z, y) = −t log pᵧ.

    The factor t keeps gradients, p − eᵧ, at the scale they have at t = 1.  As t → 0 the loss tends
    to the hinge (maxⱼ zⱼ − zᵧ + o)₊ over j ≠ y.

    Arguments:
        temperature: The temperature t, in logits, positive: smaller trades clean accuracy for
            margins.
        offset: The margin o asked for, in logits: √2 L r asks for radius r of a network whose
            constant is L.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"'temperature' should be positive, got {temperature}.")

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        true = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return F.cross_entropy((logits - offset * true) / temperature, labels) * temperature

    return loss


@registry.register
def multi_margin(margin: float = 1.0) -> Loss:
    """Builds the multi-class hinge, ℓ(z, y) = 1/K ∑ⱼ (zⱼ − zᵧ + m)₊ over j ≠ y.

    Arguments:
        margin: The margin m above which a class adds nothing, in logits: √2 L r asks for radius r
            of a network whose constant is L.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.multi_margin_loss(logits, labels, margin=margin)

    return loss


@registry.register
def hinge_kr(alpha: float = 10.0, margin: float = 1.0) -> Loss:
    """Builds the hinge-regularized Kantorovich–Rubinstein loss, one class against the others.

    With sₖ = 1 where the label is k and −1 elsewhere, and means over the examples of each side,

        ℓ = 1/K ∑ₖ [α mean (m/2 − sₖ zₖ)₊ − (mean of zₖ at k − mean of zₖ elsewhere)].

    A class that is absent from the batch, or alone in it, has no second term.

    Arguments:
        alpha: The weight α of the hinge.
        margin: The distance m asked for between both sides, in logits.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        true = F.one_hot(labels, logits.shape[1]).to(logits.dtype)  # (B, K)
        hinge = F.relu(margin / 2 - (2 * true - 1) * logits).mean(dim=0)  # (K,)
        inside, outside = true.sum(dim=0), (1 - true).sum(dim=0)
        gap = (true * logits).sum(dim=0) / inside.clamp_min(1)
        gap = gap - ((1 - true) * logits).sum(dim=0) / outside.clamp_min(1)
        gap = gap.where((inside > 0) & (outside > 0), 0)
        return (alpha * hinge - gap).mean()

    return loss
