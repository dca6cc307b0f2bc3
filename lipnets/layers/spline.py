"""Learnable linear splines with slopes in [−1, 1].

References:
    | Improving Lipschitz-Constrained Neural Networks by Learning Activation Functions
    | (Ducotterd et al., 2024) https://arxiv.org/abs/2210.16222

What differs: the parameters are the slopes between the knots, clipped to [−1, 1], and the value at
the first knot, instead of values at the knots that are projected: the constant is then exact, and a
slope that was clipped gets no derivative.  Neither a scale nor a penalty of total variation.
"""

__all__ = ["LinearSpline"]

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, Shape, rule
from ..rounding import Analysis, Ball, norms, rounding_rule
from ._parts import parts, writes
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

    Raises:
        ValueError: If there are too few channels or knots, or the limit is not positive.
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
        left = spacing * torch.arange(self.knots, device=x.device, dtype=x.dtype) - self.limit
        # A line for each piece, of its slope and its value at 0; the first two share a knot.
        values, left = (torch.cat([t[..., :1], t], dim=-1) for t in (values, left))
        heights = values - slopes * left
        if writes(x, slopes):
            return _Lines.apply(x, slopes, heights, self.limit)  # pyright: ignore[reportReturnType]
        pieces = _pieces(x.detach(), self.knots, self.limit)
        return heights.flatten()[pieces] + slopes.flatten()[pieces] * x


@rule(LinearSpline)
def _linear_spline(module: LinearSpline, shape: Shape) -> Bound:
    """Continuous, since each value is the one before plus slope times spacing: the largest |slope|.

    Clipping to [−1, 1] is exact in every floating-point format, and values do not enter.
    """
    slope = module.slopes.double().clamp(-1, 1).abs().max().item()
    return Bound(slope, "LinearSpline: largest slope")


@rounding_rule(LinearSpline)
def _linear_spline_rounds(
    module: LinearSpline, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """The line of each piece is rounded, and the piece may be that of a neighbour.

    *Lines.*  Let l be the limit, K the number of knots, o the value at the first one.  Values at knots
    are o plus sums of slopes times the spacing, of modulus |o| + 2l at most, and K + 3 roundings each;
    places of knots are off by 8u l; slopes, where the format does not hold them, by u; a height, value
    minus slope × place, of modulus |o| + 3l at most, is rounded twice more, and the line at x twice.
    Together at most γ_{K+16} (|o| + 3l + |x|).

    *Pieces.*  The place (x + l)/h of an entry among knots is computed with an error of
    e = 4u (|x| + l)/h at most, h being the spacing.  If that moves it to another piece, x is within
    e h of each knot between the two, of which there are e + 1 at most; at each, lines of slopes in
    [−1, 1] part by 2 e h at most: 8u (|x| + l)(e + 1).

    The function is continuous of slope 1 at most, o at −l: |f(0)| ≤ |o| + l.
    """
    a = analysis.arithmetic.elementwise
    count, limit = math.prod(shape), module.limit
    offsets = float(norms(module.offset[None])) * math.sqrt(math.prod(shape[1:])) * (1 + 2.0**-40)
    limits = limit * math.sqrt(count) * (1 + 2.0**-40)
    spacing = 2 * limit / (module.knots - 1)
    lines = a.gamma(module.knots + 16) * (offsets + 3 * limits + ball.norm)
    places = 5 * a.unit * (ball.norm + limit) / spacing
    pieces = 10 * a.unit * (ball.norm + limits) * (places + 1)
    underflow = (module.knots + 16) * (1 + limit) * (1 + 1 / spacing) * math.sqrt(count) * a.tiny
    local = lines + pieces + underflow
    top = (module.offset.detach().double().abs().max().item() + 3 * limit + ball.largest) * 2
    if top * (1 + 1 / spacing) >= a.largest or module.knots * a.unit > 1:  # no room for pieces
        local = math.inf
    return analysis.step(module, shape, ball, local, offset=offsets + limits)


def _pieces(x: Tensor, knots: int, limit: float) -> Tensor:
    """The index of the line of each entry, among those of all channels: c (knots + 1) + its piece."""
    rows = torch.arange(1, x.shape[1] * (knots + 1), knots + 1, device=x.device, dtype=torch.int32)
    scale = (knots - 1) / (2 * limit)
    places = (x * scale).add_(limit * scale).floor_().clamp(-1, knots - 1).nan_to_num(0.0)
    return places.to(torch.int32) + rows.view(-1, *[1] * (x.ndim - 2))


class _Lines(Function):
    """slopes[piece] x + heights[piece], which saves the input only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor, heights: Tensor, limit: float) -> Tensor:
        out = torch.empty_like(x)
        for part in parts(x):
            pieces = _pieces(x[part], slopes.shape[1] - 1, limit)
            height, slope = _taken(heights, pieces), _taken(slopes, pieces)
            torch.addcmul(height, slope, x[part], out=out[part])
        ctx.limit = limit
        ctx.save_for_backward(x, slopes)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, (x, slopes) = grads[0], ctx.saved_tensors
        knots = slopes.shape[1] - 1
        if not writes(grad) or torch.is_grad_enabled():
            pieces = _pieces(x.detach(), knots, ctx.limit)
            sums = [
                slopes.new_zeros(slopes.numel()).index_add(0, pieces.reshape(-1), t.reshape(-1))
                for t in (grad * x, grad)
            ]
            result = grad * _taken(slopes, pieces)
            return result, *(t.view_as(slopes) for t in sums), None
        result = torch.empty_like(grad)
        totals = slopes.new_zeros(2, slopes.numel())
        for part in parts(grad):
            pieces = _pieces(x[part], knots, ctx.limit)
            torch.mul(grad[part], _taken(slopes, pieces), out=result[part])
            totals[0].index_add_(0, pieces.flatten(), (grad[part] * x[part]).flatten())
            totals[1].index_add_(0, pieces.flatten(), grad[part].flatten())
        return result, *totals.view(2, *slopes.shape), None


def _taken(table: Tensor, places: Tensor) -> Tensor:
    """Entries of a table, twice as fast as by indexing."""
    return table.flatten().index_select(0, places.flatten()).view(places.shape)
