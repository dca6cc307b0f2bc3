"""Orthogonal convolutions with strides: block convolutions (BCOP) behind a strided matrix (AOC).

References:
    | An Adaptive Orthogonal Convolution Scheme for Efficient and Flexible CNN Architectures
    | (Boissin, Mamalet, Fel, Picard, Massena & Serrurier, 2025) https://arxiv.org/abs/2501.07930
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li, Haque, Anil, Lucas, Grosse & Jacobsen, 2019) https://arxiv.org/abs/1911.00937
    | Dynamical Isometry and a Mean Field Theory of CNNs
    | (Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington, 2018) https://arxiv.org/abs/1806.05393

What differs: projectors come from Cholesky factors in float64 instead of Björck iterations, and are
never formed: two at a time, they are applied as products with thin matrices to a kernel that grows
tap by tap, instead of being convolved with each other.  Any number of axes.  A stride and a dilation
that share a factor are divided by it.
"""

__all__ = ["AOC"]

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._orthonormal import orthonormal
from ._precision import full_precision

_MARGIN = 32  # what rounding adds to the norm at the most, in units of the last place


class AOC(nn.Module):
    """Makes the kernel of an orthogonal convolution.

    With orthogonal projectors P, each factor P + z(I − P) keeps norms at every frequency, and so does
    their product over all axes, with k − s factors along an axis of k taps and stride s.  Behind
    them, a matrix with orthonormal rows or columns maps each block of s × s pixels to an output; with
    stride 1, it is a matrix at each pixel, and the kernel is that of BCOP.  Every second factor has
    its projectors exchanged, (I − P) + zP, so that equal projectors cancel to a pure shift.

    With I channels in, O out and blocks of S pixels, the factors act on M = max(I, ⌊O / S⌋) channels,
    after a matrix with orthonormal columns where M > I.  Under circular padding, at sizes that are
    multiples of the stride, the convolution has orthonormal rows where O ≤ IS, and orthonormal columns
    where O ≥ IS.  Zero padding selects rows and columns of such an operator, which keeps it
    1-Lipschitz.

    Raw weights are the matrix behind the factors, with shape (O, M S / groups), or with stride 1 and
    O > I the one before them, with shape (O, I / groups), which `parametrize` keeps as the original
    weight; and parameters of this module: matrices that span the ranges of the projectors, drawn at
    random and equal in pairs, and with strides and M > I the matrix before the factors.

    Arguments:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The number of taps along each axis.
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.

    Raises:
        ValueError: If the kernel is smaller than the stride along an axis.

    Example:
        >>> aoc, conv = AOC(4, 6, (3, 3)), nn.Conv2d(4, 6, 3, padding="same")
        >>> conv.weight = nn.Parameter(aoc.start())
        >>> nn.utils.parametrize.register_parametrization(conv, "weight", aoc, unsafe=True)
        ParametrizedConv2d(...)
        >>> conv.weight.shape
        torch.Size([6, 4, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = tuple(kernel_size)
        self.stride = tuple(stride) or (1,) * len(self.kernel_size)
        self.groups = groups
        if any(k < s for k, s in zip(self.kernel_size, self.stride, strict=True)):
            raise ValueError(
                "Orthogonal kernels should be at least as large as the stride, got kernel size "
                f"{self.kernel_size} and stride {self.stride}: pixels between windows would be lost."
            )
        self.ins, self.outs = in_channels // groups, out_channels // groups
        self.block = math.prod(self.stride)
        self.mid = max(self.ins, self.outs // self.block)
        self.delays = [k - s for k, s in zip(self.kernel_size, self.stride, strict=True)]
        like = {"device": device, "dtype": dtype}
        pairs = [
            torch.randn((count + 1) // 2, groups, self.mid, self.mid // 2, **like)
            for count in self.delays
        ]
        frames = [
            pair.repeat_interleave(2, dim=0)[:count]
            for pair, count in zip(pairs, self.delays, strict=True)
        ]
        self.frames = nn.Parameter(torch.cat(frames))  # (Σ (k − s), G, M, R)
        if self.mid > self.ins and self.block > 1:
            entry = torch.empty(groups, self.mid, self.ins, **like)
            self.entry = nn.Parameter(_start_near_identity(entry))
        else:
            self.register_parameter("entry", None)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, groups={self.groups}"

    def start(self) -> Tensor:
        """Draws a raw weight: near the identity, or with a stride a random orthogonal matrix."""
        inner = self.ins if self.block == 1 else self.mid * self.block
        like = {"device": self.frames.device, "dtype": self.frames.dtype}
        matrices = torch.empty(self.groups, self.outs, inner, **like)
        if self.block == 1:
            _start_near_identity(matrices)
        else:
            for matrix in matrices:
                nn.init.orthogonal_(matrix)
        return matrices.flatten(0, 1)

    @full_precision
    def forward(self, matrix: Tensor) -> Tensor:  # (O, ...) -> (O, I / groups, *K)
        axes = len(self.kernel_size)
        core = orthonormal(matrix.unflatten(0, (self.groups, self.outs)))  # (G, O, ...)
        core = core * (1 - _MARGIN * torch.finfo(matrix.dtype).eps)
        frames = orthonormal(self.frames.to(matrix.dtype))
        ones = (1,) * axes
        if self.mid == self.ins:  # the factors act on the columns: those of the transpose, on rows
            blocks = core.reshape(self.groups, self.outs, self.mid, *self.stride)
            taps = self._delayed(blocks.movedim(1, -1), frames)  # (G, I, *K, O)
            return taps.movedim(-1, 1).flatten(0, 1).contiguous()
        entry = core if self.entry is None else orthonormal(self.entry.to(matrix.dtype))
        taps = entry.reshape(self.groups, self.mid, *ones, self.ins)
        taps = self._delayed(taps, frames)  # (G, M, *K', I)
        if self.entry is not None:
            blocks = core.reshape(self.groups, self.outs, self.mid, self.block)
            products = blocks.permute(0, 3, 1, 2).flatten(1, 2) @ taps.flatten(2)
            products = products.reshape(self.groups, *self.stride, self.outs, *taps.shape[2:])
            for _ in range(axes):
                products = _overlap(products, 1, 1 + axes + 1)
            taps = products
        return taps.movedim(-1, 2).flatten(0, 1).contiguous()

    def _delayed(self, taps: Tensor, frames: Tensor) -> Tensor:
        """Multiplies a kernel (G, M, *K', C) by the factors, k − s along each axis."""
        first = 0
        for axis, count in enumerate(self.delays):
            for i in range(first, first + count - 1, 2):
                taps = _delay_twice(taps, frames[i], frames[i + 1], dim=2 + axis)
            if count % 2:
                taps = _delay(taps, frames[first + count - 1], dim=2 + axis)
            first += count
        return taps


def _delay(taps: Tensor, frame: Tensor, *, dim: int) -> Tensor:
    """Multiplies a kernel (G, M, ...) by P + z(I − P), P = VVᵀ, along a dimension."""
    now = (frame @ (frame.mT @ taps.flatten(2))).view_as(taps)
    return _shifted([now, taps - now], dim)


def _delay_twice(taps: Tensor, one: Tensor, two: Tensor, *, dim: int) -> Tensor:
    """Multiplies a kernel by ((I − Q) + zQ)(P + z(I − P)), P = VVᵀ and Q = WWᵀ.

    That is (I − Q)P + z(...) + z²Q(I − P), whose coefficients sum to I: with X = WᵀV, (V − WX)Vᵀ first
    and W(W − VXᵀ)ᵀ last.
    """
    cross = two.mT @ one
    inner = torch.cat([one, two - one @ cross.mT], dim=2).mT @ taps.flatten(2)  # (G, 2R, ...)
    now, last = inner.chunk(2, dim=1)
    now = ((one - two @ cross) @ now).view_as(taps)
    last = (two @ last).view_as(taps)
    return _shifted([now, taps - now - last, last], dim)


def _shifted(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The sum of tensors, each shifted by one more place along a dimension than that before it."""
    if parts[0].shape[dim] == 1:
        return torch.cat(list(parts), dim=dim)
    ends = 2 * (parts[0].ndim - 1 - dim)
    longer = [F.pad(part, [0] * ends + [i, len(parts) - 1 - i]) for i, part in enumerate(parts)]
    return sum(longer[1:], longer[0])


def _overlap(products: Tensor, block: int, dim: int) -> Tensor:
    """Adds up products along two dimensions, offsets in a block and taps, whose places add up."""
    return _shifted(products.unbind(block), dim - 1)


@torch.no_grad()
def _start_near_identity(matrices: Tensor) -> Tensor:
    nn.init.normal_(matrices, std=0.1 * max(matrices.shape[1:]) ** -0.5)
    return matrices.add_(
        torch.eye(*matrices.shape[1:], dtype=matrices.dtype, device=matrices.device)
    )
