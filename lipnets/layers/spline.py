"""Learnable linear splines with slopes in [−1, 1].

References:
    | Improving Lipschitz-Constrained Neural Networks by Learning Activation Functions
    | (Ducotterd et al., 2024) https://arxiv.org/abs/2210.16222

What differs: the parameters are the slopes between the knots, clipped to [−1, 1], and the value at
the first knot, instead of values at the knots that are projected: the constant is then exact, and a
slope that was clipped gets no derivative.  Neither a scale nor a penalty of total variation.
"""

__all__ = ["LinearSpline"]

import torch
from torch import Tensor, nn

from ..bounds import Bound, Shape, rule
from ._registry import Card, named


@named(
    "linear_spline",
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="Ducotterd et al., 2024",
        url="https://arxiv.org/abs/2210.16222",
        choose="Learns the shape of the activation of each channel, at several times its cost.",
        arguments={"channels": 4, "knots": 5},
        shape=(4, 3),
    ),
)
class LinearSpline(nn.Module):
    """A continuous piecewise linear function of each channel, with knots on a uniform grid.

    Started as the absolute value.

    Arguments:
        channels: The number C of channels.
        knots: The number K of knots; slopes are constant between them, and beyond the outer ones.
        limit: The outer knots are at −limit and limit.
    """

    def __init__(
        self,
        channels: int,
        knots: int = 21,
        limit: float = 2.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or knots < 2 or not limit > 0:
            raise ValueError(
                "'channels' should be at least 1, 'knots' at least 2 and 'limit' positive, got "
                f"{channels}, {knots} and {limit:g}."
            )
        self.knots = knots
        self.limit = float(limit)
        self.slopes = nn.Parameter(torch.empty(channels, knots + 1, device=device, dtype=dtype))
        self.offset = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.slopes)
        nn.init.constant_(self.slopes[:, : (self.knots + 1) // 2], -1.0)
        spacing = 2 * self.limit / (self.knots - 1)
        nn.init.constant_(self.offset, spacing * ((self.knots - 1) // 2))

    def extra_repr(self) -> str:
        return f"channels={len(self.offset)}, knots={self.knots}, limit={self.limit:g}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        if x.ndim < 2 or x.shape[1] != len(self.offset):
            raise ValueError(
                f"The number of channels should be {len(self.offset)}, got a tensor of shape "
                f"{tuple(x.shape)}, with channels in dimension 1."
            )
        spacing = 2 * self.limit / (self.knots - 1)
        slopes = self.slopes.clamp(-1, 1).to(x.dtype)
        rises = spacing * slopes[:, 1:-1].cumsum(dim=1)
        rises = torch.cat([torch.zeros_like(rises[:, :1]), rises], dim=1)
        values = self.offset.to(x.dtype)[:, None] + rises  # at the knots
        with torch.no_grad():
            places = (x + self.limit) / spacing
            pieces = places.floor().nan_to_num(0.0).clamp(-1, self.knots - 1).long() + 1
            rows = torch.arange(x.shape[1], device=x.device).view(-1, *[1] * (x.ndim - 2))
        knots = (pieces - 1).clamp_min(0)  # the knot to the left, or the first
        left = spacing * knots.to(x.dtype) - self.limit
        return values[rows, knots] + slopes[rows, pieces] * (x - left)


@rule(LinearSpline)
def _linear_spline(module: LinearSpline, shape: Shape) -> Bound:
    """Continuous, since each value is the one before plus slope times spacing: the largest |slope|.

    Clipping to [−1, 1] is exact in every floating-point format, and values do not enter.
    """
    slope = module.slopes.double().clamp(-1, 1).abs().max().item()
    return Bound(slope, "LinearSpline: largest slope")
