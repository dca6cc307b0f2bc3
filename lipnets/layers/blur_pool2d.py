"""Downsampling behind a low-pass filter, scaled to norm 1 at every size.

References:
    | Making Convolutional Networks Shift-Invariant Again (Zhang, 2019)
    | https://arxiv.org/abs/1904.11486

What differs from the paper: the average loses a factor of about the stride, which is given back, so
that the constant is 1, exactly, whatever the size, odd ones included; the kernel may be that whose
response is closest to the ideal low-pass filter, in the mean square.
"""

__all__ = ["BlurPool2d", "antialiased_conv2d", "blur_pool2d"]

import inspect
import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import U, matrix_norm, mul_up
from ..parametrizations._precision import full_precision
from ..program import AxisMaps, lowering
from ._registry import Card, add, registry
from ._sizes import known_size
from .frequency import Gains, conv_gains, gain_rule

Pair = int | tuple[int, int]
Size = tuple[int, int]


class BlurPool2d(nn.Module):
    """Filters each channel, keeps every s-th pixel, and multiplies by the inverse of the norm of that.

    An image of n pixels along an axis has ⌈n / s⌉ outputs.

    Arguments:
        kernel_size: The side of the filter.
        stride: The stride s along both axes.
        padding_mode: 'circular' or 'zeros'.
        kernel: 'binomial', the row of Pascal's triangle; or 'least_squares', the sinc that is
            closest to the ideal low-pass filter of frequencies up to 1 / 2s.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self,
        kernel_size: int = 3,
        stride: int = 2,
        padding_mode: str = "circular",
        kernel: str = "binomial",
    ) -> None:
        super().__init__()
        if kernel_size < 1 or stride < 1 or padding_mode not in ("circular", "zeros"):
            raise ValueError(
                "BlurPool2d takes a kernel_size and a stride of at least 1 and padding_mode "
                f"'circular' or 'zeros', got {kernel_size}, {stride} and '{padding_mode}'."
            )
        if kernel not in ("binomial", "least_squares"):
            raise ValueError(f"'kernel' should be 'binomial' or 'least_squares', got '{kernel}'.")
        self.kernel_size, self.stride = kernel_size, stride
        self.padding_mode, self.kernel = padding_mode, kernel

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding_mode='{self.padding_mode}', kernel='{self.kernel}'"
        )

    def taps(self, length: int) -> list[float]:
        """The filter along an axis of so many pixels, with the factor that gives it norm 1."""
        return list(_taps(self.kernel_size, self.stride, self.padding_mode, self.kernel, length))

    @full_precision
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, ⌈H / s⌉, ⌈W / s⌉)
        height, width = (
            torch.tensor(self.taps(length), dtype=x.dtype, device=x.device)
            for length in known_size(x)
        )
        pads = [(self.kernel_size - 1) // 2, self.kernel_size // 2] * 2
        x = F.pad(x, pads, mode="circular" if self.padding_mode == "circular" else "constant")
        weight = (height[:, None] * width).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, weight, stride=self.stride, groups=x.shape[1])


@torch.compiler.assume_constant_result
def _taps(
    kernel_size: int, stride: int, padding_mode: str, kernel: str, length: int
) -> tuple[float, ...]:
    return _unit_taps(kernel_size, stride, padding_mode, kernel, length)


@lru_cache(maxsize=256)
def _unit_taps(
    kernel_size: int, stride: int, padding_mode: str, kernel: str, length: int
) -> tuple[float, ...]:
    if kernel == "binomial":
        plain = [float(math.comb(kernel_size - 1, i)) for i in range(kernel_size)]
    else:
        plain = np.sinc((np.arange(kernel_size) - (kernel_size - 1) / 2) / stride).tolist()
    plain = [tap / sum(plain) for tap in plain]
    norm = np.linalg.norm(_matrix(plain, stride, padding_mode, length), ord=2).item()
    return tuple(tap / norm for tap in plain)


def _matrix(taps: list[float], stride: int, padding_mode: str, length: int) -> np.ndarray:
    """The map along an axis of so many pixels, with shape (⌈length / stride⌉, length)."""
    matrix = np.zeros((-(-length // stride), length))
    for row in range(len(matrix)):
        for i, tap in enumerate(taps):
            pixel = row * stride + i - (len(taps) - 1) // 2
            if padding_mode == "circular":
                matrix[row, pixel % length] += tap
            elif 0 <= pixel < length:
                matrix[row, pixel] = tap
    return matrix


@rule(BlurPool2d)
def _blur_pool2d(module: BlurPool2d, shape: Shape) -> Bound:
    """The Kronecker product of the matrix along each axis: norms multiply.

    A pixel of a torus smaller than the kernel would be the sum of several taps, in which float64
    rounds: refused, as circular padding is there.  A product of two taps is off by u of itself.
    """
    if len(shape) != 3 or (
        module.padding_mode == "circular" and min(shape[1:]) < module.kernel_size
    ):
        raise NotCertifiedError(
            f"Images should be at least as large as the kernel, {module.kernel_size} along both "
            f"axes, got shape {tuple(shape)}."
        )
    norms = [
        matrix_norm(
            torch.from_numpy(_matrix(module.taps(n), module.stride, module.padding_mode, n))
        )
        for n in shape[1:]
    ]
    return Bound(mul_up(*norms), "BlurPool2d: norm along each axis")


@lowering(BlurPool2d)
def _lowered(module: BlurPool2d, shape: Shape) -> nn.Module:
    """The matrix along each axis."""
    sides = [_matrix(module.taps(n), module.stride, module.padding_mode, n) for n in shape[1:]]
    return AxisMaps([None, *map(torch.from_numpy, sides)])


@gain_rule(BlurPool2d)
def _blur_gains(module: BlurPool2d, size: Size) -> Gains:
    """The modulus of the response of the filter, over s: each s-th pixel of a torus remains."""
    stride = module.stride
    if module.padding_mode != "circular" or any(n % stride for n in size):
        raise NotCertifiedError(
            f"BlurPool2d keeps frequencies apart under circular padding, at multiples of the stride "
            f"{stride}; got padding_mode='{module.padding_mode}' and size {size}."
        )
    height, width = (torch.tensor(module.taps(n), dtype=torch.float64, device="cpu") for n in size)
    gain = torch.full(size, 1 / stride * (1 + 8 * U), dtype=torch.float64)
    return conv_gains((height[:, None] * width)[None, None], 1, (1, 1), gain), (stride, stride)


def blur_pool2d(
    kernel_size: int = 3,
    stride: int = 2,
    padding_mode: str = "circular",
    kernel: str = "binomial",
) -> BlurPool2d:
    """Builds downsampling behind a low-pass filter, of norm 1: see `BlurPool2d`."""
    return BlurPool2d(kernel_size, stride, padding_mode, kernel)


def antialiased_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: int = 2,
    padding: Pair | str = "same",
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "circular",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    blur: int = 3,
    kernel: str = "binomial",
    conv: str = "aol_conv2d",
) -> nn.Sequential:
    """Builds a constrained convolution of stride 1, then `BlurPool2d` in place of a stride.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width of the kernel.
        stride: The stride, equal along both axes.
        padding: As that of `nn.Conv2d`.
        dilation: The spacing of the taps.
        groups: The number of groups of channels.
        bias: Whether to add a bias to each channel.
        padding_mode: 'circular' or 'zeros', of the convolution and of the filter.
        device: The device of the weights.
        dtype: The dtype of the weights.
        blur: The side of the low-pass filter.
        kernel: 'binomial' or 'least_squares'.
        conv: The convolution, by name.
    """
    given = {**locals(), "stride": 1}
    shared = inspect.signature(nn.Conv2d).parameters
    convolution = registry.build(conv, **{key: given[key] for key in shared})
    return nn.Sequential(convolution, BlurPool2d(blur, stride, padding_mode, kernel))


_ZHANG = ("Zhang, 2019", "https://arxiv.org/abs/1904.11486")
add(
    "blur_pool2d",
    blur_pool2d,
    Card(
        kind="frequency filter",
        guarantee="1-Lipschitz",
        paper=_ZHANG[0],
        url=_ZHANG[1],
        choose="To halve images without aliasing, at a constant of 1.",
        shape=(2, 5, 6),
    ),
)
add(
    "antialiased_conv2d",
    antialiased_conv2d,
    Card(
        kind="frequency filter",
        guarantee="1-Lipschitz",
        paper=_ZHANG[0],
        url=_ZHANG[1],
        choose="In place of a strided convolution, where small shifts should change little.",
        arguments={"in_channels": 2, "out_channels": 3, "kernel_size": 3},
        shape=(2, 6, 6),
    ),
)
