"""Poolings whose constant is 1 at any size of images.

An average over k pixels has norm 1 / √k: what it drops is given back by a factor.  Maxima and ℓ2 norms
of windows that overlap count a pixel several times: they are divided by the root of that number.

References:
    | L2 pooling: Signal Recovery from Pooling Representations (Bruna, Szlam & LeCun, 2014)
    | https://arxiv.org/abs/1311.4025
    | Average pooling with a factor: Achieving Robustness in Classification using Optimal Transport
    | with Hinge Regularization (Serrurier et al., 2021) https://arxiv.org/abs/2006.06520

What differs from other libraries: overlapping windows, padding and adaptive windows of unequal
lengths are taken with their own constant; arguments that change what averages divide by, for which
there is no common factor, are refused.
"""

__all__ = [
    "AdaptiveL2NormPool2d",
    "AdaptiveScaledAvgPool2d",
    "AdaptiveScaledMaxPool2d",
    "L2NormPool2d",
    "max_pool2d",
    "scaled_avg_pool2d",
]

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, output_shape, rule
from ..convolutions import conv_norm
from ..linalg import mul_up
from ..parametrizations._precision import full_precision
from ..program import Affine, lower, lowering
from ..rounding import Analysis, Ball, rounding_rule
from ._registry import Card, add, named
from ._sizes import known_size, pair
from .scale import Scale

Pair = int | tuple[int, int]
Size = tuple[int, int]


