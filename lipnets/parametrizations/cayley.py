"""The Cayley map from matrices to orthogonal matrices.

References:
    | Efficient Riemannian Optimization on the Stiefel Manifold via the Cayley Transform
    | (Li, Li & Todorovic, 2020) https://arxiv.org/abs/2002.01113
    | Orthogonalizing Convolutional Layers with the Cayley Transform
    | (Trockman & Kolter, 2021) https://arxiv.org/abs/2104.07167

For dense layers, without the learnable norm of the second paper.  The inverse is made of products of
blocks, in the dtype of the weight; where large or nearly collinear weights leave columns that are
not orthonormal to its precision, it is made again in float64.  The derivative uses the inverse.
"""

__all__ = ["Cayley", "cayley"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import MANY, contracted, error_of, plus_transpose, tall
from ._opaque import opaque
from ._precision import full_precision

_LEAF = 64  # rows of a block that LAPACK inverts


class Cayley(nn.Module):
    """Makes the columns of a matrix orthonormal, or its rows where there are fewer of them.

    Smooth, defined for every raw weight, and the identity at zero.  The raw weight has the shape of
    the constrained one.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return cayley(weight)


def cayley(weight: Tensor) -> Tensor:
    """Maps W = [U; Z] of shape (n, k), U of shape (k, k), to [(I − A)(I + A)⁻¹; −2Z(I + A)⁻¹].

    Here A = U − Uᵀ + ZᵀZ, whose symmetric part is not negative: I + A is always invertible, and
    the columns of the result are orthonormal, since AᵀA + 4ZᵀZ + I − A − Aᵀ = (I + A)ᵀ(I + A)
    for A + Aᵀ = 2ZᵀZ.  Matrices with more columns than rows are transposed.
    """
    return tall(_cayley, weight)


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    inverse, frame = _frame(weight, blocks=True)
    error = error_of(frame)
    if error <= MANY:
        return contracted(frame, error), (weight, inverse)
    inverse, frame = _frame(weight.double(), blocks=False)
    return frame.to(weight.dtype), (weight, inverse.to(weight.dtype))


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """With N = (I + A)⁻¹, the result is [2N − I; −2ZN], and dN = −N dA N.

    For gradients C and D of the two parts, that of A is B = −Nᵀ(2C − 2ZᵀD)Nᵀ: that of U is B − Bᵀ, and
    that of Z is −2DNᵀ + Z(B + Bᵀ).
    """
    weight, inverse = saved
    columns = weight.shape[1]
    lower, inner = weight[columns:], grad[:columns]
    if len(lower):
        inner = inner - lower.mT @ grad[columns:]
    turned = inverse.mT @ inner @ inverse.mT  # −B / 2
    upper = plus_transpose(turned, -1).mul_(-2)
    if not len(lower):
        return upper
    below = grad[columns:] @ inverse.mT + lower @ plus_transpose(turned)
    return torch.cat([upper, -2 * below])


def _frame(weight: Tensor, *, blocks: bool) -> tuple[Tensor, Tensor]:
    """The inverse N and the frame [2N − I; −2ZN]."""
    columns = weight.shape[1]
    upper, lower = weight[:columns], weight[columns:]
    matrix = plus_transpose(upper, -1)
    if len(lower):
        matrix.addmm_(lower.mT, lower)
    matrix.diagonal().add_(1)
    inverse = _inverse(matrix) if blocks else torch.linalg.inv(matrix)
    top = 2 * inverse
    top.diagonal().sub_(1)
    return inverse, torch.cat([top, -2 * lower @ inverse]) if len(lower) else top


def _inverse(matrix: Tensor) -> Tensor:
    """Inverts a matrix whose symmetric part is I at least, by Schur complements of its blocks.

    They are of the same kind, hence invertible; no pivots are looked for.
    """
    size = len(matrix)
    if size <= _LEAF:
        return torch.linalg.inv(matrix)
    half = size // 2
    first = _inverse(matrix[:half, :half])
    right = first @ matrix[:half, half:]
    left = matrix[half:, :half] @ first
    out = torch.empty_like(matrix)
    last = _inverse(torch.addmm(matrix[half:, half:], left, matrix[:half, half:], alpha=-1))
    out[half:, half:] = last
    corner = right @ last
    torch.neg(corner, out=out[:half, half:])
    out[half:, :half] = last @ left.neg_()
    torch.addmm(first, corner, left, alpha=-1, out=out[:half, :half])
    return out


_cayley = opaque("cayley", _forward, _backward)
