"""Rules for modules of torch.nn.  The docstring of a rule is its proof."""

__all__ = ["average_windows", "lipschitz", "padding_of", "refuse_stale"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import batchnorm, conv, padding

from .bounds import (
    Bound,
    NotCertifiedError,
    Shape,
    class_name,
    lipschitz,
    output_shape,
    rule,
)
from .convolutions import conv_norm, torus
from .linalg import ETA, U, add_up, div_up, matrix_norm, mul_up, sqrt_up

# Modules that move coordinates


@rule(
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
def identity(module: nn.Module, shape: Shape) -> Bound:
    """In evaluation mode, dropout is the identity."""
    return Bound(1.0, f"{class_name(module)}: keeps its input")


@rule(nn.PixelUnshuffle, nn.PixelShuffle, nn.ChannelShuffle)
def reorder(module: nn.Module, shape: Shape) -> Bound:
    """Reordering coordinates keeps the norm."""
    if len(shape) < 3:
        raise NotCertifiedError(
            f"{class_name(module)} takes images with channels, got examples of shape {shape}: "
            "a batch of them would be taken for one."
        )
    return Bound(1.0, f"{class_name(module)}: reorders its input")


@rule(nn.Flatten, nn.Unflatten)
def reshape(module: nn.Flatten | nn.Unflatten, shape: Shape) -> Bound:
    """Coordinates keep their values, if examples stay apart."""
    first = module.start_dim if isinstance(module, nn.Flatten) else module.dim
    if not isinstance(first, int) or first % (len(shape) + 1) == 0:
        raise NotCertifiedError(f"{class_name(module)} mixes the examples of a batch.")
    return Bound(1.0, f"{class_name(module)}: keeps its input")


@rule(padding._ConstantPadNd)
def constant_pad(module: padding._ConstantPadNd, shape: Shape) -> Bound:
    """Appends coordinates that do not depend on the input, or (negative padding) drops some.

    Two numbers for each axis of the input, at the most: more would shift the examples of a batch.
    """
    if len(module.padding) > 2 * len(shape):
        raise NotCertifiedError(
            f"{class_name(module)} of {tuple(module.padding)} mixes the examples of a batch."
        )
    return Bound(1.0, f"{class_name(module)}: appends constants")


# Elementwise functions: the constant is the largest modulus of the slope


@rule(
    nn.ReLU,
    nn.Tanh,
    nn.Softsign,
    nn.LogSigmoid,
    nn.Softshrink,
    nn.Tanhshrink,
    nn.Hardtanh,
)
def unit_slope(module: nn.Module, shape: Shape) -> Bound:
    """Continuous, with slopes in [0, 1], 1 being attained or approached.

    tanh' = 1 − tanh²; softsign' = (1 + |x|)⁻²; (log σ)' = 1 − σ; tanhshrink' = tanh²; the others are
    piecewise linear.
    """
    return Bound(1.0, f"{class_name(module)}: slopes in [0, 1]")


@rule(nn.LeakyReLU)
def leaky_relu(module: nn.LeakyReLU, shape: Shape) -> Bound:
    """Slopes 1 and a: max(1, |a|)."""
    slope = abs(float(module.negative_slope))
    return Bound(max(1.0, slope), f"LeakyReLU: slopes 1 and {module.negative_slope:g}")


@rule(nn.PReLU)
def prelu(module: nn.PReLU, shape: Shape) -> Bound:
    """Slopes 1 and a for each channel: max(1, max |a|)."""
    return Bound(
        max(1.0, module.weight.double().abs().max().item()), "PReLU: largest slope of a channel"
    )


@rule(nn.Sigmoid)
def sigmoid(module: nn.Sigmoid, shape: Shape) -> Bound:
    """σ' = σ(1 − σ) ≤ ¼, attained at 0."""
    return Bound(0.25, "Sigmoid: slopes in [0, 1/4]")


@rule(nn.Softplus)
def softplus(module: nn.Softplus, shape: Shape) -> Bound:
    """log(1 + e^{βx}) / β has the slope σ(βx) < 1.

    Torch replaces the function by x above a threshold t of βx, a jump of log(1 + e⁻ᵗ) / β: an error
    of evaluation of 2e-9 / β at the default of 20, no longer one below it, where this refuses.
    """
    if not (module.beta > 0 and module.threshold >= 20):
        raise NotCertifiedError(
            "Softplus should have a positive beta and a threshold of 20 or more, or it jumps; "
            f"got beta {module.beta:g} and threshold {module.threshold:g}."
        )
    return Bound(1.0, "Softplus: slopes in [0, 1]")


@rule(nn.GELU)
def gelu(module: nn.GELU, shape: Shape) -> Bound:
    """Exact: (xΦ)' = Φ + xφ is largest where (2 − x²)φ = 0, x = √2: 1.12890414… < 1.1289042.

    By tanh: with u = √(2/π)(x + 0.044715x³), the slope ½(1 + tanh u) + ½x u'(1 − tanh² u) and its
    reflection about ½ have extrema at |x| = 1.4185…: 1.12899307… < 1.128994.  The tests check both
    constants on a grid, with a bound of the second derivative in between.
    """
    if module.approximate == "none":
        return Bound(1.1289042, "GELU: slope at √2")
    return Bound(1.128994, "GELU by tanh: largest slope")


@rule(nn.SiLU)
def silu(module: nn.SiLU, shape: Shape) -> Bound:
    """(xσ)' = σ(1 + x(1 − σ)), largest at x = 2.39935…: 1.09983937… < 1.0998394."""
    return Bound(1.0998394, "SiLU: slope at 2.3994")


@rule(nn.ELU)
def elu(module: nn.ELU, shape: Shape) -> Bound:
    """Slopes 1 and αeˣ for x < 0: max(1, |α|)."""
    return Bound(max(1.0, abs(float(module.alpha))), f"ELU: slopes 1 and below {module.alpha:g}")


# Linear maps


@rule(nn.Linear)
def linear(module: nn.Linear, shape: Shape) -> Bound:
    """The norm of a matrix is its largest singular value: theorem D1 of `linalg`.

    On more than one axis, the map acts on each row apart.
    """
    return Bound(matrix_norm(module.weight), "Linear: largest singular value (D1)")


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(module: conv._ConvNd, shape: Shape) -> Bound:
    """Theorems C1 to C6 of `convolutions`.

    Circular padding with 2p = d(k − 1), or 'same', makes the outputs a circulant of the n pixels
    along that axis, of which a stride s keeps each s-th row: C1 if s divides n, else at most the
    norm without stride.  Without padding along an axis, no mode pads there: C2.
    """
    if module.padding_mode not in ("zeros", "circular"):
        raise NotCertifiedError(
            f"Padding mode '{module.padding_mode}' repeats pixels: pad with zeros or in a circle."
        )
    refuse_stale(module)
    sizes, outputs = _spatial(module, shape, len(module.kernel_size))
    strides, period = [], []
    for axis, size in enumerate(sizes):
        k, s, d = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        before, after = padding_of(module, axis)
        if module.padding_mode == "circular" and before + after > 0:
            if before + after != d * (k - 1):
                raise NotCertifiedError(
                    "Circular padding repeats pixels unless it is dilation × (kernel − 1) / 2 on "
                    f"each side, {d * (k - 1) / 2:g}: got {before}."
                )
            strides.append(s if size % s == 0 else 1)
            period.append(size)
        else:
            strides.append(s)
            period.append(torus(size, outputs[axis], k, s, d, before))
    value, theorem = conv_norm(
        module.weight,
        groups=module.groups,
        stride=strides,
        dilation=module.dilation,
        period=period,
    )
    return Bound(value, f"{class_name(module)}: {theorem}")


def refuse_stale(module: conv._ConvNd) -> None:
    """Refuses attributes that were changed since the module was built, and do not say what it does.

    Torch reads the size of kernels off the weight, and circular padding off a copy made by `__init__`.

    Raises:
        NotCertifiedError: If one of them differs from the attribute of that name.
    """
    if tuple(module.weight.shape[2:]) != tuple(module.kernel_size):
        raise NotCertifiedError(
            f"{class_name(module)} has kernels of {tuple(module.weight.shape[2:])}, and its "
            f"'kernel_size' says {tuple(module.kernel_size)}: build it anew."
        )
    axes = reversed(range(len(module.kernel_size)))
    told = [pad for axis in axes for pad in padding_of(module, axis)]
    if module.padding_mode != "zeros" and told != list(module._reversed_padding_repeated_twice):
        raise NotCertifiedError(
            f"{class_name(module)} has padding {module.padding} by its attribute, and pads as it was "
            "built to: build it anew with the padding that is meant."
        )


def padding_of(module: conv._ConvNd, axis: int) -> tuple[int, int]:
    """Padding before and after an axis."""
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        total = module.dilation[axis] * (module.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    return int(module.padding[axis]), int(module.padding[axis])


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(module: conv._ConvTransposeNd, shape: Shape) -> Bound:
    """The adjoint of the convolution from its outputs to its inputs, which has the same norm.

    That convolution has the same kernel, stride, dilation and zero padding; output padding only
    adds pixels to its input.  With m inputs and n outputs, C2 applies with n and m.
    """
    refuse_stale(module)
    sizes, outputs = _spatial(module, shape, len(module.kernel_size))
    period = [
        torus(
            outputs[axis],
            size,
            module.kernel_size[axis],
            module.stride[axis],
            module.dilation[axis],
            int(module.padding[axis]),
        )
        for axis, size in enumerate(sizes)
    ]
    value, theorem = conv_norm(
        module.weight,
        groups=module.groups,
        stride=module.stride,
        dilation=module.dilation,
        period=period,
    )
    return Bound(value, f"{class_name(module)}: adjoint; {theorem}")


@rule(batchnorm._BatchNorm)
def batch_norm(module: batchnorm._BatchNorm, shape: Shape) -> Bound:
    """In evaluation mode an affine map of slope γ / √(v + ε) in each channel.

    The sum, the root and the quotient below are off by u of themselves each, and by η.
    """
    if module.running_var is None:
        raise NotCertifiedError("BatchNorm without running statistics mixes the examples.")
    variances = module.running_var.double()
    if (variances < 0).any():
        raise NotCertifiedError("BatchNorm holds a negative running variance.")
    weights = torch.ones_like(variances) if module.weight is None else module.weight.double()
    slopes = weights.abs() / (variances + module.eps).sqrt()
    return Bound(
        add_up(mul_up(slopes.max().item(), 1 + 8 * U), 2 * ETA),
        "BatchNorm: max |γ| / √(variance + ε)",
    )


# Pooling


@rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def average_pool(module: nn.AvgPool2d, shape: Shape) -> Bound:
    """The Kronecker product of a matrix of averages for each axis: norms multiply.

    Row j of an axis averages the pixels of its window, which may reach into the padding; the
    number it divides by is the product over axes of the length of the window cut at the padded
    image (`count_include_pad`) or at the image; or `divisor_override`.
    """
    windows = average_windows(module, shape)
    norms = map(_averages_norm, windows, shape[1:])
    override = getattr(module, "divisor_override", None)
    scale = 1.0 if override is None else div_up(1.0, float(abs(override)))
    return Bound(mul_up(scale, *norms), f"{class_name(module)}: norm along each axis")


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def adaptive_average_pool(module: nn.AdaptiveAvgPool2d, shape: Shape) -> Bound:
    """As average pooling, with the windows ⌊jn/m⌋ ≤ i < ⌈(j + 1)n/m⌉."""
    norms = map(_averages_norm, average_windows(module, shape), shape[1:])
    return Bound(mul_up(*norms), f"{class_name(module)}: norm along each axis")


def average_windows(module: nn.Module, shape: Shape) -> list[list[tuple[range, int]]]:
    """The windows of an average pooling along each axis, each with what it divides by there."""
    sizes, outputs = _spatial(module, shape, _pooled_axes(module))
    axes = enumerate(zip(sizes, outputs, strict=True))
    if isinstance(module, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)):
        return [_average_windows(module, axis, size, count) for axis, (size, count) in axes]
    adaptive = [_adaptive_windows(size, count) for _, (size, count) in axes]
    return [[(window, len(window)) for window in windows] for windows in adaptive]


def _average_windows(
    module: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d, axis: int, size: int, outputs: int
) -> list[tuple[range, int]]:
    kernel, stride = _axis(module.kernel_size, axis), _axis(module.stride, axis)
    pad = _axis(module.padding, axis)
    override = getattr(module, "divisor_override", None)
    windows = []
    for j in range(outputs):
        start = j * stride - pad
        stop = min(start + kernel, size + pad)
        inside = range(max(start, 0), min(stop, size))
        count = stop - start if module.count_include_pad else len(inside)
        windows.append((inside, 1 if override else count))
    return windows


@rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
def max_pool(module: nn.MaxPool2d, shape: Shape) -> Bound:
    """√r, where r is the largest number of windows that share a pixel.

    |max x − max y|² ≤ max (x − y)² ≤ Σ (xᵢ − yᵢ)² over a window; summed over windows, a pixel counts
    r times at most.  Attained by a pixel that is the largest of each of its windows.
    """
    if module.return_indices:
        raise NotCertifiedError(f"{class_name(module)} returns indices beside its output.")
    sizes, outputs = _spatial(module, shape, _pooled_axes(module))
    shared = 1
    for axis, size in enumerate(sizes):
        stride, dilation = _axis(module.stride, axis), _axis(module.dilation, axis)
        reach = _axis(module.kernel_size, axis) * dilation
        starts = [j * stride - _axis(module.padding, axis) for j in range(outputs[axis])]
        shared *= _overlap([range(start, start + reach, dilation) for start in starts], size)
    return Bound(sqrt_up(float(shared)), f"{class_name(module)}: √{shared}, windows on a pixel")


@rule(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
def adaptive_max_pool(module: nn.AdaptiveMaxPool2d, shape: Shape) -> Bound:
    """As maximum pooling, with the windows of adaptive average pooling."""
    if module.return_indices:
        raise NotCertifiedError(f"{class_name(module)} returns indices beside its output.")
    shared = 1
    for size, count in zip(*_spatial(module, shape, _pooled_axes(module)), strict=True):
        shared *= _overlap(_adaptive_windows(size, count), size)
    return Bound(sqrt_up(float(shared)), f"{class_name(module)}: √{shared}, windows on a pixel")


_POOLED_AXES = {
    **dict.fromkeys((nn.AvgPool1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), 1),
    **dict.fromkeys((nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), 2),
    **dict.fromkeys((nn.AvgPool3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d), 3),
}


def _pooled_axes(module: nn.Module) -> int:
    return next(_POOLED_AXES[cls] for cls in type(module).__mro__ if cls in _POOLED_AXES)


def _spatial(module: nn.Module, shape: Shape, axes: int) -> tuple[Shape, Shape]:
    """The sizes of the input and of the output along the axes that a module works on.

    Torch takes a batch of examples that lack the axis of channels for one example.
    """
    if len(shape) != 1 + axes:
        raise NotCertifiedError(
            f"{class_name(module)} takes channels and {axes} more axes, got examples of shape "
            f"{tuple(shape)}: a batch of them would be taken for one."
        )
    return tuple(shape[1:]), output_shape(module, shape)[1:]


def _axis(value: Any, axis: int) -> int:
    return int(value[axis]) if isinstance(value, Sequence) else int(value)


def _adaptive_windows(size: int, count: int) -> list[range]:
    """The windows of adaptive pooling along one axis."""
    return [range(j * size // count, -(-(j + 1) * size // count)) for j in range(count)]


def _overlap(windows: Sequence[range], size: int) -> int:
    """The largest number of windows that share a pixel of one axis."""
    return max((sum(pixel in window for window in windows) for pixel in range(size)), default=0)


def _averages_norm(windows: Sequence[tuple[range, int]], size: int) -> float:
    """Norm of the matrix whose rows average over windows, given with what they divide by.

    A quotient 1 / count in float64 is off by u of itself: ‖A‖ ≤ ‖fl(A)‖ + 2u ‖fl(A)‖_F, and
    ‖fl(A)‖_F ≤ √m ‖fl(A)‖.
    """
    matrix = torch.zeros(len(windows), size, dtype=torch.float64)
    for row, (inside, count) in zip(matrix, windows, strict=True):
        if inside:
            row[inside.start : inside.stop] = 1 / count
    norm = matrix_norm(matrix)
    return mul_up(norm, add_up(1.0, mul_up(2 * U, sqrt_up(float(len(windows))))))


# Composition


@rule(nn.Sequential)
def sequential(module: nn.Sequential, shape: Shape) -> Bound:
    """Constants multiply under composition."""
    parts = []
    for child in module:
        parts.append(lipschitz(child, shape))
        shape = output_shape(child, shape)
    return Bound(mul_up(*(part.value for part in parts)), "Sequential: product", tuple(parts))
