"""Differentiable maps of a matrix whose steps depend on its values.

In Python they are a `torch.autograd.Function`.  The compiler, and tensors without values (fake, or
on the meta device), meet an operator `lipnets::map` instead, which they do not look into.
"""

__all__ = ["is_without_values", "opaque"]

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Forward = Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]
Backward = Callable[[Sequence[Tensor], Tensor], Tensor]

_MAPS: dict[str, tuple[Forward, Backward]] = {}


def is_without_values(weight: Tensor) -> bool:
    """Whether a tensor is fake, or on the meta device: a shape, where a search is lost time."""
    return weight.is_meta or detect_fake_mode(weight) is not None


def opaque(name: str, forward: Forward, backward: Backward) -> Callable[[Tensor], Tensor]:
    """Makes a differentiable map of matrices that keeps their shape.

    Arguments:
        name: Its name in graphs of the compiler.
        forward: Takes a matrix and gives the result and what the derivative needs.
        backward: Takes what the derivative needs and a gradient, and gives that of the matrix.

    Returns:
        The map.  Of a matrix that is not finite it gives nan.
    """
    if name in _MAPS:
        raise ValueError(f"There is already a map {name!r}.")
    _MAPS[name] = (forward, backward)

    def apply(weight: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or is_without_values(weight):
            return torch.ops.lipnets.map(weight, name)
        return _Map.apply(weight, name)[0]  # pyright: ignore[reportIndexIssue]

    return apply


class _Map(Function):
    """A map of the table, whose other outputs are what it saves."""

    @staticmethod
    def forward(weight: Tensor, name: str) -> tuple[Tensor, ...]:
        # A sum is finite if no entry is not, and seldom overflows: one pass.
        if not weight.sum().isfinite() and not weight.isfinite().all():
            return (torch.full_like(weight, torch.nan),)
        out, saved = _MAPS[name][0](weight)
        # Torch takes what is saved for results of their own: not the input, nor the first result.
        return out, *(t.detach() if t is out or t is weight else t for t in saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name = inputs[1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.set_materialize_grads(False)  # else backward fills zeros for all that is saved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = ctx.saved_tensors
        if grads[0] is None:
            return None, None
        if not saved:
            return torch.full_like(grads[0], torch.nan), None
        return _MAPS[ctx.name][1](saved, grads[0]), None


@torch.library.custom_op("lipnets::map", mutates_args=())
def _map(weight: Tensor, name: str) -> Tensor:
    return _Map.forward(weight, name)[0].clone(memory_format=torch.contiguous_format)


@torch.library.custom_op("lipnets::map_backward", mutates_args=())
def _map_backward(weight: Tensor, grad: Tensor, name: str) -> Tensor:
    """The derivative, for which the map is computed again: graphs save no lists of tensors."""
    saved = _Map.forward(weight, name)[1:]
    if not saved:
        return torch.full_like(weight, torch.nan, memory_format=torch.contiguous_format)
    return _MAPS[name][1](saved, grad).clone(memory_format=torch.contiguous_format)


@_map.register_fake
def _(weight: Tensor, name: str) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@_map_backward.register_fake
def _(weight: Tensor, grad: Tensor, name: str) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, ctx.name = inputs
    ctx.save_for_backward(weight)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return torch.ops.lipnets.map_backward(ctx.saved_tensors[0], grad, ctx.name), None


_map.register_autograd(_differentiate, setup_context=_save)
