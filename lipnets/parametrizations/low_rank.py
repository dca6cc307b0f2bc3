"""Matrices of low and of fixed rank, by geotorch.

References:
    | Trivializations for Gradient-Based Optimization on Manifolds (Lezcano-Casado, 2019)
    | https://arxiv.org/abs/1909.09501
    | geotorch, https://github.com/lezcano/geotorch

What differs: singular values are divided by the largest of them where that exceeds 1, which makes
the matrix 1-Lipschitz; and the orthogonal factors come from our own exponential.
"""

__all__ = ["FixedRank", "LowRank"]

import geotorch
import torch
from torch import Tensor, nn

from ._precision import full_precision
from .exponential import exponential

_LEAST = 1e-6  # singular value of matrices of fixed rank, before they are divided by the largest


class LowRank(geotorch.LowRank):
    """Makes matrices UΣVᵀ of rank r or less, of norm 1 or less.

    Raw weights hold the coordinates of U, Σ and V around base points, which are buffers that do not
    move.

    Arguments:
        weight: A matrix of the shape, dtype and device of the constrained one.
        rank: The rank r, at most the smaller dimension.

    Raises:
        ValueError: If the rank is not from 1 to that.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        if not 1 <= rank <= min(weight.shape):
            raise ValueError(
                f"'rank' should be between 1 and {min(weight.shape)}, the smaller of the numbers of "
                f"features, got {rank}."
            )
        with torch.device("cpu"):
            # Geotorch takes maps beside names, whatever its default makes of its type.
            super().__init__(tuple(weight.shape), rank, triv=exponential)  # pyright: ignore
        self.to(device=weight.device, dtype=weight.dtype)

    @full_precision
    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 (its name in geotorch)
        return super().forward(X)

    def submersion(self, U: Tensor, S: Tensor, V: Tensor) -> Tensor:  # noqa: N803
        return super().submersion(U, S / S.abs().amax().clamp_min(1), V)

    def right_inverse(self, X: Tensor, check_in_manifold: bool = True) -> Tensor:  # noqa: N803
        if X.is_meta:
            return torch.empty_like(X)
        return super().right_inverse(X, check_in_manifold).contiguous()


class FixedRank(LowRank):
    """Makes matrices UΣVᵀ of rank r, of norm 1 or less.

    Singular values are positive: softplus of raw ones, plus 1e-6, divided as in `LowRank`.
    """

    def submersion(self, U: Tensor, S: Tensor, V: Tensor) -> Tensor:  # noqa: N803
        return super().submersion(U, nn.functional.softplus(S) + _LEAST, V)

    def submersion_inv(
        self,
        X: Tensor,  # noqa: N803
        check_in_manifold: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        left, values, right = super().submersion_inv(X, check_in_manifold)
        return left, (values - _LEAST).clamp_min(_LEAST).expm1().log(), right
