"""The absolute value as an activation, of all channels or of some, and smoothed.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062
    | LipNeXt (2026) https://arxiv.org/abs/2601.18513, for a fraction of the channels
    | Robust Estimation of a Location Parameter (Huber, 1964), whose loss is smoothed here
"""

__all__ = ["Abs", "BetaAbs", "SoftHuber"]

import torch
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


class BetaAbs(nn.Module):
    """Takes the absolute value of the first channels, and leaves the others as they are.

    Arguments:
        beta: The fraction β of channels, in [0, 1]: the first ⌊βC⌋.
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"'beta' should be in [0, 1], got {beta:g}.")
        self.beta = float(beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        count = int(self.beta * x.shape[1])
        return torch.cat([x[:, :count].abs(), x[:, count:]], dim=1)


@rule(BetaAbs)
def _some_absolute(module: BetaAbs, shape: Shape) -> Bound:
    """Each coordinate is kept, or goes through the absolute value: slopes −1 and 1."""
    return Bound(1.0, "BetaAbs: slopes −1 and 1")


class SoftHuber(nn.Module):
    """Smooths the absolute value: √(x² + δ²) − δ.

    Arguments:
        delta: The width δ of the part that is smoothed, positive.
    """

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        if not 0 < delta < float("inf"):
            raise ValueError(f"'delta' should be positive, got {delta:g}.")
        self.delta = float(delta)

    def extra_repr(self) -> str:
        return f"delta={self.delta:g}"

    def forward(self, x: Tensor) -> Tensor:
        return torch.hypot(x, x.new_full((), self.delta)) - self.delta


@rule(SoftHuber)
def _soft_huber(module: SoftHuber, shape: Shape) -> Bound:
    """The slope x / √(x² + δ²) is between −1 and 1, which it approaches."""
    return Bound(1.0, "SoftHuber: slopes in [−1, 1]")


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
add(
    "beta_abs",
    BetaAbs,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="LipNeXt, 2026",
        url="https://arxiv.org/abs/2601.18513",
        choose="Between Abs and the identity, for networks that are deep.",
        shape=(6, 2),
    ),
)
add(
    "soft_huber",
    SoftHuber,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="Where derivatives should be continuous: it loses gradients near 0.",
        shape=(6,),
    ),
)
