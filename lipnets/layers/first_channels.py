"""Projection on the first features, a head without weights.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160
"""

__all__ = ["FirstChannels"]

from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..program import coordinates, lowering
from ._registry import Card, named


@named(
    "first_channels",
    Card(
        kind="dense",
        guarantee="1-Lipschitz",
        paper="Prach & Lampert, 2022",
        url="https://arxiv.org/abs/2208.03160",
        choose="As a head after orthogonal layers: differences of logits have the constant √2.",
        arguments={"in_features": 6, "out_features": 4},
        shape=(6,),
    ),
)
class FirstChannels(nn.Module):
    """Keeps the first features of each row.

    Arguments:
        in_features: The number of features.
        out_features: The number that is kept, not larger.

    Raises:
        ValueError: If it is larger.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if not 1 <= out_features <= in_features:
            raise ValueError(
                f"'out_features' should be from 1 to the {in_features} features there are, got "
                f"{out_features}: a wider backbone, or another head such as unit_norm_linear."
            )
        self.in_features, self.out_features = in_features, out_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def forward(self, x: Tensor) -> Tensor:  # (B, ..., F) -> (B, ..., K)
        return x[..., : self.out_features]


@rule(FirstChannels)
def first_channels(module: FirstChannels, shape: Shape) -> Bound:
    """Leaving out coordinates does not increase the norm."""
    if not shape:
        raise NotCertifiedError("FirstChannels takes rows of features, got single numbers.")
    return Bound(1.0, "FirstChannels: leaves out coordinates")


lowering(FirstChannels)(coordinates)
