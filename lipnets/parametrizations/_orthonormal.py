"""Orthonormal rows by Cholesky factors, with a derivative written by hand."""

__all__ = ["orthonormal"]

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ._precision import unit_scale

_SHIFT = 1e-12  # of the Gram matrix, so that it has a Cholesky factor


def orthonormal(matrices: Tensor) -> Tensor:
    """Makes the rows of matrices orthonormal, or their columns where there are fewer of them.

    The result is Q of W = LQ with a lower triangular matrix L of positive diagonal: row i is made
    orthogonal to those before it.  A Cholesky factor of WWᵀ in float64 orthonormalizes, the second
    time to 1e-12.  A small multiple of the identity makes it exist for every matrix, and QQᵀ ≤ I:
    where the rank is deficient, Q is a contraction.

    Arguments:
        matrices: The matrices W, with shape (..., M, N).

    Returns:
        The matrices Q, with shape (..., M, N).
    """
    if not matrices.numel():
        return matrices
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = unit_scale(matrices.mT if tall else matrices, dim=(-2, -1))
    if torch.compiler.is_compiling():  # a compiler derives the derivative itself
        rows = _factorized(wide)[0]
    else:
        rows: Tensor = _Orthonormal.apply(wide)[0]  # pyright: ignore
    return rows.mT if tall else rows


def _factorized(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Q and L⁻¹ of W = LQ."""
    rows = matrices.double()
    identity = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
    inverses = []
    for _ in range(2):
        gram = rows @ rows.mT
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
        factor = torch.linalg.cholesky(gram + _SHIFT * (trace + 1) * identity)
        inverses.append(torch.linalg.solve_triangular(factor, identity, upper=False))
        rows = inverses[-1] @ rows
    return rows.to(matrices.dtype), (inverses[1] @ inverses[0]).to(matrices.dtype)


class _Orthonormal(Function):
    """Q of W = LQ, and L⁻¹.

    With X = L⁻¹ dL, lower triangular: dQ = L⁻¹ dW − XQ, and QQᵀ = I makes dQ Qᵀ antisymmetric, so that
    X + Xᵀ = Y + Yᵀ for Y = L⁻¹ dW Qᵀ.  For a gradient C of Q, that of W is L⁻ᵀ (C − SQ), where S is
    symmetric with the lower triangle of CQᵀ.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrices: Tensor) -> tuple[Tensor, Tensor]:
        return _factorized(matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rows, inverse = ctx.saved_tensors
        given = grads[0]
        lower = (given @ rows.mT).tril()
        symmetric = lower + lower.tril(-1).mT
        return inverse.mT @ (given - symmetric @ rows)
