"""Matrices along axes, and factors and constants of channels, as convolutions of a single tap."""

__all__ = ["CONVS", "along", "conv", "filled", "linear"]

from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Shape
from ..layers.attention import L2SelfAttention, TokenAverages
from ..program import Affine, AxisMaps, Gather
from ._rewriting import Done, Parts, picked, places, rewriting

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return filled(module, weight, bias)  # pyright: ignore[reportReturnType]


def conv(weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Done:
    """A convolution in a circle, of stride and dilation 1."""
    kernel: Any = tuple(weight.shape[2:])
    circular = any(k > 1 for k in kernel)
    module = CONVS[weight.ndim - 3](
        weight.shape[1] * groups, weight.shape[0], kernel, groups=groups, bias=bias is not None,
        padding="same" if circular else 0, padding_mode="circular" if circular else "zeros",
    )  # fmt: skip
    return Done(filled(module, weight, bias))


def filled(module: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A module with these weights, and not those it was built with."""
    module.weight = nn.Parameter(_own(weight))
    if bias is not None:
        module.bias = nn.Parameter(_own(bias))
    return module.double().eval()


def _own(tensor: Tensor) -> Tensor:
    """A copy, in order in memory."""
    return tensor.detach().double().clone(memory_format=torch.contiguous_format)


@rewriting(nn.Linear)
def _rows(module: nn.Linear, shape: Shape) -> Parts:
    if len(shape) == 1:
        return [module]
    return along(module.weight, len(shape) - 1, shape, module.bias)


def along(matrix: Tensor, axis: int, shape: Shape, bias: Tensor | None = None) -> Parts:
    """A matrix along an axis: in front, it is that of channels."""
    if len(shape) == 1:
        return [linear(matrix, bias)]
    if axis == 0 and len(shape) <= 4:
        return [conv(matrix.view(*matrix.shape, *[1] * (len(shape) - 1)), bias)]
    rest = (*shape[:axis], *shape[axis + 1 :])
    first = picked(places(shape).movedim(axis, 0).reshape(shape[axis], -1))
    back = places((len(matrix), *rest)).movedim(0, axis)
    return [first, conv(matrix[:, :, None], bias), picked(back)]


@rewriting(L2SelfAttention)
def _attention(module: L2SelfAttention, shape: Shape) -> Parts:
    """Averages of tokens between two maps of their channels, the last one with the factor."""
    maps, factor = (module.queries, module.output), float(module.factor)
    into, out = (each.weight.detach().double()[:, :, None] for each in maps)
    biases = [None if each.bias is None else each.bias.detach().double() for each in maps]
    return [
        picked(places(shape).mT),
        conv(into, biases[0]),
        TokenAverages(module.sharpness.double()),
        conv(factor * out, None if biases[1] is None else factor * biases[1]),
        picked(places((shape[1], shape[0])).mT),
    ]


@rewriting(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape) -> Parts:
    found: list[nn.Module | Done] = []
    for axis, matrix in zip(module.axes, module.matrices, strict=True):
        found += along(matrix, axis, shape)
        shape = (*shape[:axis], len(matrix), *shape[axis + 1 :])
    return found


@rewriting(Affine)
def _affine(module: Affine, shape: Shape) -> Parts:
    """A factor and a constant of each channel, or, if they differ in it, of each coordinate."""
    like = torch.ones(shape, dtype=torch.float64)
    scale = like if module.scale is None else module.scale.double() * like
    shift = None if module.shift is None else module.shift.double() + 0 * like
    flat = [each.reshape(shape[0], -1) for each in (scale, shift) if each is not None]
    if 1 < len(shape) <= 4 and all(torch.equal(each, each[:, :1].expand_as(each)) for each in flat):
        return [_depthwise(flat[0][:, 0], shift if shift is None else flat[-1][:, 0], shape)]
    single = (scale.numel(), 1)
    middle = _depthwise(scale.flatten(), None if shift is None else shift.flatten(), single)
    return [Gather(None, single), middle, Gather(None, shape)]


def _depthwise(scale: Tensor, shift: Tensor | None, shape: Shape) -> Done:
    return conv(scale.view(-1, 1, *[1] * (len(shape) - 1)), shift, groups=len(scale))
