"""Orthonormal columns by a Cholesky factor of their Gram matrix.

References:
    | Unlocking Deterministic Robustness Certification on ImageNet (Hu et al., 2023)
    | https://arxiv.org/abs/2301.12549, whose last layers are made this way
    | Shifted Cholesky QR for Computing the QR Factorization of Ill-Conditioned Matrices
    | (Fukaya et al., 2020) https://arxiv.org/abs/1809.11085

What differs: the factor is that of WᵀW + δI, with δ above the rounding of WᵀW, so that it exists for
every weight and the result is a contraction; and the map is repeated until its columns are
orthonormal, the last time to first order, which takes a product instead of a factorization.
"""

__all__ = ["Cholesky"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import gram, tall
from ._opaque import opaque
from ._precision import full_precision, unit_scale
from ._triangular import frame_gradient

_PASSES = 5
_NEAR = 0.25  # times the root of ε: errors of WᵀW below which the correction of first order serves


class Cholesky(nn.Module):
    """Orthonormalizes the columns of a matrix, or its rows where there are fewer of them.

    The same matrix as `QR` gives, by products and triangular solves.  Columns that depend on
    others to the precision of the dtype end shorter than 1, zeros stay zeros: a contraction in any
    case.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return tall(_orthonormal, unit_scale(weight))


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """W ↦ WR⁻¹ with RᵀR = WᵀW + δI, repeated; the factors R multiply."""
    eps = torch.finfo(weight.dtype).eps
    frame, upper = weight, None
    for _ in range(_PASSES):
        product = gram(frame)
        errors = product.clone()
        errors.diagonal().sub_(1)
        if float(torch.linalg.matrix_norm(errors)) <= _NEAR * eps**0.5:
            # I + E = RᵀR with R = I + half of the diagonal of E and what is above, to first order.
            right = errors.triu_()
            right.diagonal().mul_(0.5)
            frame = torch.addmm(frame, frame, right, alpha=-1)
            break
        factor = _factor(product)
        frame = torch.linalg.solve_triangular(factor, frame, upper=True, left=False)
        upper = factor if upper is None else factor @ upper
    if upper is None:
        upper = torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device)
    return frame, (frame, upper)


def _factor(product: Tensor) -> Tensor:
    """R with RᵀR = G + δI, for the smallest δ tried for which there is one."""
    eps, tiny = torch.finfo(product.dtype).eps, torch.finfo(product.dtype).tiny
    shift = 4 * eps * float(product.diagonal().mean()) + tiny
    while True:
        product.diagonal().add_(shift)
        factor, info = torch.linalg.cholesky_ex(product, upper=True)
        if not info:
            return factor
        shift *= 16


_orthonormal = opaque("cholesky", _forward, frame_gradient)
