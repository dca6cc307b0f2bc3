"""Branches on disjoint groups of channels."""

__all__ = ["Parallel"]

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, rule
from ..program import lower, lowering
from ..rounding import Analysis, Ball, norms, number, rounding_rule
from ._balls import side_by_side


class Parallel(nn.Module):
    """Splits the channels into consecutive groups, and gives each group to a branch of its own.

    Arguments:
        branches: The modules f₁, f₂, ...; their outputs differ in the number of channels only.
        split_sizes: The numbers of channels of the groups, one for each branch.

    Raises:
        ValueError: If there is no branch, or another number of groups.
    """

    def __init__(self, branches: Sequence[nn.Module], split_sizes: Sequence[int]) -> None:
        super().__init__()
        if not branches or len(branches) != len(split_sizes):
            raise ValueError(
                "Parallel should have as many branches as groups of channels, and at least one, "
                f"got {len(branches)} branches and {len(split_sizes)} groups."
            )
        self.branches = nn.ModuleList(branches)
        self.split_sizes = tuple(split_sizes)

    def extra_repr(self) -> str:
        return f"split_sizes={self.split_sizes}"

    def forward(self, x: Tensor) -> Tensor:  # (B, ΣC, ...) -> (B, ΣC', ...)
        groups = x.split(self.split_sizes, dim=1)
        pairs = zip(self.branches, groups, strict=True)
        return torch.cat([branch(group) for branch, group in pairs], dim=1)


@rule(Parallel)
def parallel(module: Parallel, shape: Shape) -> Bound:
    """Σ ‖fᵢ(xᵢ) − fᵢ(yᵢ)‖² ≤ Σ Lᵢ² ‖xᵢ − yᵢ‖² ≤ max Lᵢ² ‖x − y‖², the groups being disjoint."""
    if any(size < 0 for size in module.split_sizes) or sum(module.split_sizes) != shape[0]:
        raise NotCertifiedError(
            f"Groups of {module.split_sizes} channels should split the {shape[0]} of the input."
        )
    parts = tuple(
        lipschitz(branch, (size, *shape[1:]))
        for branch, size in zip(module.branches, module.split_sizes, strict=True)
    )
    return Bound(max(part.value for part in parts), "Parallel: largest of the groups", parts)


@lowering(Parallel)
def _lowered(module: Parallel, shape: Shape) -> nn.Module:
    """The branches, lowered, each for its group of channels."""
    pairs = zip(module.branches, module.split_sizes, strict=True)
    branches = [lower(branch, (size, *shape[1:])) for branch, size in pairs]
    return Parallel(branches, module.split_sizes)


@rounding_rule(Parallel)
def _parallel_rounds(module: Parallel, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A group of channels is no longer than all of them, and no farther from its part of a center.

    What branches make of their groups is put together by `side_by_side`.
    """
    pairs = [
        (branch, (size, *shape[1:]))
        for branch, size in zip(module.branches, module.split_sizes, strict=True)
    ]
    starts = [replace(ball, error=0.0)] * len(pairs)
    if ball.center is not None:
        starts = [
            replace(
                start, center=center, norm=torch.minimum(number(ball.norm), _reach(center, ball))
            )
            for start, center in zip(
                starts, ball.center.split(module.split_sizes, dim=1), strict=True
            )
        ]
    return side_by_side(module, shape, ball, analysis, pairs, starts)


def _reach(center: Tensor, ball: Ball) -> Tensor:
    return number((norms(center) + ball.drift) * (1 + 2.0**-40))
