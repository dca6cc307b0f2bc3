"""Chains and branches, and operations that are in their form already."""

__all__: list[str] = []

from torch import nn

from ..bounds import Shape
from ..exact import Round
from ..layers.attention import TokenAverages
from ..layers.concat import Concat
from ..layers.groupsort import GroupSort, MaxMin
from ..layers.parallel import Parallel
from ..layers.residual import Residual
from ..operations import GroupNorms, Mask, PiecewiseLinear
from ..program import Gather
from ._rewriting import SMOOTH, Done, Parts, chain_of, rewriting


@rewriting(nn.Sequential)
def _sequential(module: nn.Sequential, shape: Shape) -> Parts:
    return [child for child in module._modules.values() if child is not None]  # noqa: SLF001


@rewriting(nn.Identity)
def _identity(module: nn.Identity, shape: Shape) -> Parts:
    return []


@rewriting(Residual)
def _residual(module: Residual, shape: Shape) -> Parts:
    shortcut = None if module.shortcut is None else chain_of(module.shortcut, shape)
    branch = chain_of(module.branch, shape)
    return [Done(Residual(branch, shortcut if shortcut is not None and len(shortcut) else None))]


@rewriting(Concat)
def _concat(module: Concat, shape: Shape) -> Parts:
    return [Done(Concat(*(chain_of(branch, shape) for branch in module.branches)))]


@rewriting(Parallel)
def _parallel(module: Parallel, shape: Shape) -> Parts:
    pairs = zip(module.branches, module.split_sizes, strict=True)
    branches = [chain_of(branch, (size, *shape[1:])) for branch, size in pairs]
    return [Done(Parallel(branches, module.split_sizes))]


_GROUPS = (GroupNorms, MaxMin, GroupSort, TokenAverages)


@rewriting(
    *(Gather, Round, Mask, nn.ReLU, PiecewiseLinear, *_GROUPS),
    *(each for each in SMOOTH if each is not nn.ELU),  # whose slope below zero is a piece
)
def _kept(module: nn.Module, shape: Shape) -> Parts:
    return [module]