def scaled_avg_pool2d(
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> nn.Sequential:
    """Builds average pooling times the inverse of its norm, that on images of any size.

    With windows side by side of k pixels the factor is √k, and constants keep their norm.

    Arguments:
        kernel_size: The height and width of windows.
        stride: The distance of windows, `kernel_size` by default.
        padding: The number of zeros around the image.
        ceil_mode: False.
        count_include_pad: True.
        divisor_override: None.

    Raises:
        ValueError: If some windows would be divided by other numbers than others.
    """
    if ceil_mode or not count_include_pad or divisor_override is not None:
        raise ValueError(
            "scaled_avg_pool2d divides each window by its number of pixels, padding included: leave "
            "ceil_mode, count_include_pad and divisor_override at their defaults, or bound "
            "nn.AvgPool2d as it is."
        )
    pool = nn.AvgPool2d(kernel_size, stride, padding)
    lengths, strides = pair(pool.kernel_size), pair(pool.stride)
    norms = []
    for length, step in zip(lengths, strides, strict=True):
        with torch.device("cpu"):  # numbers, though the layer be built without memory
            window = torch.full((1, 1, length), 1 / length, dtype=torch.float64)
            norms.append(conv_norm(window, stride=step)[0])
    return nn.Sequential(pool, Scale(1 / math.prod(norms)))


def max_pool2d(
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    scaled: bool = True,
) -> nn.Sequential:
    """Builds maximum pooling, divided by √r where r windows share a pixel.

    Arguments:
        kernel_size: The height and width of windows.
        stride: The distance of windows, `kernel_size` by default.
        padding: The number of pixels around the image, which are never the largest.
        dilation: The distance of pixels within a window.
        ceil_mode: Whether windows may begin within the image and end outside.
        scaled: Whether to divide; without it the constant is √r.
    """
    pool = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    sides = zip(*map(pair, (pool.kernel_size, pool.stride, pool.dilation)), strict=True)
    shared = math.prod(_shared(*side) for side in sides) if scaled else 1
    return nn.Sequential(pool, Scale(shared**-0.5))


class L2NormPool2d(nn.Module):
    """The ℓ2 norm of each window, divided by √r where r windows share a pixel.

    At a window of zeros the gradient is 0, one of the subgradients.

    Arguments:
        kernel_size: The height and width of windows.
        stride: The distance of windows, `kernel_size` by default.
        padding: The number of zeros around the image.
        ceil_mode: Whether windows may begin within the image and end outside.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size)
        self.stride = self.kernel_size if stride is None else pair(stride)
        self.padding, self.ceil_mode = pair(padding), ceil_mode
        sides = zip(self.kernel_size, self.stride, strict=True)
        self.shared = math.prod(_shared(length, step) for length, step in sides)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    @full_precision  # squares leave the range of float16
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        squares = F.avg_pool2d(
            x.square(),
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            divisor_override=1,
        )
        return _root(squares / self.shared)


@rule(L2NormPool2d)
def _l2_norm_pool2d(module: L2NormPool2d, shape: Shape) -> Bound:
    """Σ_W (‖x_W‖ − ‖y_W‖)² ≤ Σ_W ‖x_W − y_W‖² ≤ r ‖x − y‖², divided by the number stored, r.

    Along an axis, the windows that hold a pixel begin within a length k up to it, at distances s: at
    most ⌈k / s⌉ of them.  Zeros around the image are the same for x and y.
    """
    sides = zip(module.kernel_size, module.stride, strict=True)
    shared = math.prod(_shared(length, step) for length, step in sides)
    if module.shared < shared:
        raise NotCertifiedError(
            f"L2NormPool2d divides by {module.shared} where {shared} windows share a pixel: build "
            "it anew for other windows."
        )
    return _unit("L2NormPool2d", shape)


@rounding_rule(L2NormPool2d)
def _l2_norm_pool2d_rounds(
    module: L2NormPool2d, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """As `_root_error`, of sums of as many squares as a window has pixels, divided once."""
    pixels = math.prod(module.kernel_size)
    return _root_error(module, shape, ball, analysis, pixels, pixels + 3)


def _root_error(
    module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis, pixels: int, roundings: int
) -> Ball:
    """Sums of squares are positive, hence off by γ of themselves, and their roots by half of that.

    A sum of k squares, and what it is divided and multiplied by, is off by γₙ of itself for n
    roundings, its root by γₙ of itself at most, and is rounded once more: γ_{n+1} ‖f(X)‖, and
    ‖f(X)‖ ≤ ‖X‖ as f is 1-Lipschitz with f(0) = 0.  What underflows is at most 2k + 4 of the
    smallest numbers in such a sum, and moves its root by the root of that at most.  Squares above the
    largest number are infinite.
    """
    a = analysis.arithmetic.elementwise
    outputs = math.prod(analysis.output_shape(module, shape))
    underflow = math.sqrt(outputs * (2 * pixels + 4)) * math.sqrt(a.tiny)
    local = a.gamma(roundings + 1) * ball.norm + underflow * (1 + 2.0**-40)
    if 2 * pixels * ball.largest**2 >= a.largest:
        local = math.inf
    return analysis.step(module, shape, ball, local)


class AdaptiveL2NormPool2d(nn.Module):
    """The ℓ2 norms of the windows of `nn.AdaptiveAvgPool2d`, divided by √r as in `L2NormPool2d`.

    Arguments:
        output_size: The height and width of the output; None for those of the input.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"

    @full_precision
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        means = F.adaptive_avg_pool2d(x.square(), self.output_size)  # pyright: ignore
        sizes = zip(known_size(x), known_size(means), strict=True)
        sides = [_adaptive(size, count) for size, count in sizes]
        lengths = [torch.tensor(side[0], dtype=x.dtype, device=x.device) for side in sides]
        shared = sides[0][1] * sides[1][1]
        return _root(means * (lengths[0][:, None] * lengths[1] / shared))


@rule(AdaptiveL2NormPool2d)
def _adaptive_l2_norm_pool2d(module: AdaptiveL2NormPool2d, shape: Shape) -> Bound:
    """As for `L2NormPool2d`, where r is counted for the windows at this size."""
    return _unit("AdaptiveL2NormPool2d", shape)


@rounding_rule(AdaptiveL2NormPool2d)
def _adaptive_l2_norm_pool2d_rounds(
    module: AdaptiveL2NormPool2d, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """As `_root_error`: a mean is divided along both axes, and multiplied by their lengths again."""
    outputs = analysis.output_shape(module, shape)
    sizes = zip(_size(shape), _size(outputs), strict=True)
    pixels = math.prod(max(_adaptive_windows(size, count)[0]) for size, count in sizes)
    return _root_error(module, shape, ball, analysis, pixels, pixels + 7)


class AdaptiveScaledAvgPool2d(nn.Module):
    """Adaptive average pooling times a factor for the size of images, √(k l) for windows side by side.

    In general the root of 1 / c along each axis, where c is the largest sum of the weights 1 / k of the
    windows that share a pixel.

    Arguments:
        output_size: The height and width of the output; None for those of the input.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(output_size)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        out = self.pool(x)
        return out * _factor(known_size(x), known_size(out))


@rule(AdaptiveScaledAvgPool2d)
def _adaptive_scaled_avg_pool2d(module: AdaptiveScaledAvgPool2d, shape: Shape) -> Bound:
    """The bound of adaptive average pooling times the factor.

    It is at most 1: the matrix A of averages along an axis has rows of sum 1 and columns of sum c at
    the most, and ‖A‖² ≤ ‖A‖₁ ‖A‖_∞ = c.
    """
    pool = lipschitz(module.pool, shape)
    outputs = _size(output_shape(module.pool, shape))
    value = mul_up(pool.value, _factor(_size(shape), outputs))
    return Bound(value, "AdaptiveScaledAvgPool2d: factor × average pooling", (pool,))


@lowering(AdaptiveScaledAvgPool2d)
def _lowered_avg(module: AdaptiveScaledAvgPool2d, shape: Shape) -> nn.Module:
    """Average pooling and the factor of this size."""
    factor = _factor(_size(shape), _size(output_shape(module.pool, shape)))
    return nn.Sequential(lower(module.pool, shape), _times(factor))


class AdaptiveScaledMaxPool2d(nn.Module):
    """Adaptive maximum pooling, divided by √r where r windows share a pixel at the size of images.

    Arguments:
        output_size: The height and width of the output; None for those of the input.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(output_size)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W')
        out = self.pool(x)
        return out * _shared_factor(known_size(x), known_size(out))


@rule(AdaptiveScaledMaxPool2d)
def _adaptive_scaled_max_pool2d(module: AdaptiveScaledMaxPool2d, shape: Shape) -> Bound:
    """The bound √r of adaptive maximum pooling times the factor 1 / √r."""
    pool = lipschitz(module.pool, shape)
    outputs = _size(output_shape(module.pool, shape))
    value = mul_up(pool.value, _shared_factor(_size(shape), outputs))
    return Bound(value, "AdaptiveScaledMaxPool2d: factor × maximum pooling", (pool,))


@lowering(AdaptiveScaledMaxPool2d)
def _lowered_max(module: AdaptiveScaledMaxPool2d, shape: Shape) -> nn.Module:
    """Maximum pooling and the factor of this size."""
    factor = _shared_factor(_size(shape), _size(output_shape(module.pool, shape)))
    return nn.Sequential(lower(module.pool, shape), _times(factor))


def _times(factor: float) -> Affine:
    return Affine(torch.tensor(factor, dtype=torch.float64))


def _size(shape: Shape) -> Size:
    return shape[1], shape[2]


def _shared(length: int, stride: int, dilation: int = 1) -> int:
    """How many windows share a pixel along an axis, at the most.

    The window that begins at js holds pixel p if p = js + di, 0 ≤ i < k: of the solutions of that
    equation, one in each s / gcd(s, d) of i.
    """
    return -(-length * math.gcd(stride, dilation) // stride)


def _root(squares: Tensor) -> Tensor:
    """√ with a gradient of 0 at 0."""
    positive = squares > 0
    return torch.where(positive, squares, 1.0).sqrt() * positive


@torch.compiler.assume_constant_result
def _adaptive(size: int, count: int) -> tuple[tuple[int, ...], int, float]:
    return _adaptive_windows(size, count)


@lru_cache(maxsize=256)
def _adaptive_windows(size: int, count: int) -> tuple[tuple[int, ...], int, float]:
    """The windows ⌊jn/m⌋ ≤ i < ⌈(j + 1)n/m⌉ of adaptive pooling along an axis.

    Returns:
        Their lengths; how many share a pixel, at the most; and the largest sum of 1 / length of
        those that do.
    """
    windows = [(j * size // count, -(-(j + 1) * size // count)) for j in range(count)]
    shared, weights = [0] * size, [0.0] * size
    for start, stop in windows:
        for pixel in range(start, stop):
            shared[pixel] += 1
            weights[pixel] += 1 / (stop - start)
    lengths = tuple(stop - start for start, stop in windows)
    return lengths, max(shared, default=1), max(weights, default=1.0)


def _factor(size: Size, outputs: Size) -> float:
    sides = [_adaptive(n, m) for n, m in zip(size, outputs, strict=True)]
    return (sides[0][2] * sides[1][2]) ** -0.5


def _shared_factor(size: Size, outputs: Size) -> float:
    sides = [_adaptive(n, m) for n, m in zip(size, outputs, strict=True)]
    return (sides[0][1] * sides[1][1]) ** -0.5


def _unit(name: str, shape: Shape) -> Bound:
    if len(shape) != 3:
        raise NotCertifiedError(
            f"{name} takes images with channels, got examples of shape {shape}."
        )
    return Bound(1.0, f"{name}: norms of windows over the root of their overlap")


def _card(choose: str, paper: str = "", url: str = "", **arguments: object) -> Card:
    return Card(
        kind="pooling and mixing",
        guarantee="1-Lipschitz",
        paper=paper,
        url=url,
        choose=choose,
        arguments=arguments,
        shape=(2, 5, 6),
    )


_SERRURIER = {"paper": "Serrurier et al., 2021", "url": "https://arxiv.org/abs/2006.06520"}
_BRUNA = {"paper": "Bruna, Szlam & LeCun, 2014", "url": "https://arxiv.org/abs/1311.4025"}
add(
    "scaled_avg_pool2d",
    scaled_avg_pool2d,
    _card("To average without losing what constants are worth.", **_SERRURIER, kernel_size=2),
)
add(
    "max_pool2d",
    max_pool2d,
    _card("Where the presence of a feature counts, not its place.", kernel_size=3, stride=2),
)
named(
    "l2_norm_pool2d",
    _card("Where the energy of a window counts, whatever its signs.", **_BRUNA, kernel_size=2),
)(L2NormPool2d)
named(
    "adaptive_scaled_avg_pool2d",
    _card("To average to an output of fixed size.", **_SERRURIER, output_size=(2, 3)),
)(AdaptiveScaledAvgPool2d)
named(
    "adaptive_l2_norm_pool2d",
    _card("For norms of windows in an output of fixed size.", **_BRUNA, output_size=(2, 3)),
)(AdaptiveL2NormPool2d)
named(
    "adaptive_max_pool2d",
    _card("For maxima in an output of fixed size.", output_size=(2, 3)),
)(AdaptiveScaledMaxPool2d)
