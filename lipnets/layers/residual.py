"""Residual connections, as combinators that certificates can read."""

__all__ = ["ConvexResidual", "Residual"]

import math
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, output_shape, refuse_inplace, rule
from ..linalg import add_up, mul_up
from ..program import Affine, lower, lowering
from ..rounding import Analysis, Ball, norms, number, rounding_rule
from ._balls import at_zero, together


class Residual(nn.Module):
    """Adds a branch to its input, x + f(x), or to what a shortcut makes of it, g(x) + f(x).

    Arguments:
        branch: The module f, which keeps the shape of its input where there is no shortcut.
        shortcut: The module g, whose output has the shape of that of the branch; None for the input.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        start, out = x if self.shortcut is None else self.shortcut(x), self.branch(x)
        if start.shape != out.shape:
            raise ValueError(
                f"A Residual sums outputs of one shape, got {tuple(start.shape[1:])} and "
                f"{tuple(out.shape[1:])}: give it a shortcut to the shape of its branch."
            )
        return start + out


class ConvexResidual(nn.Module):
    """Averages its input with a branch, (1 − a) x + a f(x), which keeps the constant 1 of a branch.

    Arguments:
        branch: The module f, which keeps the shape of its input.
        alpha: The weight a of the branch, in [0, 1]; where it is learned, its start, in (0, 1).
        learnable: Whether a is learned, as the sigmoid of a parameter.

    Raises:
        ValueError: If the weight is not in the interval.
    """

    alpha: Tensor

    def __init__(self, branch: nn.Module, alpha: float = 0.5, learnable: bool = True) -> None:
        super().__init__()
        if not 0 <= alpha <= 1 or (learnable and alpha in (0, 1)):
            raise ValueError(f"'alpha' should be in [0, 1], inside if it is learned, got {alpha}.")
        self.branch = branch
        weight = torch.tensor(alpha, dtype=torch.float32)
        if learnable:
            self.alpha = nn.Parameter(weight)
            register_parametrization(self, "alpha", _Sigmoid())
        else:
            self.register_buffer("alpha", weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * (self.branch(x) - x)


class _Sigmoid(nn.Module):
    """A number between 0 and 1, from any number."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.logit()


@rule(Residual)
def residual(module: Residual, shape: Shape) -> Bound:
    """Triangle inequality: ‖g(x) + f(x) − g(y) − f(y)‖ ≤ (K + L) ‖x − y‖, K = 1 without shortcut.

    Both have one shape, or the sum would broadcast: that repeats coordinates.
    """
    if module.shortcut is None:
        branch = _branch(module, shape)
        return Bound(add_up(1.0, branch.value), "Residual: 1 + branch", (branch,))
    refuse_inplace(module)
    outs = [output_shape(part, shape) for part in (module.shortcut, module.branch)]
    if outs[0] != outs[1]:
        raise NotCertifiedError(
            f"The shortcut and the branch of a Residual should give one shape, got {outs[0]} and "
            f"{outs[1]}."
        )
    parts = (lipschitz(module.shortcut, shape), lipschitz(module.branch, shape))
    return Bound(add_up(*(part.value for part in parts)), "Residual: shortcut + branch", parts)


@rule(ConvexResidual)
def convex_residual(module: ConvexResidual, shape: Shape) -> Bound:
    """Triangle inequality, for the stored number a: |1 − a| + |a| L."""
    branch = _branch(module, shape)
    alpha = Fraction(module.alpha.item())
    value = add_up(abs(1 - alpha), mul_up(abs(alpha), branch.value))
    return Bound(value, f"ConvexResidual: (1 − a) + a L for a = {float(alpha):.4g}", (branch,))


def _branch(module: Residual | ConvexResidual, shape: Shape) -> Bound:
    """The bound of a branch that keeps the shape of its input, and the input itself."""
    refuse_inplace(module)
    if (out := output_shape(module.branch, shape)) != tuple(shape):
        raise NotCertifiedError(
            f"The branch of a {type(module).__name__.removeprefix('Parametrized')} should keep the "
            f"shape {tuple(shape)} of its input, got {out}."
        )
    return lipschitz(module.branch, shape)


@lowering(Residual)
def _lowered_residual(module: Residual, shape: Shape) -> nn.Module:
    """The branch and the shortcut, lowered."""
    shortcut = None if module.shortcut is None else lower(module.shortcut, shape)
    return Residual(lower(module.branch, shape), shortcut)


@lowering(ConvexResidual)
def _lowered_convex(module: ConvexResidual, shape: Shape) -> nn.Module:
    """(1 − a) x + a f(x), with both factors as float64 computes them once."""
    _branch(module, shape)
    alpha = module.alpha.detach().double()
    return Residual(nn.Sequential(lower(module.branch, shape), Affine(alpha)), Affine(1 - alpha))


@rounding_rule(Residual)
def _residual_rounds(module: Residual, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """The errors of both, and u of their sum, which is rounded (R2), with `together`.

    The sum X of what both computed is at most as long as both, and, where activations were measured,
    as the sum of the centers and both drifts.  On grids, sums are multiples of the finer step: exact
    if none can need more bits than the format has.
    """
    a = analysis.arithmetic.elementwise
    start = replace(ball, error=0.0)
    one = analysis(module.branch, shape, start)
    two = start if module.shortcut is None else analysis(module.shortcut, shape, start)
    count = math.prod(analysis.output_shape(module, shape))
    center, size = None, number(one.norm + two.norm)
    if one.center is not None and two.center is not None:
        center = one.center + two.center
        near = norms(center) * (1 + 2.0**-40) + one.drift + two.drift
        size = torch.minimum(size, number(near))
    grid = None
    if one.grid is not None and two.grid is not None:
        grid = max(one.grid, two.grid)
        grid = grid if a.sums(size.max().item(), grid) else None
    rounded = 0.0 if grid is not None else a.unit * size + math.sqrt(count) * a.tiny
    zero = 0.0 if module.shortcut is None else at_zero(module.shortcut, shape, analysis)
    return together(
        module,
        shape,
        ball,
        analysis,
        local=one.error + two.error + rounded,
        offset=at_zero(module.branch, shape, analysis) + zero,
        norm=(size + rounded) * (1 + 2.0**-40),
        center=center,
        grid=grid,
    )
