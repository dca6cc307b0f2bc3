"""Rows of norm 1, for last layers.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100
    | (Singla, Singla & Feizi, 2022) https://arxiv.org/abs/2108.04062
"""

__all__ = ["UnitNorm"]

from torch import Tensor, nn

from ._precision import full_precision, inverse_sqrt, unit_scale


class UnitNorm(nn.Module):
    """Divides each row of a matrix by its norm.

    Each logit is then 1-Lipschitz, though the layer as a whole need not be: the certificate reads
    the differences of rows, which have a norm of 2 at most.  A row of zeros stays zero.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        rows = unit_scale(weight, dim=1)
        return rows * inverse_sqrt(rows.square().sum(dim=1, keepdim=True))
