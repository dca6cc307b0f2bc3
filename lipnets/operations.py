"""Operations that certificate files are written in and that torch.nn and `program` have no words for."""

__all__ = ["PiecewiseLinear", "WindowPool"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .bounds import Bound, NotCertifiedError, Shape, rule
from .linalg import sqrt_up
from .rounding import UP, Analysis, Ball, bits, number, rounding_rule


class PiecewiseLinear(nn.Module):
    """A continuous function of lines between knots, one of each channel or one of all.

    Arguments:
        knots: The knots, with shape (C, K) or (1, K), in increasing order, K ≥ 1.
        slopes: The slopes before, between and behind them, with shape (C, K + 1) or (1, K + 1).
        first: The values at the first knots, with shape (C,) or (1,).
    """

    def __init__(self, knots: Tensor, slopes: Tensor, first: Tensor) -> None:
        super().__init__()
        self.knots, self.slopes, self.first = (
            nn.Parameter(each.detach().clone(memory_format=torch.contiguous_format))
            for each in (knots, slopes, first)
        )

    def extra_repr(self) -> str:
        return f"channels={self.knots.shape[0]}, knots={self.knots.shape[1]}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        knots, slopes, values = (
            each.view(*each.shape, *[1] * (x.ndim - 2))
            for each in (self.knots.mT, self.slopes.mT, self.values().mT)
        )
        out = values[0] + slopes[0] * (x - knots[0])
        for knot, slope, value in zip(knots, slopes[1:], values, strict=True):
            out = torch.where(x > knot, value + slope * (x - knot), out)
        return out

    def values(self) -> Tensor:
        """The values at the knots, with the shape of the knots."""
        rises = (self.slopes[:, 1:-1] * self.knots.diff(dim=1)).cumsum(dim=1)
        return self.first[:, None] + torch.cat([torch.zeros_like(self.knots[:, :1]), rises], dim=1)

    def has_slopes_in(self, low: float, high: float) -> bool:
        """Whether all slopes are in an interval, between knots in order."""
        fits = (self.slopes >= low) & (self.slopes <= high)
        return bool(fits.all()) and bool((self.knots.diff(dim=1) >= 0).all())


@rule(PiecewiseLinear)
def _lines(module: PiecewiseLinear, shape: Shape) -> Bound:
    """Continuous by construction: the largest slope."""
    channels, count = module.knots.shape
    fits = channels == 1 or not shape or shape[0] == channels
    if not fits or module.slopes.shape != (channels, count + 1) or not count:
        raise NotCertifiedError(f"PiecewiseLinear of {channels} channels takes no {tuple(shape)}.")
    if module.first.shape != (channels,) or bool((module.knots.diff(dim=1) < 0).any()):
        raise NotCertifiedError("PiecewiseLinear should have knots in order, and a value for each.")
    return Bound(module.slopes.double().abs().max().item(), "PiecewiseLinear: largest slope")


