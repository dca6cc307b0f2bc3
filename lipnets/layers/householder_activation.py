"""Householder activations: half of the plane of two channels is reflected to the other half.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062

What differs: pairs are the channels 2k and 2k + 1, as in `MaxMin`; and order 2 is two activations of
order 1 in a row, each with an angle of its own, which is continuous for all angles, where the paper
clips three angles.
"""

__all__ = ["Householder", "Householder2"]

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Bound, Shape, rule
from ._registry import Card, add


class _Reflections(nn.Module):
    """Angles of reflections of pairs of channels, one after another, with shape (order, C / 2)."""

    order = 1

    def __init__(
        self,
        channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"'channels' should be an even number, 2 at least, got {channels}.")
        self.channels = channels
        self.angles = nn.Parameter(
            torch.empty(self.order, channels // 2, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts as MaxMin; a second reflection has nothing left to do there."""
        nn.init.constant_(self.angles, math.pi / 2)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(
                f"The number of channels should be {self.channels}, got a tensor of shape "
                f"{tuple(x.shape)}, with channels in dimension 1."
            )
        first, second = x.unflatten(1, (-1, 2)).unbind(2)
        for angle in (self.angles / 2).to(x.dtype):
            sine = angle.sin().view(-1, *[1] * (x.ndim - 2))
            cosine = angle.cos().view(-1, *[1] * (x.ndim - 2))
            inside = (second * cosine - first * sine).clamp_min(0) * 2
            first = torch.addcmul(first, inside, sine)
            second = torch.addcmul(second, inside, cosine, value=-1)
        return torch.stack([first, second], dim=2).flatten(1, 2)


class Householder(_Reflections):
    """Reflects pairs of channels at a line through 0, if they are on one side of it.

    With v = (sin θ/2, −cos θ/2), z ↦ z where vᵀz ≥ 0, and z − 2(vᵀz)v elsewhere: θ = π/2 is MaxMin, at
    which it starts.  The angle of each pair is learned.

    Arguments:
        channels: The number C of channels, even.
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return super().forward(x)


class Householder2(_Reflections):
    """Two activations `Householder` in a row, with angles of their own.

    Arguments:
        channels: The number C of channels, even.
    """

    order = 2

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return super().forward(x)


@rule(Householder, Householder2)
def _reflections(module: _Reflections, shape: Shape) -> Bound:
    """With t = vᵀz and w ⊥ v a unit vector, (t, wᵀz) ↦ (|t|, wᵀz), for a unit vector v.

    It is 1-Lipschitz since ||t| − |t'|| ≤ |t − t'|; pairs are disjoint coordinates, whose squares add
    up; and so are compositions.  For every θ, (sin θ/2)² + (cos θ/2)² = 1.  Attained where t has a sign.
    """
    return Bound(1.0, f"{type(module).__name__}: reflections of half planes")


_SINGLA: dict[str, Any] = {
    "kind": "activation",
    "guarantee": "1-Lipschitz",
    "paper": "Singla, Singla & Feizi, 2022",
    "url": "https://arxiv.org/abs/2108.04062",
    "arguments": {"channels": 4},
    "shape": (4, 3),
}
add(
    "householder",
    Householder,
    Card(choose="MaxMin whose angle is learned, for a little more accuracy and time.", **_SINGLA),
)
add(
    "householder2",
    Householder2,
    Card(choose="Where two learned reflections of each pair are worth twice the time.", **_SINGLA),
)
