"""Branches on the same input, side by side."""

__all__ = ["Concat", "ConcatResidual"]

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from ..bounds import Bound, Shape, lipschitz, refuse_inplace, rule
from ..linalg import add_up, mul_up, sqrt_up
from ..program import Affine, lower, lowering
from ..rounding import Analysis, Ball, rounding_rule
from ._balls import side_by_side


class Concat(nn.Module):
    """Concatenates the outputs of branches that all see the same input, along the channels.

    Arguments:
        branches: The modules f₁, f₂, ...; their outputs differ in the number of channels only.

    Raises:
        ValueError: If there is no branch.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if not branches:
            raise ValueError("Concat should have at least one branch, got none.")
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C₁ + C₂ + ..., ...)
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class ConcatResidual(nn.Module):
    """Concatenates its input with a branch, (√(1 − a) x, √a f(x)), with a norm of 1 for branches of 1.

    To give a branch only some of the channels, and pass the others on, use `Parallel`.

    Arguments:
        branch: The module f; its output differs from the input in the number of channels only.
        alpha: The share a of the branch, in [0, 1].

    Raises:
        ValueError: If the share is not in the interval.
    """

    def __init__(self, branch: nn.Module, alpha: float = 0.5) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"'alpha' should be in [0, 1], got {alpha}.")
        self.branch = branch
        self.weights = ((1 - alpha) ** 0.5, alpha**0.5)

    def extra_repr(self) -> str:
        return "weights=({:.4g}, {:.4g})".format(*self.weights)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C + C', ...)
        return torch.cat([self.weights[0] * x, self.weights[1] * self.branch(x)], dim=1)


@rule(Concat)
def concat(module: Concat, shape: Shape) -> Bound:
    """‖(f₁(x) − f₁(y), f₂(x) − f₂(y), ...)‖² = Σ ‖fᵢ(x) − fᵢ(y)‖² ≤ Σ Lᵢ² ‖x − y‖²."""
    refuse_inplace(module)
    parts = tuple(lipschitz(branch, shape) for branch in module.branches)
    squares = add_up(*(mul_up(part.value, part.value) for part in parts))
    return Bound(sqrt_up(squares), "Concat: √ΣL² of branches on one input", parts)


@rule(ConcatResidual)
def concat_residual(module: ConcatResidual, shape: Shape) -> Bound:
    """With the stored weights u and v, ‖u(x − y)‖² + ‖v(f(x) − f(y))‖² ≤ (u² + v² L²) ‖x − y‖²."""
    refuse_inplace(module)
    branch = lipschitz(module.branch, shape)
    here, there = (Fraction(weight) ** 2 for weight in module.weights)
    square = add_up(here, mul_up(there, branch.value, branch.value))
    return Bound(sqrt_up(square), "ConcatResidual: √(u² + v² L²)", (branch,))


@lowering(Concat)
def _lowered_concat(module: Concat, shape: Shape) -> nn.Module:
    """The branches, lowered."""
    return Concat(*(lower(branch, shape) for branch in module.branches))


@lowering(ConcatResidual)
def _lowered_concat_residual(module: ConcatResidual, shape: Shape) -> nn.Module:
    """Both weights as factors."""
    here, there = (Affine(torch.tensor(w, dtype=torch.float64)) for w in module.weights)
    return Concat(here, nn.Sequential(lower(module.branch, shape), there))


@rounding_rule(Concat)
def _concat_rounds(module: Concat, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Squares of the errors of branches, and of norms, add up: see `side_by_side`."""
    start = replace(ball, error=0.0)
    pairs = [(branch, shape) for branch in module.branches]
    return side_by_side(module, shape, ball, analysis, pairs, [start] * len(pairs))
