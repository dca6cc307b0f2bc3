"""What activations do to differences: slopes of their secants, on intervals of their inputs.

For an activation that acts on each entry alone, σ(s) − σ(t) = d (s − t) with d between the smallest and
the largest slope of σ between s and t.  Sorting and its kin act on groups of channels: see `joint`.
"""

__all__ = ["group_size", "mean_and_half", "slopes"]

import math

import torch
from torch import Tensor, nn

from ..bounds import Shape, forward_owner, lipschitz
from ..layers.absolute import Abs, BetaAbs
from ..layers.groupsort import FullSort, GroupSort, MaxMin
from ..layers.n_activation import NActivation
from ..layers.spline import LinearSpline
from ..linalg import ETA, U
from ..program import channels

Range = tuple[Tensor, Tensor]

# Slopes between 0 and the constant of the rule, wherever it is: see `rules` and `layers._slopes`.
_RISING = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink)


def group_size(module: nn.Module, shape: Shape) -> int | None:
    """The number of consecutive channels that an activation sorts together; None for any other."""
    owner = forward_owner(type(module))
    if owner is MaxMin:
        return 2
    if owner is GroupSort:
        return int(module.group_size)  # pyright: ignore[reportArgumentType]
    return shape[0] if owner is FullSort else None


def slopes(
    module: nn.Module, shape: Shape, low: Tensor | None = None, high: Tensor | None = None
) -> Range | None:
    """Bounds of the slopes of secants of an activation that acts on each entry alone.

    *Proof.*  Piecewise linear functions have the slopes of the pieces that an interval meets, and their
    secants averages of those.  With one slope a below 0 and 1 above: ReLU, LeakyReLU, PReLU, Abs, and
    the channels that BetaAbs changes; two thresholds l ≤ h: Hardtanh has slope 1 within and 0
    outside, Softshrink 0 within and 1 outside, NActivation −1 within and 1 outside.  A smooth one has
    the slopes of its rule; those of GELU and SiLU at x and −x sum up to 1: Φ(−x) = 1 − Φ(x) for
    Φ + xφ, and so for σ + xσ(1 − σ), so that they lie in [1 − L, L].  ELU is at least 0 for a positive α.  ∎

    Arguments:
        module: An operation of a program.
        shape: The shape (C, ...) of an example.
        low: Lower ends of intervals of its inputs, with shape (B, *shape); None for −∞.
        high: Upper ends.

    Returns:
        The smallest and the largest slopes, each of a shape that broadcasts to (B, *shape), or to `shape`
        if there are no intervals; None for modules that are not known to act so.
    """
    owner = forward_owner(type(module))
    if low is None or high is None:
        low, high = (torch.full(shape, end, dtype=torch.float64) for end in (-math.inf, math.inf))
    below = _slope_below(module, owner, shape)
    if below is not None:
        low_slope = torch.where(low >= 0, 1.0, below.clamp_max(1.0))
        high_slope = torch.where(low >= 0, 1.0, below.clamp_min(1.0))
        past = high <= 0
        return torch.where(past, below, low_slope), torch.where(past, below, high_slope)
    bent = _bent(module, owner, shape)
    if bent is not None:
        first, last, within, outside = bent
        inner = (low >= first) & (high <= last)
        outer = (high <= first) | (low >= last)
        ends = sorted((within, outside))
        return tuple(
            torch.where(inner, within, torch.where(outer, outside, end)).double() for end in ends
        )  # pyright: ignore[reportReturnType]
    if owner is LinearSpline:
        pieces = module.slopes.detach().double().cpu().clamp(-1, 1)  # pyright: ignore
        return channels(pieces.amin(dim=1), shape), channels(pieces.amax(dim=1), shape)
    known = owner in (*_RISING, nn.GELU, nn.SiLU)
    if not known and not (owner is nn.ELU and getattr(module, "alpha", -1.0) >= 0):
        return None
    top = lipschitz(module, shape).value
    least = 1 - top if owner in (nn.GELU, nn.SiLU) else 0.0
    return tuple(torch.tensor(end, dtype=torch.float64) for end in (least, top))  # pyright: ignore


def mean_and_half(low: Tensor, high: Tensor) -> Range:
    """Numbers m and h with [low, high] in [m − h, m + h], h being rounded upwards."""
    mean = (low + high) / 2
    half = torch.maximum(high - mean, mean - low)
    return mean, torch.where(half == 0, half, half * (1 + 4 * U) + ETA)


def _slope_below(module: nn.Module, owner: type, shape: Shape) -> Tensor | None:
    """The slope a of max(x, 0) + a min(x, 0), for each channel or for all."""
    if owner is nn.ReLU:
        return torch.zeros((), dtype=torch.float64)
    if owner is Abs:
        return -torch.ones((), dtype=torch.float64)
    if owner is nn.LeakyReLU:
        return torch.tensor(float(module.negative_slope), dtype=torch.float64)  # pyright: ignore
    if owner is nn.PReLU:
        weight = module.weight.detach().double().cpu()  # pyright: ignore
        return weight.reshape(()) if weight.numel() == 1 else channels(weight, shape)
    if owner is BetaAbs:
        count = int(module.beta * shape[0])  # pyright: ignore
        return channels(torch.where(torch.arange(shape[0]) < count, -1.0, 1.0).double(), shape)
    return None


def _bent(
    module: nn.Module, owner: type, shape: Shape
) -> tuple[Tensor, Tensor, float, float] | None:
    """Thresholds, and the slopes between and outside of them."""
    if owner is nn.Hardtanh:
        ends = float(module.min_val), float(module.max_val)  # pyright: ignore
        slopes_of = (1.0, 0.0)
    elif owner is nn.Softshrink:
        ends = -float(module.lambd), float(module.lambd)  # pyright: ignore
        slopes_of = (0.0, 1.0)
    elif owner is NActivation:
        pair = module.thresholds.detach().double().cpu().sort(dim=0).values  # pyright: ignore
        return channels(pair[0], shape), channels(pair[1], shape), -1.0, 1.0
    else:
        return None
    first, last = (torch.tensor(end, dtype=torch.float64) for end in ends)
    return first, last, *slopes_of
