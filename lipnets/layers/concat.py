"""Branches on the same input, side by side."""

__all__ = ["Concat"]

import torch
from torch import Tensor, nn

from ..bounds import Bound, Shape, lipschitz, refuse_inplace, rule
from ..linalg import add_up, mul_up, sqrt_up


class Concat(nn.Module):
    """Concatenates the outputs of branches that all see the same input, along the channels.

    Arguments:
        branches: The modules f₁, f₂, ...; their outputs differ in the number of channels only.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if not branches:
            raise ValueError("Concat should have at least one branch, got none.")
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C₁ + C₂ + ..., ...)
        return torch.cat([branch(x) for branch in self.branches], dim=1)


@rule(Concat)
def concat(module: Concat, shape: Shape) -> Bound:
    """‖(f₁(x) − f₁(y), f₂(x) − f₂(y), ...)‖² = Σ ‖fᵢ(x) − fᵢ(y)‖² ≤ Σ Lᵢ² ‖x − y‖²."""
    refuse_inplace(module)
    parts = tuple(lipschitz(branch, shape) for branch in module.branches)
    squares = add_up(*(mul_up(part.value, part.value) for part in parts))
    return Bound(sqrt_up(squares), "Concat: √ΣL² of branches on one input", parts)
