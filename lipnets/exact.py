"""Activations on grids: what makes sums exact, and a program the same wherever it runs.

**Theorem F4.**  Where all activations are multiples of 2⁻ᵍ, all weights of 2⁻ᵗ, and no partial sum
reaches 2⁵³⁻ᵍ⁻ᵗ, each is a multiple of 2⁻⁽ᵍ⁺ᵗ⁾ that float64 holds: none is rounded, in whatever order they
are added, by whatever blocks, fused or not, on any number of threads.
"""

__all__ = ["Round", "Sums", "snap"]

import math
from typing import Any

from torch import Tensor, nn

from .bounds import Bound, Shape, rule
from .rounding import Analysis, Ball, Number, rounding_rule


class Round(nn.Module):
    """Puts numbers on a grid: the nearest multiples of 2⁻ᵍ, ties to even.

    **What it is the program of.**  Its real function is the identity: that, and not the staircase
    that it computes, is what a certificate is about, of constant 1.  The distance of the
    two, 2⁻⁽ᵍ⁺¹⁾ for each number, is part of the rounding of the program, as if a format of numbers with
    g binary places had stored them.

    Arguments:
        bits: The number g of binary places, from 0 to 500.

    Raises:
        ValueError: If there are less or more.

    Example:
        >>> import torch
        >>> Round(2)(torch.tensor([0.3, -1.9, 7.0]))
        tensor([ 0.2500, -2.0000,  7.0000])
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if bits != int(bits) or not 0 <= bits <= 500:
            raise ValueError(f"'bits' should be an integer from 0 to 500, got {bits}.")
        self.bits = int(bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"

    def forward(self, x: Tensor) -> Tensor:  # (B, *S) -> (B, *S)
        return snap(x, self.bits)


def snap(x: Tensor, bits: int) -> Tensor:
    """The nearest multiples of 2⁻ᵍ, exactly, for g binary places.

    Where nothing overflows, products with powers of two are exact, and so is rounding to an integer, which
    takes no more digits than the number had, or is a power of two.
    """
    return (x * 2.0**bits).round() * 2.0**-bits


@rule(Round)
def _identity(module: Round, shape: Shape) -> Bound:
    """Of the identity, whose program it is: how far it is from that is an error of rounding."""
    return Bound(1.0, f"Round: the identity, rounded to {module.bits} binary places")


@rounding_rule(Round)
def _nearest(module: Round, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """The nearest multiple of 2⁻ᵍ is within 2⁻⁽ᵍ⁺¹⁾ of each of n numbers, hence within √n times that of all.

    It is computed without error (`snap`) in any format that has 2ᵍ and 2⁻ᵍ, where x 2ᵍ does not
    overflow.  What is on a grid as coarse stays as it is.
    """
    a, step = analysis.arithmetic, math.ldexp(1.0, module.bits)
    if max(ball.largest, 1.0) * step >= a.largest or 1 / step < a.tiny:
        return analysis.step(module, shape, ball, math.inf)
    if ball.grid is not None and ball.grid <= module.bits:
        return analysis.step(module, shape, ball, 0.0, grid=ball.grid)
    local = math.ldexp(math.sqrt(math.prod(shape)), -module.bits - 1) * (1 + 2.0**-50)
    return analysis.step(module, shape, ball, local, grid=module.bits)


class Sums(Analysis):
    """An analysis that notices where a sum of numbers on a grid is rounded.

    Numbers on a grid behind such a sum are no proof that there was none: to round it to a grid again
    makes its error small, but not the same in any order.  So all that rules move a ball by, parts of blocks
    and branches too, is looked at one by one.

    Example:
        >>> program = nn.Sequential(nn.Linear(3, 2), Round(8)).double().eval()
        >>> sums = Sums()
        >>> sums(program, (3,), Ball(norm=1.0, grid=50)).grid, sums.inexact
        (8, True)
    """

    inexact = False

    def are_exact(self, program: nn.Module, shape: Shape, sizes: Number) -> bool:
        """Whether no sum of a program is rounded, on inputs of float64 of these norms.

        These are multiples of 2⁻¹⁰⁷⁴: a sum of them, before they are rounded to a grid, counts.
        """
        self.inexact = False
        self(program, shape, Ball(norm=sizes, grid=1074))
        return not self.inexact

    def move(self, ball: Ball, *args: Any, **fields: Any) -> Ball:
        after = super().move(ball, *args, **fields)
        self.inexact |= ball.grid is not None and after.grid is None
        return after
