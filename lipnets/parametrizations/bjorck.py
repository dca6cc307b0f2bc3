"""The polar factor of a matrix, by Björck's iteration run to convergence.

References:
    | An Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix
    | (Björck & Bowie, 1971) https://doi.org/10.1137/0708036
    | A Stable Scaling of Newton-Schulz for Improving the Sign Function Computation of a Hermitian
    | Matrix (Chen & Chow, 2014), preprint ANL/MCS-P5059-0114
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381

What differs: the matrix is divided by a bound of its norm, so that the iteration cannot diverge;
its steps are scaled, which takes 20 steps where the plain iteration takes 40; and the derivative is
that of the polar factor, from one eigendecomposition, instead of that of every step.
"""

__all__ = ["Bjorck"]

import torch
from torch import Tensor, nn

from ._precision import full_precision, unit_scale

_SMALLEST = 1e-6  # relative to a bound of the norm: singular values above it become 1


class Bjorck(nn.Module):
    """Replaces the singular values of a matrix by 1.

    The result is the orthogonal matrix nearest to the raw weight, or the one with orthonormal
    columns or rows.  Singular values below a millionth of the largest end between 0 and 1: the
    result is 1-Lipschitz in any case.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        rows, columns = weight.shape
        return _polar(weight) if rows >= columns else _polar(weight.mT).mT


def _polar(weight: Tensor) -> Tensor:
    weight = unit_scale(weight)
    with torch.no_grad():
        size = torch.minimum(
            torch.linalg.matrix_norm(weight),
            (
                torch.linalg.matrix_norm(weight, 1) * torch.linalg.matrix_norm(weight, torch.inf)
            ).sqrt(),
        )
        polar = weight / torch.where(size > 0, size, torch.ones_like(size))
        for scale in _scales(weight.dtype):
            polar = scale * (1.5 * polar - 0.5 * scale**2 * polar @ (polar.mT @ polar))
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return polar
    linear = _differential(polar, weight)
    return polar + (linear - linear.detach())


def _scales(dtype: torch.dtype) -> list[float]:
    """Scales ρ of the steps x ↦ ρx(3 − ρ²x²) / 2 that take [l, 1] to 1 to the precision of a dtype.

    With ρ² = 3 / (1 + l + l²), a step takes both ends of [l, 1] to the same value, its least, and
    nothing above 1.
    """
    low, scales = _SMALLEST, []
    while 1 - low > torch.finfo(dtype).eps:
        scale = (3 / (1 + low + low**2)) ** 0.5
        scales.append(scale)
        low = scale * low * (3 - (scale * low) ** 2) / 2
    return scales


def _differential(polar: Tensor, weight: Tensor) -> Tensor:
    """An expression that is linear in the weight, with the derivative of the polar factor there.

    For W = QH, with H symmetric, dQ = QΩ + (I − QQᵀ) dW H⁻¹, where ΩH + HΩ = QᵀdW − dWᵀQ: solved in the
    eigenbasis of H.  Directions in which H vanishes get no derivative.
    """
    with torch.no_grad():
        symmetric = polar.mT @ weight
        values, basis = torch.linalg.eigh((symmetric + symmetric.mT) / 2)
        floor = _SMALLEST * values.amax()
        sums = values[:, None] + values
        over_sums = torch.where(sums > floor, sums, torch.inf).reciprocal()
        over_values = torch.where(values > floor, values, torch.inf).reciprocal()
    inside = polar.mT @ weight
    turn = basis.mT @ (inside - inside.mT) @ basis * over_sums
    outside = (weight - polar @ inside) @ basis * over_values
    return (polar @ basis @ turn + outside) @ basis.mT