@rounding_rule(PiecewiseLinear)
def _lines_round(module: PiecewiseLinear, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Lines and values at knots are rounded; which piece is taken is not.

    Let L bound the slopes, T the knots, V the first values.  Storing them moves slopes, knots and first values
    by u of themselves, hence the function, which is the integral of its slopes, by
    u (V + LT) + u L (|x| + T) + 2L K u T at most.  What is computed then is V′ₖ + s (x − tₖ) for the piece that x is
    in, by exact comparisons: a sum of terms of modulus V + 3LT + L|x| in all, each of K + 8 roundings at
    most.  Together γ_{3K+16} (V + 3LT + L|x|).  |f(0)| ≤ V + LT.  A knot at 0 with the value 0 and slopes
    of −1, 0 and 1 take nothing but sign changes; on grids, sums of multiples that fit are exact.  ∎
    """
    a = analysis.arithmetic.elementwise
    parts = [each.detach().double().cpu() for each in (module.knots, module.slopes, module.first)]
    knots, slopes, first = parts
    analysis.lipschitz(module, shape)  # refuses what this is not true of
    whole = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    if not knots.any() and not first.any() and torch.isin(slopes, whole).all():
        return analysis.step(module, shape, ball, 0.0, grid=ball.grid)
    top = slopes.abs().max().item()
    far = 3 * top * knots.abs().max().item() + first.abs().max().item()
    root, count = math.sqrt(math.prod(shape)), knots.shape[1]
    steps = [bits(each) for each in parts]
    if ball.grid is not None and None not in steps and all(a.holds(each) for each in parts):
        at, by, start = (step or 0 for step in steps)
        grid = max(max(ball.grid, at) + by, start)
        if a.sums(2 * (top * ball.largest + far), grid):
            return analysis.step(module, shape, ball, 0.0, offset=far * root * UP, grid=grid)
    size = top * number(ball.norm) + far * root
    local = a.gamma(3 * count + 16) * size + (8 + count) * (1 + top) * root * a.tiny
    return analysis.step(module, shape, ball, local * UP, offset=far * root * UP)


class WindowPool(nn.Module):
    """The largest number of each of some windows, or their ℓ2 norms.

    Arguments:
        kind: "max" or "l2".
        index: The coordinates in each window, in row-major order, or −1 for none, with shape
            (outputs, K).
        shape: The shape of the output, without batch dimension.
    """

    index: Tensor

    def __init__(self, kind: str, index: Tensor, shape: Sequence[int]) -> None:
        super().__init__()
        self.kind, self.shape = kind, tuple(shape)
        self.register_buffer("index", index.long())

    def extra_repr(self) -> str:
        return f"{self.kind}, shape={self.shape}"

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *shape)
        read = x.flatten(1)[:, self.index.clamp_min(0)]
        if self.kind == "max":
            out = read.masked_fill(self.index < 0, -math.inf).amax(dim=2)
        else:
            out = read.masked_fill(self.index < 0, 0.0).square().sum(dim=2).sqrt()
        return out.reshape(-1, *self.shape)


@rule(WindowPool)
def _windows(module: WindowPool, shape: Shape) -> Bound:
    """Largest numbers and norms of a window are 1-Lipschitz; √r where r windows share a coordinate."""
    index, count = module.index, math.prod(shape)
    if index.ndim != 2 or len(index) != math.prod(module.shape) or not index.numel():
        raise NotCertifiedError(
            f"WindowPool of shape {tuple(index.shape)} gives no {module.shape}."
        )
    if not -1 <= int(index.min()) <= int(index.max()) < count or module.kind not in ("max", "l2"):
        raise NotCertifiedError(f"WindowPool reads coordinates that examples of {shape} lack.")
    if module.kind == "max" and bool((index < 0).all(dim=1).any()):
        raise NotCertifiedError("WindowPool has a window without a coordinate: infinite.")
    shared = int(torch.bincount(index[index >= 0], minlength=1).max())
    return Bound(sqrt_up(float(shared)), f"WindowPool: √{shared}, windows on a coordinate")


@rounding_rule(WindowPool)
def _windows_round(module: WindowPool, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2 for maxima.  A sum of K squares is off by γ_{K+1} of itself, its root by less, and rounded once.

    What underflows is K smallest numbers at most, and moves a root by the root of that.
    """
    if module.kind == "max":
        return analysis.step(module, shape, ball, 0.0, grid=ball.grid)
    a, (outputs, count) = analysis.arithmetic.elementwise, module.index.shape
    lost = math.sqrt(outputs * (count + 2)) * math.sqrt(a.tiny)
    size = analysis.lipschitz(module, shape) * number(ball.norm)
    if 2 * count * ball.largest**2 >= a.largest:
        return analysis.step(module, shape, ball, math.inf)
    return analysis.step(module, shape, ball, (a.gamma(count + 2) * size + lost) * UP)
