"""Linear residual weights: the identity added to a weight before it is divided by its norm.

References:
    | Unlocking Deterministic Robustness Certification on ImageNet
    | (Hu, Zou, Wang, Leino & Fredrikson, 2023) https://arxiv.org/abs/2301.12549

What differs: the paper leaves the weight as it is and penalizes an estimate of its Lipschitz constant
by power iteration; here the sum is divided by its norm, so that the layer is 1-Lipschitz.
"""

__all__ = ["LiRes"]

from torch import Tensor, nn

from ._peak import inverse, peak_norm
from ._precision import full_precision, unit_scale
from .spectral_conv import SpectralConv
from .spectral_matrix import SpectralMatrix


class LiRes(nn.Module):
    """Adds the identity to a matrix, or to the central tap of a kernel, and divides by the norm.

    Where there are more outputs than inputs, or fewer, the identity maps the channels that both have.
    The raw weight has the shape of the constrained one, (O, I) or (O, I, H, W).  The norm of a kernel
    is searched for: for long in evaluation, for a shorter time in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectral = SpectralMatrix()
        self.spectral_conv = SpectralConv(effort=2)

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        total = weight.clone()
        center = tuple((length - 1) // 2 for length in weight.shape[2:])
        total[(..., *center)].diagonal().add_(1)
        if weight.ndim == 2:
            return self.spectral(total)
        if not self.training:
            return self.spectral_conv(total)
        total = unit_scale(total)
        return total * inverse(peak_norm(total))
