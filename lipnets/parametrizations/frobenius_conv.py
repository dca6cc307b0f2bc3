"""Division of kernels by their Frobenius norm.

Reference:
    | Achieving robustness in classification using optimal transport with hinge regularization
    | (Serrurier, Mamalet, González-Sanz, Boissin, Loubes & del Barrio, 2021)
    | https://arxiv.org/abs/2006.06520, and its library, https://github.com/deel-ai/deel-torchlip

What differs: the number of windows that share a pixel accounts for strides and dilations, and each
group has a norm of its own.
"""

__all__ = ["FrobeniusConv"]


from torch import Tensor

from ._kernels import OfKernels
from ._precision import full_precision, inverse_sqrt, unit_scale
from .rko import covering


class FrobeniusConv(OfKernels):
    """Divides the kernel of each group by its Frobenius norm, and by a root of overlaps.

    The Frobenius norm is at least that of the matrix from windows to outputs, and the windows of an
    image hold each pixel r times at most: with √r divided out, the norm is 1 at most.  It is 1 for
    kernels of rank 1 whose windows do not overlap, and much less for most others.  The raw weight has
    the shape of the constrained one, (O, I / groups, *K), and only its direction matters.

    Arguments:
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        kernels = unit_scale(weight.reshape(self.groups, -1), dim=1)
        scale = inverse_sqrt(kernels.square().sum(dim=1, keepdim=True))
        scale = scale * covering(weight.shape[2:], self.stride) ** -0.5
        return (kernels * scale).view_as(weight)
