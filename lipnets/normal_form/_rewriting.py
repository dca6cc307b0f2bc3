"""How operations are rewritten: rules by class, chains of what they give, and gathers in a row as one."""

__all__ = ["SMOOTH", "Done", "Parts", "chain_of", "picked", "places", "rewriting", "shape_behind"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, Shape, class_name, forward_owner, output_shape
from ..exact import Round
from ..layers.attention import TokenAverages
from ..layers.groupsort import GroupSort, MaxMin
from ..operations import Mask, PiecewiseLinear
from ..program import Gather


@dataclass(frozen=True)
class Done:
    """An operation that is in its form, and is not rewritten again."""

    module: Any


Parts = Sequence[nn.Module | Done]
Rewriting = Callable[[Any, Shape], Parts]
_REWRITINGS: dict[type[nn.Module], Rewriting] = {}


def rewriting(*owners: type[nn.Module]) -> Callable[[Rewriting], Rewriting]:
    """Registers what gives the operations of modules, one after another; they are rewritten again."""

    def register(fn: Rewriting) -> Rewriting:
        _REWRITINGS.update(dict.fromkeys(owners, fn))
        return fn

    return register


def chain_of(module: nn.Module, shape: Shape) -> nn.Sequential:
    """The operations of a module, none of which is a chain; gathers in a row are one.

    Arguments:
        module: The module, in float64 and in evaluation mode.
        shape: The shape of one example, without batch dimension.

    Raises:
        NotCertifiedError: If an operation has no form in files.
    """
    found, before = list[nn.Module](), [shape]  # and the shapes before each of them, and after all
    for operation in _operations(module, shape):
        if isinstance(operation, Gather) and found and isinstance(found[-1], Gather):
            operation = _composed(found.pop(), operation)  # pyright: ignore[reportArgumentType]
            before.pop()
        if isinstance(operation, Gather):
            operation = _plain(operation, math.prod(before[-1]))
            if operation.index is None and operation.shape == before[-1]:
                continue
        found.append(operation)
        before.append(shape_behind(operation, before[-1]))
    return nn.Sequential(*found)


def _operations(module: nn.Module, shape: Shape) -> list[nn.Module]:
    owner = forward_owner(type(module))
    if owner not in _REWRITINGS:
        raise NotCertifiedError(
            f"{class_name(module)} has no form in certificate files: its program cannot be stored."
        )
    found: list[nn.Module] = []
    for part in _REWRITINGS[owner](module, shape):
        done = part.module if isinstance(part, Done) else part
        inner = [done] if done is not part or part is module else _operations(done, shape)
        found += inner
        for operation in inner:
            shape = shape_behind(operation, shape)
    return found


SMOOTH = (nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink)
_SAME: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, PiecewiseLinear, MaxMin, GroupSort, Round, Mask, TokenAverages),
    *SMOOTH,
)


def shape_behind(operation: nn.Module, shape: Shape) -> Shape:
    """As `output_shape` of an operation of normal forms, but fast where it is known."""
    if isinstance(operation, Gather):
        return operation.shape
    return shape if isinstance(operation, _SAME) else output_shape(operation.eval(), shape)


def _composed(first: Gather, second: Gather) -> Gather:
    if first.index is None or second.index is None:
        index = second.index if first.index is None else first.index
        return Gather(index, second.shape)
    index = first.index[second.index.clamp_min(0)].where(second.index >= 0, -1)
    return Gather(index, second.shape)


def _plain(gather: Gather, count: int) -> Gather:
    """Without an index, if all coordinates stay in order."""
    if gather.index is not None and torch.equal(gather.index.cpu(), torch.arange(count)):
        return Gather(None, gather.shape)
    return gather


def places(shape: Shape) -> Tensor:
    """The number of each coordinate."""
    return torch.arange(math.prod(shape)).view(shape)


def picked(index: Tensor) -> Gather:
    return Gather(index, tuple(index.shape))
