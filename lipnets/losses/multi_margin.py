"""The multi-class hinge.

References:
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li et al., 2019) https://arxiv.org/abs/1911.00937
"""

__all__ = ["multi_margin"]

import torch.nn.functional as F
from torch import Tensor

from ._loss import Loss
from ._margin import Margin, without_true
from ._registry import registry


@registry.register
def multi_margin(margin: float | None = None, radius: float | None = None) -> Loss:
    """Builds the multi-class hinge, ℓ(z, y) = 1/K ∑ⱼ (zⱼ − zᵧ + m)₊ over j ≠ y.

    Arguments:
        margin: The margin m above which a class adds nothing, in logits: √2 L r asks for radius r
            of a network whose constant is L.  1 if neither it nor a radius is given.
        radius: The radius r to train for, ℓ2 in [0, 1] pixels: the margin above class j is r sᵧⱼ, of
            the slopes s.

    Raises:
        ValueError: If the radius is not positive, or both are given.
    """
    asked = Margin.either("margin", margin, radius, default=1.0)

    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        true = logits.gather(1, labels[:, None])
        hinges = F.relu(logits - true + asked.pairs(labels, slopes))  # (B, K)
        return asked.scaled(without_true(hinges, labels, 0.0).mean(), slopes)

    return Loss(loss, asked.needs_slopes)
