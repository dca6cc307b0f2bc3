"""Blocks around a matrix of vectors, or a convolution in a circle."""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import nn

from ..bounds import Shape, output_shape
from ..layers.potential import PotentialConv2d, PotentialLinear
from ..layers.sandwich import SandwichConv2d, SandwichLinear
from ..operations import Mask, PiecewiseLinear
from ._convolutions import Circle
from ._linear import conv
from ._rewriting import SMOOTH, Done, Parts, chain_of, picked, places, rewriting


@rewriting(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape) -> Parts:
    """A block of channels: around a matrix on vectors, or a convolution of stride and dilation 1."""
    if isinstance(module, PotentialConv2d | SandwichConv2d):
        return _spatial(module.inner, module.activation, shape, _outputs(module))
    inner, outs = module.inner, _outputs(module)
    if len(shape) > 1:  # rows are pixels of a line
        wide = (shape[-1], math.prod(shape[:-1]), 1)
        first = places(shape).movedim(-1, 0).reshape(wide)
        back = places((outs or shape[-1], *shape[:-1])).movedim(0, -1)
        matrix = conv(inner.weight[:, :, None, None], inner.bias).module
        return [picked(first), *_spatial(matrix, module.activation, wide, outs), picked(back)]
    ins = math.prod(shape)
    activation = _activation(module.activation, output_shape(inner, (outs + ins,)))
    block: Any = SandwichLinear(ins, outs) if outs else PotentialLinear(ins, ins)
    block.inner, block.activation = inner, activation
    return [Done(block.double().eval())]


def _outputs(module: Any) -> int:
    """The number of outputs of a sandwich; 0 of the other block."""
    if isinstance(module, SandwichConv2d):
        return module.out_channels
    return module.out_features if isinstance(module, SandwichLinear) else 0


def _spatial(inner: Any, activation: nn.Module, shape: Shape, outs: int) -> Parts:
    """A block in a circle: what it computes outside of the outputs of its convolution is masked."""
    circle = Circle(inner, (outs + shape[0], *shape[1:]))
    block: Any = (
        SandwichConv2d(shape[0], outs, 1) if outs else PotentialConv2d(shape[0], shape[0], 1)
    )
    block.inner = circle.conv().module
    hidden = (inner.out_channels, *circle.sizes)
    block.activation = _activation(activation, hidden)
    keep = torch.ones(hidden, dtype=torch.bool)
    for axis, kept in enumerate(circle.kept, start=1):
        inside = torch.zeros(hidden[axis], dtype=torch.bool)
        inside[kept] = True
        keep &= inside.view(-1, *[1] * (len(hidden) - 1 - axis))
    if not keep.all():
        block.activation.append(Mask(keep))
    back = places((outs or shape[0], *circle.sizes))
    back = back[(slice(None), *(slice(n) for n in shape[1:]))]
    return [circle.before(shape[0]), Done(block.double().eval()), picked(back)]


def _activation(activation: nn.Module, shape: Shape) -> nn.Sequential:
    """A function of each entry at least, and what rounds."""
    found = chain_of(activation, shape)
    if not any(isinstance(each, (nn.ReLU, PiecewiseLinear, *SMOOTH)) for each in found):
        zero = torch.zeros(1, 1, dtype=torch.float64)
        found.insert(0, PiecewiseLinear(zero, zero.new_ones(1, 2), zero[0]))
    return found
