"""Pairs of near points whose images under a function lie far apart: slopes that are attained."""

__all__ = ["steepest_pairs"]

import torch
from torch import Tensor, nn

from ._balls import noise, per_row

_ROUNDING = 1e-13  # of the outputs: subtracted from differences, which are small


def steepest_pairs(
    function: nn.Module,
    points: Tensor,
    *,
    distance: float = 1e-2,
    steps: int = 60,
    seed: int = 0,
) -> Tensor:
    """Slopes ‖f(x) − f(x′)‖ / ‖x − x′‖ of pairs that climb to where the function is steep.

    Both ends follow the gradient of the logarithm of the slope.  The direction from one to the other
    goes all the way to its gradient, which for a linear function is a step of power iteration; the
    pair as a whole moves ever less.  Points are not kept in [0, 1]: a bound holds everywhere.

    Arguments:
        function: A module in evaluation mode; examples must not interact.
        points: Where to start, with shape (B, *S), in float64 for slopes to be exact to 1e-9.
        distance: Of the ends of a pair.
        steps: The number of steps.
        seed: Which directions to start with.

    Returns:
        The largest slope of each pair on its way, with shape (B,), 0 where the function is constant:
        no Lipschitz constant is smaller.

    Example:
        >>> double = torch.nn.Linear(3, 3, bias=False).double().eval()
        >>> _ = torch.nn.init.constant_(double.weight, 0.5)  # of rank 1, with norm 1.5
        >>> points = torch.zeros(1, 3, dtype=torch.float64)
        >>> round(float(steepest_pairs(double, points)), 6)
        1.5
    """
    points = points.detach()
    directions = noise(points, torch.arange(len(points)), "l2", seed)
    best = torch.zeros(len(points)).to(points)
    size = 0.1 * points.flatten(1).norm(dim=1).mean().clamp_min(1.0)
    for step in range(steps):
        ends = points + distance * directions
        slopes, here, there = _climb(function, points, ends)
        best = best.maximum(slopes)
        directions = _unit(there, directions)
        pull = size * (1 - step / steps) ** 2 / 2
        points = points + pull * _unit(here + there, torch.zeros_like(here))
    return best


def _climb(function: nn.Module, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of pairs, and the gradients of the logarithm of ‖f(x) − f(x′)‖ in both ends."""
    starts, ends = starts.detach().requires_grad_(), ends.detach().requires_grad_()
    with torch.enable_grad():
        outputs = function(torch.cat([starts, ends])).flatten(1)
        first, second = outputs.chunk(2)
        lengths = (first - second).norm(dim=1)
        alive = lengths > 0
        gains = lengths.where(alive, 1.0).log().sum()
        here, there = torch.zeros_like(starts), torch.zeros_like(ends)
        if gains.requires_grad:
            here, there = torch.autograd.grad(gains, (starts, ends), materialize_grads=True)
    # Where f(x) = f(x′) the norm has no gradient, and torch gives numbers that are none.
    here, there = here.nan_to_num(0, 0, 0), there.nan_to_num(0, 0, 0)
    size = first.detach().norm(dim=1) + second.detach().norm(dim=1)
    moved = (ends - starts).detach().flatten(1).norm(dim=1)
    slopes = (lengths.detach() - _ROUNDING * size).clamp_min(0) / moved
    return slopes.nan_to_num(0, 0, 0), here, there


def _unit(vectors: Tensor, otherwise: Tensor) -> Tensor:
    """Vectors of length 1, and others for those that are zero."""
    largest = per_row(vectors.flatten(1).abs().amax(dim=1), vectors)
    scaled = vectors / largest.where(largest > 0, 1)
    lengths = per_row(scaled.flatten(1).norm(dim=1), vectors)
    return (scaled / lengths.where(lengths > 0, 1)).where(largest > 0, otherwise)
