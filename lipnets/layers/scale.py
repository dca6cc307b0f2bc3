"""Fixed scalings: the change of units between pixels and activations."""

__all__ = ["Scale"]

from torch import Tensor, nn

from ..bounds import Bound, Shape, rule


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
