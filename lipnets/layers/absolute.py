"""The absolute value, as an activation.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062
"""

__all__ = ["Abs"]

from torch import Tensor, nn

from ..bounds import Bound, Shape, rule
from ._registry import Card, add


class Abs(nn.Module):
    """Takes the absolute value of each entry, which preserves norms and the norms of gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


@rule(Abs)
def _absolute(module: Abs, shape: Shape) -> Bound:
    """||x| − |y|| ≤ |x − y| entrywise, with equality where the signs agree."""
    return Bound(1.0, "Abs: slopes −1 and 1")


_SINGLA = "Singla, Singla & Feizi, 2022"
add(
    "abs",
    Abs,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper=_SINGLA,
        url="https://arxiv.org/abs/2108.04062",
        choose="The cheapest activation that keeps gradients: costs what ReLU costs.",
        shape=(6,),
    ),
)
add(
    "relu",
    nn.ReLU,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="As a baseline: it loses half of the gradient, which 1-Lipschitz networks miss.",
        shape=(6,),
    ),
)
