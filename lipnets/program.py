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

__all__ = ["Affine", "AxisMaps", "Gather", "coordinates", "lower", "lowering"]

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import padding

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
    rule_of(module)  # refuses hooks and the like, which lowering would lose
    with without_autocast(module):
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
    for name, child in module._modules.items():  # noqa: SLF001 - named_children skips repetitions
        if child is None:
            continue
        lowered.add_module(name, lower(child, shape))
        shape = output_shape(child, shape)
    return lowered


@lowering(
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)
def coordinates(module: nn.Module, shape: Shape) -> Gather:
    """A module that moves coordinates, leaves some out or appends zeros: what it does to their numbers."""
    numbers = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    moved = module(numbers.reshape(1, *shape))[0]
    index = moved.flatten().long() - 1
    kept = torch.equal(index, torch.arange(math.prod(shape)))
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
    fill = torch.where(gather.index < 0, value, 0.0).double().reshape(gather.shape)
    return nn.Sequential(gather, Affine(shift=fill))
