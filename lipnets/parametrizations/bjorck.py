"""The polar factor of a matrix, by Björck's iteration run to convergence.

References:
    | An Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix
    | (Björck & Bowie, 1971) https://doi.org/10.1137/0708036
    | A Stable Scaling of Newton-Schulz for Improving the Sign Function Computation of a Hermitian
    | Matrix (Chen & Chow, 2014), preprint ANL/MCS-P5059-0114
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381

What differs: the matrix is divided by an estimate of its norm, the steps are scaled to an estimate of
its smallest singular value, which takes 4 steps instead of 20 for a well conditioned matrix, and are
repeated until the columns are orthonormal, whatever the matrix; and the derivative of a well
conditioned matrix is that of the limit, a linear equation solved in a few products.
"""

__all__ = ["Bjorck"]

from torch import Tensor, nn

from ._polar import cubic, polar
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


_polar = polar("bjorck", cubic, order=2)
