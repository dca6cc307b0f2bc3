"""The polar factor of a matrix, by Björck's iteration run to convergence.

References:
    | An Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix
    | (Björck & Bowie, 1971) https://doi.org/10.1137/0708036
    | A Stable Scaling of Newton-Schulz for Improving the Sign Function Computation of a Hermitian
    | Matrix (Chen & Chow, 2014), preprint ANL/MCS-P5059-0114
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381

What differs: the matrix is divided by an estimate of its norm, the steps are scaled to an estimate of
its smallest singular value, which takes 5 steps instead of 20 for a well conditioned matrix, and are
repeated until the columns are orthonormal, whatever the matrix.
"""

__all__ = ["Bjorck"]

from torch import Tensor, nn

from ._polar import Step, polar
from ._precision import full_precision


class Bjorck(nn.Module):
    """Replaces the singular values of a matrix by 1.

    The result is the orthogonal matrix nearest to the raw weight, or the one with orthonormal
    columns or rows.  Singular values below a billionth of the largest end between 0 and 1: the
    result is 1-Lipschitz in any case.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return _polar(weight)


def _step(low: float) -> Step:
    """The cubic ρx(3 − ρ²x²) / 2 that raises the least value on [l, 1] most, without exceeding 1.

    With ρ² = 3 / (1 + l + l²), it takes both ends of [l, 1] to the same value, its least.
    """
    scale = (3 / (1 + low + low**2)) ** 0.5
    least = scale * low * (3 - (scale * low) ** 2) / 2
    return 1.5 * scale, -0.5 * scale**3, 0.0, min(least, 1.0)


_polar = polar("bjorck", _step, order=2)
