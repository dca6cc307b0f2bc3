"""Almost-orthogonal Lipschitz (AOL) rescaling of matrices, with a derivative written by hand.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160

What differs: a column of zeros stays zero instead of being divided by zero, and the derivative takes
one product beside that of the Gram matrix, half of which is computed.
"""

__all__ = ["AOLMatrix"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import gram
from ._opaque import opaque
from ._precision import full_precision

_SMALLEST = 1e-30  # sums, relative to the largest square of an entry, that have lost no digits


class AOLMatrix(nn.Module):
    """Divides column i of a matrix by √(Σⱼ |Gᵢⱼ|), where G = WᵀW, which makes it 1-Lipschitz.

    Orthogonal matrices are left as they are.  The raw weight has the shape of the constrained one,
    and only its direction matters.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return _aol(weight)


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """V = WD with D = diag(s)^{-1/2} and sᵢ = Σⱼ |Gᵢⱼ|, of W divided by its largest entry."""
    largest = weight.abs().amax()  # ten times as fast as a norm
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    scaled = weight / largest
    product = gram(scaled)
    sums = product.abs().sum(dim=1)  # five times as fast as a norm
    scale = torch.where(sums > _SMALLEST, sums, torch.ones_like(sums)).rsqrt()
    return scaled * scale, (scaled, product.sign_(), scale, sums, largest)


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """With C the gradient of V and tᵢ = −½ sᵢ^{-3/2} Σₒ Cₒᵢ Wₒᵢ: CD + WM, Mᵢⱼ = sign(Gᵢⱼ) (tᵢ + tⱼ)."""
    scaled, signs, scale, sums, largest = saved
    tilt = -0.5 * scale**3 * (grad * scaled).sum(dim=0)
    tilt = torch.where(sums > _SMALLEST, tilt, torch.zeros_like(tilt))
    pairs = (tilt[:, None] + tilt).mul_(signs)
    return torch.mm(scaled, pairs).addcmul_(grad, scale.expand_as(grad)).div_(largest)


_aol = opaque("aol", _forward, _backward)
