"""Convolutions, as gathers around one in a circle, of stride and dilation 1."""

__all__ = ["Circle"]

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Shape, output_shape
from ..program import Gather
from ._linear import CONVS, conv, filled
from ._rewriting import Done, Parts, picked, places, rewriting


@rewriting(*CONVS)
def _convolution(module: Any, shape: Shape) -> Parts:
    circle = Circle(module, shape)
    return [circle.before(shape[0]), circle.conv(), circle.after(module.out_channels)]


@rewriting(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _transposed(module: Any, shape: Shape) -> Parts:
    """Zeros between the pixels, and a convolution with the kernel turned around."""
    outs, index = output_shape(module, shape), torch.arange(shape[0])
    axes = zip(
        shape[1:], outs[1:], module.kernel_size, module.stride, module.dilation, module.padding,
        strict=True,
    )  # fmt: skip
    for n, m, k, s, e, p in axes:
        places = torch.arange(m + e * (k - 1)) - (e * (k - 1) - int(p))
        line = (places // s).where((places % s == 0) & (places >= 0) & (places // s < n), -1)
        joint = index[..., None] * n + line
        index = joint.where((index[..., None] >= 0) & (line >= 0), -1)
    weight = module.weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    conv = CONVS[weight.ndim - 3](
        shape[0], outs[0], module.kernel_size, dilation=module.dilation, groups=module.groups,
        bias=module.bias is not None,
    )  # fmt: skip
    return [picked(index), filled(conv, weight.flip(*range(2, weight.ndim)), module.bias)]


class Circle:
    """A convolution in a circle that another one, with its padding and strides, is a part of.

    Along an axis, output j reads the pixel sj + dq − b for the tap q.  With dq − b = st + a, 0 ≤ a < s, it is
    the pixel j + t of the phase a: phases are channels, and s is 1 then.  Circular padding keeps the circle
    of n pixels, or of n / s of each phase.  With zeros around, a circle of N pixels of each phase is large enough if
    none of the pixels that outputs read from −b to s(m − 1) + d(k − 1) − b is taken for another one in the image:
    sN ≥ n + b, and sN > s(m − 1) + d(k − 1) − b.

    Arguments:
        module: The convolution.
        shape: The shape of an image, without batch dimension.
    """

    def __init__(self, module: Any, shape: Shape) -> None:
        self.module, self.shape = module, shape
        self.sizes: list[int] = []  # the number of pixels of each phase
        self.kept: list[Tensor] = []  # the outputs that are wanted
        self._lines: list[Tensor] = []  # the pixels of phases, or −1, with shape (phases, pixels)
        self._taps: list[tuple[list[tuple[int, int]], int]] = []  # the phase and place of each tap
        axes = zip(
            shape[1:], output_shape(module, shape)[1:], module.kernel_size, module.stride,
            module.dilation, _padding(module), strict=True,
        )  # fmt: skip
        for axis in axes:
            self._add(*axis, circular=module.padding_mode == "circular")

    def _add(self, n: int, m: int, k: int, s: int, d: int, b: int, *, circular: bool) -> None:
        """An axis of n pixels, with m outputs."""
        step = 1 if circular and n % s else s
        moved = [divmod(d * q - b, step) for q in range(k)]
        low, high = moved[0][0], moved[-1][0]
        last = s * (m - 1) + d * (k - 1) - b
        size = n // step if circular else max(-(-max(n + b, last + 1) // s), m)
        count = min(high - low + 1, size)
        line = torch.arange(size) * step + torch.arange(step)[:, None]
        center = low + (count - 1) // 2  # torch centers kernels
        self.sizes.append(size)
        self.kept.append((torch.arange(m) * (s // step) + center) % size)
        self._lines.append(line.where(line < n, -1))
        self._taps.append(([(a, (t - low) % count) for t, a in moved], count))

    def conv(self) -> Done:
        """The convolution in the circle."""
        weight = self.module.weight.detach().double()
        counts = [count for _, count in self._taps]
        kernel = weight.new_zeros(*weight.shape[:2], *map(len, self._lines), *counts)
        for tap in itertools.product(*(range(k) for k in weight.shape[2:])):
            moved = [taps[q] for q, (taps, _) in zip(tap, self._taps, strict=True)]
            kernel[(..., *(a for a, _ in moved), *(t for _, t in moved))] += weight[(..., *tap)]
        kernel = kernel.flatten(1, 1 + len(counts))
        return conv(kernel, self.module.bias, self.module.groups)

    def before(self, channels: int) -> Gather:
        """What puts images of so many channels in the circle."""
        index = torch.arange(channels)
        for n, line in zip(self.shape[1:], self._lines, strict=True):
            joint = index[..., None, None] * n + line
            index = joint.where((index[..., None, None] >= 0) & (line >= 0), -1)
        d = len(self._lines)  # (C, a₁, n₁, a₂, n₂, ...)
        index = index.permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2))
        return picked(index.flatten(0, d))

    def after(self, channels: int) -> Gather:
        """What takes the outputs that are wanted."""
        index = places((channels, *self.sizes))
        for axis, kept in enumerate(self.kept, start=1):
            index = index.index_select(axis, kept)
        return picked(index)


def _padding(module: Any) -> list[int]:
    """The padding before each axis."""
    if module.padding == "same":
        reach = zip(module.dilation, module.kernel_size, strict=True)
        return [d * (k - 1) // 2 for d, k in reach]
    if module.padding == "valid":
        return [0] * len(module.kernel_size)
    return [int(p) for p in module.padding]
