"""The Cayley map from matrices to orthogonal matrices.

References:
    | Efficient Riemannian Optimization on the Stiefel Manifold via the Cayley Transform
    | (Li, Li & Todorovic, 2020) https://arxiv.org/abs/2002.01113
    | Orthogonalizing Convolutional Layers with the Cayley Transform
    | (Trockman & Kolter, 2021) https://arxiv.org/abs/2104.07167

For dense layers, without the learnable norm of the second paper.  The map is evaluated in float64:
in float32 the columns of large or nearly collinear weights are orthogonal to 1e-5 only.
"""

__all__ = ["Cayley", "cayley"]

import torch
from torch import Tensor, nn

from ._precision import full_precision


class Cayley(nn.Module):
    """Makes the columns of a matrix orthonormal, or its rows where there are fewer of them.

    Smooth, defined for every raw weight, and the identity at zero.  The raw weight has the shape of
    the constrained one.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return cayley(weight.double()).to(weight.dtype)


def cayley(weight: Tensor) -> Tensor:
    """Maps W = [U; Z] of shape (n, k), U of shape (k, k), to [(I − A)(I + A)⁻¹; −2Z(I + A)⁻¹].

    Here A = U − Uᵀ + ZᵀZ, whose symmetric part is not negative: I + A is always invertible, and
    the columns of the result are orthonormal, since AᵀA + 4ZᵀZ + I − A − Aᵀ = (I + A)ᵀ(I + A)
    for A + Aᵀ = 2ZᵀZ.  Matrices with more columns than rows are transposed.
    """
    rows, columns = weight.shape
    if rows < columns:
        return cayley(weight.mT).mT
    upper, lower = weight[:columns], weight[columns:]
    identity = torch.eye(columns, dtype=weight.dtype, device=weight.device)
    a = upper - upper.mT + lower.mT @ lower
    # (I − A)(I + A)⁻¹ = 2(I + A)⁻¹ − I: one factorization, one solve.
    inverse = torch.linalg.solve(identity + a, identity)
    return torch.cat([2 * inverse - identity, -2 * lower @ inverse])
