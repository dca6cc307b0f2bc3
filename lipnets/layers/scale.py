"""Fixed scalings: the change of units between pixels and activations."""

__all__ = ["Scale"]

import torch
from torch import Tensor, nn

from ..bounds import Bound, Shape, rule
from ..program import Affine, lowering


class Scale(nn.Module):
    """Multiplies by a constant, λx.

    Arguments:
        factor: The constant λ.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = float(factor)

    def extra_repr(self) -> str:
        return f"factor={self.factor:g}"

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@rule(Scale)
def scale(module: Scale, shape: Shape) -> Bound:
    """A linear map of slope λ in every coordinate."""
    return Bound(abs(float(module.factor)), f"Scale: |{module.factor:g}|")


@lowering(Scale)
def _lowered(module: Scale, shape: Shape) -> nn.Module:
    """One factor for all coordinates."""
    return Affine(torch.tensor(module.factor, dtype=torch.float64))
