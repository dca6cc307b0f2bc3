"""The program that a certificate is about: a network of few kinds of operations.

`lower` writes a network, exported, in the operations below and in those of `torch.nn` and
`lipnets.layers` that need no other words: whatever moves pixels is a `Gather`, whatever scales and
shifts channels an `Affine`, whatever averages along axes an `AxisMaps`.  The certificate holds of
the program as it stands: if a lowering were wrong, bounds, rounding errors and logits would all be
those of another network, which the tests compare with the first, and none of them false.

Fewer operations mean fewer theorems: each has a rule of its Lipschitz constant (`lipnets.rule`), a
rule of its rounding (`lipnets.rounding_rule`), and a form in certificate files, where a checker in
numpy proves both again.
"""

__all__ = [
    "Affine",
    "AxisMaps",
    "Gather",
    "channels",
    "coordinates",
    "lower",
    "lowering",
]

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, padding

from .bounds import (
    Bound,
    NotCertifiedError,
    Shape,
    forward_owner,
    output_shape,
    rule,
    rule_of,
    without_autocast,
)
from .linalg import matrix_norm, mul_up, sqrt_up
from .rules import average_windows

Lowering = Callable[[Any, Shape], nn.Module]  # (module, shape of an example) -> its operations
F = TypeVar("F", bound=Callable[..., nn.Module])
_LOWERINGS: dict[type[nn.Module], Lowering] = {}


def lowering(*owners: type[nn.Module]) -> Callable[[F], F]:
    """Registers the decorated function as what writes modules with the forward of `owners` in operations.

    The function takes an exported module in evaluation mode and in float64, and the shape of an
    example, without batch dimension; it returns a module with the same function of such examples,
    which shares no tensor that is changed later.

    Raises:
        ValueError: If one of the owners has a lowering.
    """

    def register(fn: F) -> F:
        for owner in owners:
            if owner in _LOWERINGS:
                raise ValueError(f"{owner.__name__} already has a lowering, {_LOWERINGS[owner]}.")
            _LOWERINGS[owner] = fn
        return fn

    return register


@torch.no_grad()
def lower(module: nn.Module, shape: Shape) -> nn.Module:
    """Writes a module in operations; one without a lowering is an operation itself.

    Arguments:
        module: An exported module, in evaluation mode and in float64.
        shape: The shape of one example, without batch dimension.

    Returns:
        A module with the same real function, in evaluation mode.

    Raises:
        NotCertifiedError: If no rule covers the module as it stands: see `lipnets.lipschitz`.
    """
    fn = _LOWERINGS.get(forward_owner(type(module)))
    if fn is None:
        return module
    bound = rule_of(module)  # refuses hooks and the like, which lowering would lose
    with without_autocast(module):
        if next(module.children(), None) is None:  # refuses what would not be the same function
            bound(module, tuple(shape))
        return fn(module, tuple(shape)).eval()


