"""What acts on the channels of each pixel, and what acts between pixels in channels of other axes.

References:
    | LipNeXt: Scaling up Lipschitz-based Certified Robustness to Billion-parameter Models
    | (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513
"""

__all__ = ["Conjugate", "Pointwise", "PositionBias2d"]

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import (
    Bound,
    NotCertifiedError,
    Shape,
    forward_owner,
    lipschitz,
    output_shape,
    rule,
    rule_of,
)
from ..linalg import matrix_norm, mul_up
from ..program import Affine, Gather, lower, lowering
from ._registry import Card, named
from .absolute import Abs, BetaAbs
from .groupsort import FullSort, GroupSort, MaxMin
from .n_activation import NActivation


class Pointwise(nn.Module):
    """Applies a dense layer to the channels of each pixel, alike and apart.

    Arguments:
        layer: The layer, of vectors.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C', ...)
        pixels = x.movedim(1, -1)  # (B, ..., C)
        out = self.layer(pixels.flatten(0, -2))
        return out.unflatten(0, pixels.shape[:-1]).movedim(-1, 1)


@rule(Pointwise)
def _pointwise(module: Pointwise, shape: Shape) -> Bound:
    """Σ ‖f(xₚ) − f(yₚ)‖² ≤ L² Σ ‖xₚ − yₚ‖², the pixels p being examples of f."""
    part = lipschitz(module.layer, shape[:1])
    return Bound(part.value, "Pointwise: that of its layer, at each pixel", (part,))


@lowering(Pointwise)
def _lowered_pointwise(module: Pointwise, shape: Shape) -> nn.Module:
    """What its layer is made of, at each pixel; the module itself where that has no such form."""
    lowered = _at_pixels(lower(module.layer, shape[:1]), shape[:1], shape[1:])
    return module if lowered is None else lowered


def _at_pixels(module: nn.Module, shape: Shape, size: Shape) -> nn.Module | None:
    """An operation on vectors, on the channels of each pixel; None if it has no such form."""
    owner = forward_owner(type(module))
    if owner is nn.Linear and isinstance(module, nn.Linear):
        rule_of(module)  # refuses hooks and the like
        return _pixel_matrix(module.weight, module.bias, size)
    if isinstance(module, Affine):
        axes = (-1, *[1] * len(size))
        pair = (module.scale, module.shift)
        return Affine(*(None if values is None else values.reshape(axes) for values in pair))
    if isinstance(module, nn.Sequential) and owner is nn.Sequential:
        lowered = nn.Sequential()
        for name, child in module._modules.items():  # noqa: SLF001 - named_children skips repetitions
            if child is None:
                continue
            own = _at_pixels(child, shape, size)
            if own is None:
                return None
            lowered.add_module(name, own)
            shape = output_shape(child, shape)
        return lowered
    return module if owner in _ON_CHANNELS else None


# What treats the channels of an image as those of a vector.
_ON_CHANNELS = {nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Tanh, nn.Sigmoid}
_ON_CHANNELS |= {Abs, BetaAbs, MaxMin, GroupSort, FullSort, NActivation}


def _pixel_matrix(weight: Tensor, bias: Tensor | None, size: Shape) -> nn.Module:
    """Wx + b at each pixel: a convolution of one tap."""
    outs, ins = weight.shape
    if not size:
        linear = nn.Linear(ins, outs, bias is not None, device="meta")
        return _holding(linear, weight, bias)
    axes = len(size) if len(size) <= 3 else 1
    build = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    conv = build(ins, outs, 1, bias=bias is not None, device="meta")
    conv = _holding(conv, weight.reshape(outs, ins, *[1] * axes), bias)
    if axes == len(size):
        return conv
    return nn.Sequential(Gather(None, (ins, math.prod(size))), conv, Gather(None, (outs, *size)))


def _holding(
    module: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, weight: Tensor, bias: Tensor | None
) -> nn.Module:
    module.weight = nn.Parameter(weight.detach().contiguous())
    if bias is not None:
        module.bias = nn.Parameter(bias.detach())
    return module


class Conjugate(nn.Module):
    """Turns channels, acts, and turns them back: Wᵀ f(W x), with W at each pixel.

    With orthogonal W, f acts on channels along other axes than those of the images; shifts of
    pixels become shifts of learned combinations of channels.

    Arguments:
        linear: The linear layer of W, from C to C' channels, without bias; constrained or not.
        inner: The map f of images with C' channels, which keeps their number.

    Raises:
        ValueError: If the layer is not `nn.Linear`, or has a bias.
    """

    def __init__(self, linear: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear) or linear.bias is not None:
            raise ValueError(
                "Conjugate takes an nn.Linear without bias, constrained or not, whose weight is "
                f"used twice, got {type(linear).__name__}: choose 'cayley_linear' or its kin, with "
                "bias=False."
            )
        self.linear, self.inner = linear, inner

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        weight = self.linear.weight  # computed once, where it is parametrized
        turned = F.linear(x.movedim(1, -1), weight).movedim(-1, 1)
        return F.linear(self.inner(turned).movedim(1, -1), weight.mT).movedim(-1, 1)


@rule(Conjugate)
def _conjugate(module: Conjugate, shape: Shape) -> Bound:
    """‖Wᵀ‖ L ‖W‖: both products act at each pixel apart, with the norm of W."""
    turned = (module.linear.weight.shape[0], *shape[1:])
    part = lipschitz(module.inner, turned)
    after = output_shape(module.inner, turned)
    if after[:1] != turned[:1]:
        raise NotCertifiedError(
            f"The inner map of Conjugate should keep {turned[0]} channels, got {after[0]}."
        )
    norm = matrix_norm(module.linear.weight)
    value = mul_up(mul_up(norm, norm), part.value)
    return Bound(value, f"Conjugate: squared norm of its weight, {norm:.6g}, × inner", (part,))


@lowering(Conjugate)
def _lowered_conjugate(module: Conjugate, shape: Shape) -> nn.Module:
    """W at each pixel, what is inside, and Wᵀ at each pixel."""
    weight = module.linear.weight
    turned = (len(weight), *shape[1:])
    size = output_shape(module.inner, turned)[1:]
    lowered = nn.Sequential()
    lowered.add_module("turn", _pixel_matrix(weight, None, shape[1:]))
    lowered.add_module("inner", lower(module.inner, turned))
    lowered.add_module("back", _pixel_matrix(weight.mT, None, size))
    return lowered


@named(
    "position_bias2d",
    Card(
        kind="pooling and mixing",
        guarantee="orthogonal",
        paper="Hu, Hu & Fredrikson, 2026",
        url="https://arxiv.org/abs/2601.18513",
        choose="To tell places apart where all else treats them alike, as circular shifts do.",
        arguments={"size": (3, 4)},
        shape=(2, 3, 4),
    ),
)
class PositionBias2d(nn.Module):
    """Adds a learned number to each pixel, the same to all of its channels; 0 at first.

    Arguments:
        size: The height and width of images.
    """

    def __init__(
        self,
        size: tuple[int, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(tuple(size), device=device, dtype=dtype))

    def extra_repr(self) -> str:
        return f"size={tuple(self.bias.shape)}"

    def no_weight_decay(self) -> set[str]:
        """Parameters that an optimizer should not let decay."""
        return {"bias"}

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        if x.shape[-2:] != self.bias.shape:
            raise ValueError(
                f"PositionBias2d is made for images of {tuple(self.bias.shape)}, got "
                f"{tuple(x.shape[-2:])}."
            )
        return x + self.bias


@rule(PositionBias2d)
def _position_bias2d(module: PositionBias2d, shape: Shape) -> Bound:
    """A translation, of images of its own size: others would be repeated by broadcasting."""
    if len(shape) != 3 or shape[1:] != module.bias.shape:
        raise NotCertifiedError(
            f"PositionBias2d takes images of {tuple(module.bias.shape)}, got shape {shape}."
        )
    return Bound(1.0, "PositionBias2d: adds a constant")


@lowering(PositionBias2d)
def _lowered_position_bias2d(module: PositionBias2d, shape: Shape) -> nn.Module:
    """A shift alone."""
    return Affine(shift=module.bias)
