"""Another order of axes: from images to tokens and back."""

__all__ = ["Permute"]

from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..program import coordinates, lowering


class Permute(nn.Module):
    """Puts the axes of a batch in another order, as `torch.permute`.

    Arguments:
        *dims: The axes in their new order; the first stays, so that examples stay apart.

    Raises:
        ValueError: If these are not all axes, once each and 0 first.
    """

    def __init__(self, *dims: int) -> None:
        super().__init__()
        if sorted(dims) != list(range(len(dims))) or dims[:1] != (0,):
            raise ValueError(f"'dims' should be 0 and all other axes after it, got {dims}.")
        self.dims = dims

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.dims))

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        return x.permute(self.dims)


@rule(Permute)
def _permute(module: Permute, shape: Shape) -> Bound:
    """Reordering coordinates keeps the norm; torch refuses other than all axes, each once."""
    if module.dims[:1] != (0,):
        raise NotCertifiedError("Permute mixes the examples of a batch.")
    return Bound(1.0, "Permute: reorders its input")


lowering(Permute)(coordinates)