class Affine(nn.Module):
    """Scales coordinates and adds a constant, c ⊙ x + b.

    Arguments:
        scale: The factors c, of a shape that broadcasts to that of an example, such as (C, 1, 1);
            None for ones.
        shift: The constant b, of such a shape; None for zeros.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, scale: Tensor | None = None, shift: Tensor | None = None) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("shift", shift)):
            parameter = None if value is None else nn.Parameter(value.detach().clone())
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *S)
        out = x if self.scale is None else self.scale * x
        return out if self.shift is None else out + self.shift


@rule(Affine)
def _affine(module: Affine, shape: Shape) -> Bound:
    """A diagonal linear map up to a constant, of norm max |c|; broadcasting repeats no example."""
    for value in (module.scale, module.shift):
        if value is not None:
            _refuse_broadcast(value, shape)
    if module.scale is None:
        return Bound(1.0, "Affine: adds a constant")
    return Bound(module.scale.double().abs().max().item(), "Affine: largest factor")


def _refuse_broadcast(value: Tensor, shape: Shape) -> None:
    """Refuses tensors that would give an example another shape than it has."""
    sizes = tuple(value.shape)
    pairs = zip(reversed(sizes), reversed(shape), strict=False)
    if len(sizes) > len(shape) or not all(own in (1, size) for own, size in pairs):
        raise NotCertifiedError(
            f"A tensor of shape {sizes} does not broadcast to examples of shape {tuple(shape)}."
        )


class Gather(nn.Module):
    """Picks coordinates of an example, in any order, and zeros between them.

    Arguments:
        index: For each coordinate of the output, in row-major order, that of the input which it is,
            or −1 for a zero; an integer tensor with as many entries as the output.  None keeps all in order.
        shape: The shape of the output, without batch dimension.
    """

    index: Tensor | None

    def __init__(self, index: Tensor | None, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("index", None if index is None else index.flatten().long())

    def extra_repr(self) -> str:
        return f"shape={self.shape}"

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *shape)
        if self.index is None:
            return x.reshape(-1, *self.shape)
        picked = x.flatten(1)[:, self.index.clamp_min(0)]
        return picked.where(self.index >= 0, 0.0).reshape(-1, *self.shape)


@rule(Gather)
def _gather(module: Gather, shape: Shape) -> Bound:
    """Coordinate i of the input counts as often as it is picked: √ of the largest number of times."""
    inputs, outputs = math.prod(shape), math.prod(module.shape)
    if module.index is None:
        if inputs != outputs:
            raise NotCertifiedError(f"Gather of shape {module.shape} takes no examples of {shape}.")
        return Bound(1.0, "Gather: keeps its input")
    index = module.index
    if index.is_floating_point() or index.numel() != outputs or not outputs:
        raise NotCertifiedError(f"Gather should hold {outputs} integers, got {index.numel()}.")
    if not -1 <= int(index.min()) <= int(index.max()) < inputs:
        raise NotCertifiedError(f"Gather picks coordinates that examples of {shape} lack.")
    times = int(torch.bincount(index[index >= 0], minlength=1).max())
    return Bound(sqrt_up(float(times)), f"Gather: picks a coordinate {times} times at most")


class AxisMaps(nn.Module):
    """Applies a matrix along each axis of an example, or none.

    Arguments:
        matrices: For each axis of an example, a matrix with shape (outputs, inputs), or None.
    """

    def __init__(self, matrices: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.axes = tuple(axis for axis, matrix in enumerate(matrices) if matrix is not None)
        kept = [nn.Parameter(matrix.detach().clone()) for matrix in matrices if matrix is not None]
        self.matrices = nn.ParameterList(kept)

    def extra_repr(self) -> str:
        return f"axes={self.axes}"

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *S')
        for axis, matrix in zip(self.axes, self.matrices, strict=True):
            x = (x.movedim(axis + 1, -1) @ matrix.mT).movedim(-1, axis + 1)
        return x


@rule(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape) -> Bound:
    """A composition of maps that each act on all lines along an axis alike, of the norm of its matrix."""
    if len(set(module.axes)) != len(module.axes) or not all(
        0 <= axis < len(shape) for axis in module.axes
    ):
        raise NotCertifiedError(f"AxisMaps of axes {module.axes} takes no examples of {shape}.")
    norms = [matrix_norm(matrix) for matrix in module.matrices]
    return Bound(mul_up(*norms), "AxisMaps: product of the norms of its matrices")


# Modules of torch.nn


@lowering(nn.Sequential)
def _sequential(module: nn.Sequential, shape: Shape) -> nn.Module:
    """Child by child, under the same names."""
    lowered = nn.Sequential()
    last = None
    for name, child in module._modules.items():  # noqa: SLF001 - named_children skips repetitions
        if child is None:
            continue
        shape = shape if last is None else _shape_behind(last, shape)
        last = lower(child, shape)
        lowered.add_module(name, last)
    return lowered


def _shape_behind(operation: nn.Module, shape: Shape) -> Shape:
    """As `output_shape`, a hundred times as fast for operations that say it."""
    if type(operation) is Gather:
        return operation.shape
    return (
        shape
        if type(operation) in (Affine, nn.Identity, nn.ReLU)
        else output_shape(operation, shape)
    )


@lowering(
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
def _dropout(module: nn.Module, shape: Shape) -> nn.Module:
    """In evaluation mode, the identity."""
    return nn.Identity()


@lowering(
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)
def coordinates(module: nn.Module, shape: Shape) -> Gather:
    """A module that moves coordinates, leaves some out or appends zeros: what it does to their numbers."""
    count = math.prod(shape)
    numbers = torch.arange(1, count + 1, dtype=torch.float64, device="cpu")
    moved = module(numbers.reshape(1, *shape))[0]
    if not moved.numel():
        raise NotCertifiedError(f"{type(module).__name__} leaves nothing of examples of {shape}.")
    index = moved.flatten().long() - 1
    kept = torch.equal(index, torch.arange(count, device="cpu"))
    return Gather(None if kept else index, moved.shape)


@lowering(padding._ConstantPadNd)  # noqa: SLF001
def _constant_pad(module: padding._ConstantPadNd, shape: Shape) -> nn.Module:
    """Zeros appended, or a constant added there."""
    value = float(module.value)
    module.value, before = 0, module.value
    try:
        gather = coordinates(module, shape)
    finally:
        module.value = before
    if value == 0 or gather.index is None:
        return gather
    fill = torch.zeros(gather.shape, dtype=torch.float64)
    fill[(gather.index < 0).reshape(gather.shape)] = value
    return nn.Sequential(gather, Affine(shift=fill))


@lowering(batchnorm._BatchNorm)  # noqa: SLF001
def _batch_norm(module: batchnorm._BatchNorm, shape: Shape) -> nn.Module:
    """γ / √(v + ε) and β − γ m / √(v + ε), as float64 computes them once."""
    if module.running_mean is None or module.running_var is None:
        raise NotCertifiedError("BatchNorm without running statistics mixes the examples.")
    scale = 1 / (module.running_var.double() + module.eps).sqrt()
    if module.weight is not None:
        scale = module.weight.double() * scale
    shift = -module.running_mean.double() * scale
    if module.bias is not None:
        shift = module.bias.double() + shift
    return Affine(channels(scale, shape), channels(shift, shape))


def channels(values: Tensor, shape: Shape) -> Tensor:
    """One number for each channel, or one for all, as a tensor that broadcasts to an example."""
    return values.reshape(-1, *[1] * (len(shape) - 1))


@lowering(
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
def _average_pool(module: nn.Module, shape: Shape) -> nn.Module:
    """A matrix of averages for each axis, and one over the divisor of one's own."""
    matrices: list[Tensor | None] = [None]
    for windows, size in zip(average_windows(module, shape), shape[1:], strict=True):
        matrix = torch.zeros(len(windows), size, dtype=torch.float64)
        for row, (inside, count) in zip(matrix, windows, strict=True):
            if inside:
                row[inside.start : inside.stop] = 1 / count
        matrices.append(matrix)
    pool = AxisMaps(matrices)
    override = getattr(module, "divisor_override", None)
    if override is None:
        return pool
    return nn.Sequential(pool, Affine(torch.tensor(1 / override, dtype=torch.float64)))
