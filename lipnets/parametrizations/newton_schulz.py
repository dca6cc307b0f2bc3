"""The polar factor of a matrix, by minimax polynomials of degree five.

References:
    | The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon Algorithm
    | (Amsel, Persson, Musco & Gower, 2025) https://arxiv.org/abs/2505.16932

What differs: the polynomials are found anew for the singular values at hand instead of taken from a
table for [0.001, 1]; they are divided by their maximum, so that no step exceeds 1; and the last ones
are those of Newton and Schulz, repeated until the columns are orthonormal to the precision of the
dtype, where the paper stops early and computes in bfloat16.
"""

__all__ = ["NewtonSchulz"]

import math
from functools import lru_cache

from torch import Tensor, nn

from ._polar import Step, polar
from ._precision import full_precision

_NARROW = 0.9  # ends l of intervals [l, 1] above which the limit of the minimax polynomials serves


class NewtonSchulz(nn.Module):
    """Replaces the singular values of a matrix by 1, by products alone.

    The same function as `Bjorck`, in fewer and longer steps.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return _polar(weight)


def _step(low: float) -> Step:
    if low < _NARROW:
        return _minimax(math.floor(8 * math.log2(low)))
    least = low * (15 - 10 * low**2 + 3 * low**4) / 8
    return 15 / 8, -10 / 8, 3 / 8, min(least, 1.0)


@lru_cache(maxsize=256)
def _minimax(eighths: int) -> Step:
    """The odd quintic closest to 1 on [l, 1], l = 2^(eighths / 8), divided by its maximum.

    Its errors −ε, ε, −ε, ε alternate at l, at its two extrema and at 1: Remez' exchange, from the
    extrema of a cubic in x².
    """
    low = 2.0 ** (eighths / 8)
    points = [low, low + 0.3 * (1 - low), low + 0.75 * (1 - low), 1.0]
    a = b = c = error = 0.0
    for _ in range(60):
        a, b, c, error = _interpolate(points)
        # Extrema: a + 3b t + 5c t² = 0 with t = x².
        root = math.sqrt(max(9 * b * b - 20 * a * c, 0.0))
        extrema = sorted(math.sqrt(max((-3 * b + sign * root) / (10 * c), 0.0)) for sign in (-1, 1))
        if not low < extrema[0] < extrema[1] < 1:
            extrema = points[1:3]
        points = [low, *extrema, 1.0]
    top = 1 + abs(error)
    return a / top, b / top, c / top, (1 - abs(error)) / top


def _interpolate(points: list[float]) -> tuple[float, float, float, float]:
    """Solves ax + bx³ + cx⁵ + (−1)ᵏ ε = 1 at four points, k = 0, ..., 3, by elimination."""
    rows = [[x, x**3, x**5, (-1.0) ** k, 1.0] for k, x in enumerate(points)]
    for i in range(4):
        pivot = max(range(i, 4), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(4):
            if k != i:
                rows[k] = [p - rows[k][i] * q for p, q in zip(rows[k], rows[i], strict=True)]
    a, b, c, error = (row[4] for row in rows)
    return a, b, c, error


_polar = polar("newton_schulz", _step, order=3)
