"""Operations that certificate files are written in and that torch.nn and `program` have no words for."""

__all__ = ["GroupNorms", "Mask", "PiecewiseLinear"]

import math

import torch
from torch import Tensor, nn

from .bounds import Bound, NotCertifiedError, Shape, rule
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


class GroupNorms(nn.Module):
    """The ℓ2 norms of groups of channels that follow each other.

    Arguments:
        size: The number of channels in a group.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = int(size)

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C / size, ...)
        return x.unflatten(1, (-1, self.size)).square().sum(dim=2).sqrt()


@rule(GroupNorms)
def _group_norms(module: GroupNorms, shape: Shape) -> Bound:
    """A norm is 1-Lipschitz, and no two groups share a channel."""
    if not shape or module.size < 1 or shape[0] % module.size:
        raise NotCertifiedError(f"GroupNorms of {module.size} channels take no {tuple(shape)}.")
    return Bound(1.0, "GroupNorms: norms of groups of channels")


@rounding_rule(GroupNorms)
def _group_norms_round(module: GroupNorms, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A sum of K squares is off by γ_{K+1} of itself, its root by less, and rounded once.

    What underflows is K smallest numbers at most, and moves a root by the root of that.
    """
    a, count = analysis.arithmetic.elementwise, module.size
    lost = math.sqrt(math.prod(shape) / count * (count + 2)) * math.sqrt(a.tiny)
    if 2 * count * ball.largest**2 >= a.largest:
        return analysis.step(module, shape, ball, math.inf)
    local = (a.gamma(count + 2) * number(ball.norm) + lost) * UP
    return analysis.step(module, shape, ball, local)


class Mask(nn.Module):
    """Keeps some entries of an example, and puts zeros for the others.

    Arguments:
        keep: Which entries are kept, boolean, with the shape of an example.
    """

    keep: Tensor

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep.bool())

    def extra_repr(self) -> str:
        return f"shape={tuple(self.keep.shape)}"

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *S)
        return x.where(self.keep, 0.0)


@rule(Mask)
def _mask(module: Mask, shape: Shape) -> Bound:
    """A diagonal matrix of ones and zeros: of entries alone, if examples have no shape."""
    if shape and tuple(shape) != tuple(module.keep.shape):
        raise NotCertifiedError(
            f"Mask of shape {tuple(module.keep.shape)} takes no {tuple(shape)}."
        )
    return Bound(1.0, "Mask: keeps entries, or puts zeros")


@rounding_rule(Mask)
def _mask_round(module: Mask, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: zeros, or what is there."""
    return analysis.step(module, shape, ball, 0.0, grid=ball.grid)
