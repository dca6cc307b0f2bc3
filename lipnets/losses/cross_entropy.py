"""Cross-entropy with a margin, and with a reward for radii.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160: offset and temperature
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100
    | (Singla, Singla & Feizi, 2022) https://arxiv.org/abs/2108.04062: certificate regularization

What differs: both can be left to a radius, of which the papers know nothing.
"""

__all__ = ["certificate_regularization", "cross_entropy"]

import math

import torch.nn.functional as F
from torch import Tensor

from ._loss import Loss
from ._margin import ScaledLogits, without_true
from ._registry import registry


@registry.register
def cross_entropy(
    temperature: float | None = None, offset: float | None = None, radius: float | None = None
) -> Loss:
    """Builds the cross-entropy of logits from which a margin was taken.

    With t the temperature, o the offset and p = softmax((z − o eᵧ) / t),

        ℓ(z, y) = −t log pᵧ.

    The factor t keeps gradients, p − eᵧ, at the scale they have at t = 1.  As t → 0 the loss tends
    to the hinge (maxⱼ zⱼ − zᵧ + o)₊ over j ≠ y.

    With a radius r, the offset above class j is r sᵧⱼ, of the slopes s, and t is 0.3 times the mean
    of these offsets, 1 at most: one value for networks of any constant.

    Arguments:
        temperature: The temperature t, in logits, positive: smaller trades clean accuracy for
            margins.  1 if it is given neither here nor by the radius.
        offset: The margin o asked for, in logits: √2 L r asks for radius r of a network whose
            constant is L.  0 if it is given neither here nor by the radius.
        radius: The radius to train for, ℓ2 in [0, 1] pixels; it sets what of both is not given.

    Raises:
        ValueError: If the temperature or the radius is not positive, or all three are given.
    """
    scaled = ScaledLogits(temperature, offset, radius)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        logits, t = scaled(logits, labels, slopes)
        return F.cross_entropy(logits, labels) * t

    return Loss(loss, scaled.needs_slopes)


@registry.register
def certificate_regularization(
    gamma: float = 0.5,
    temperature: float | None = None,
    offset: float | None = None,
    radius: float | None = None,
) -> Loss:
    """Builds the cross-entropy with a reward for the radii that are certified.

    With the cross-entropy ℓ₀ of `cross_entropy` and m = zᵧ − maxⱼ zⱼ over j ≠ y,

        ℓ(z, y) = ℓ₀(z, y) − γ (m / √2)₊:

    m / √2 is the radius of a network with orthonormal last rows and a constant of 1.

    Arguments:
        gamma: The weight γ of the reward.
        temperature: The temperature, in logits: see `cross_entropy`.
        offset: The margin asked for, in logits: see `cross_entropy`.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: see `cross_entropy`.

    Raises:
        ValueError: As `cross_entropy`, and if γ is negative.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"'gamma' should not be negative, got {gamma}.")
    scaled = ScaledLogits(temperature, offset, radius)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        shifted, t = scaled(logits, labels, slopes)
        entropy = F.cross_entropy(shifted, labels) * t
        if logits.shape[1] == 1:  # no other class, no radius
            return entropy
        true = logits.gather(1, labels[:, None])[:, 0]
        margins = true - without_true(logits, labels, -math.inf).amax(dim=1)  # (B,)
        reward = F.relu(margins / math.sqrt(2)).mean()
        return entropy - gamma * scaled.margin.scaled(reward, slopes)

    return Loss(loss, scaled.needs_slopes)
