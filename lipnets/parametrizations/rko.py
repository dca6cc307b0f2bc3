"""Reshaped kernel orthogonalization (RKO).

References:
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li, Haque, Anil, Lucas, Grosse & Jacobsen, 2019) https://arxiv.org/abs/1911.00937
    | Achieving robustness in classification using optimal transport with hinge regularization
    | (Serrurier, Mamalet, González-Sanz, Boissin, Loubes & del Barrio, 2021)
    | https://arxiv.org/abs/2006.06520

What differs: a Cholesky factor orthogonalizes, instead of Björck iterations, and the kernel is divided
by the largest number of windows that share a pixel, which accounts for strides and dilations: it is
1-Lipschitz for all of them.
"""

__all__ = ["RKO", "covering"]

from collections.abc import Sequence

from torch import Tensor

from ._kernels import OfKernels
from ._orthonormal import orthonormal
from ._precision import full_precision


class RKO(OfKernels):
    """Makes the matrix from windows to outputs orthogonal, and divides it by a root of overlaps.

    The windows of an image hold each pixel r times at most: the map to them has norm √r, and the
    kernel, reshaped to a matrix with orthonormal rows or columns and divided by √r, a norm of 1 at
    most.  Where windows do not overlap, r = 1: the convolution is orthogonal.  The raw weight has the
    shape of the constrained one, (O, I / groups, *K), and only its direction matters.

    Arguments:
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        kernels = orthonormal(weight.reshape(self.groups, -1, weight[0].numel()))
        return (kernels * covering(weight.shape[2:], self.stride) ** -0.5).view_as(weight)


def covering(kernel_size: Sequence[int], stride: Sequence[int]) -> int:
    """The largest number of windows that share a pixel, for strides coprime to the dilations.

    Along an axis, the taps q that meet a pixel are those of one remainder of dq modulo s: ⌈k / s⌉ at
    most, where s and d share no factor.
    """
    windows = 1
    for k, s in zip(kernel_size, tuple(stride) or (1,) * len(kernel_size), strict=True):
        windows *= -(-k // s)
    return windows
