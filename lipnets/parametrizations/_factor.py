"""Systems of equations in batches of matrices, with the factorization kept for the backward pass."""

__all__ = ["resolvents", "solve", "solve_positive"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# On CPUs, batched LU factorizations of MKL hang for more than 150 columns and two threads.
_BATCHED = 128


def solve(matrices: Tensor, right: Tensor) -> Tensor:
    """X with AX = B, by LU factorization, for batches of matrices.

    Arguments:
        matrices: The matrices A, real or complex, with shape (P, N, N).
        right: The right-hand sides B, with shape (P, N, K).
    """
    return _Solve.apply(matrices, right, False)[0]  # pyright: ignore[reportIndexIssue]


def solve_positive(matrices: Tensor, right: Tensor) -> Tensor:
    """X with AX = B for Hermitian positive definite A, by Cholesky factorization.

    Only the lower triangle of A is read; derivatives are those along Hermitian matrices.
    """
    return _Solve.apply(matrices, right, True)[0]  # pyright: ignore[reportIndexIssue]


def resolvents(
    matrices: Tensor, right: Tensor, shifts: Sequence[float], weights: Sequence[float]
) -> Tensor:
    """Σⱼ wⱼ (A + cⱼI)⁻¹ B for Hermitian A, by LU factorization: a function of A applied to B.

    Derivatives are those along Hermitian matrices.

    Arguments:
        matrices: The matrices A, with shape (P, N, N).
        right: The matrices B, with shape (P, N, K).
        shifts: The numbers cⱼ.
        weights: The numbers wⱼ.
    """
    out = _Resolvents.apply(matrices, right, tuple(shifts), tuple(weights))
    return out[0]  # pyright: ignore[reportIndexIssue]


class _Resolvents(Function):
    """With Xⱼ = (A + cⱼI)⁻¹ B and Gⱼ = wⱼ (A + cⱼI)⁻¹ X̄: B̄ = Σⱼ Gⱼ and Ā = −Σⱼ Gⱼ Xⱼ*."""

    @staticmethod
    def forward(
        matrices: Tensor, right: Tensor, shifts: tuple[float, ...], weights: tuple[float, ...]
    ) -> tuple[Tensor, ...]:
        total, saved = torch.zeros_like(right), []
        for shift, weight in zip(shifts, weights, strict=True):
            shifted = matrices.clone()
            shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
            factors = _lu_factor(shifted)
            solved = _solved(factors, right, adjoint=False)
            total.add_(solved, alpha=weight)
            saved += [solved, *factors]
        return total, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])
        ctx.weights = inputs[3]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = ctx.saved_tensors
        if grads[0] is None:
            return None, None, None, None
        solved, pulled = saved[::3], []
        for j, weight in enumerate(ctx.weights):
            factors = saved[3 * j + 1], saved[3 * j + 2]
            pulled.append(_solved(factors, grads[0] * weight, adjoint=True))
        matrices = torch.bmm(torch.cat(pulled, dim=2), torch.cat(solved, dim=2).mH).neg_()
        return matrices, torch.stack(pulled).sum(dim=0), None, None


class _Solve(Function):
    """X with the factors of A.  B̄ = A⁻* X̄ and Ā = −B̄ X*."""

    @staticmethod
    def forward(matrices: Tensor, right: Tensor, positive: bool) -> tuple[Tensor, ...]:
        factors = (torch.linalg.cholesky(matrices),) if positive else _lu_factor(matrices)
        return _solved(factors, right, adjoint=False), *factors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        out, *factors = ctx.saved_tensors
        if grads[0] is None:
            return None, None, None
        right = _solved(tuple(factors), grads[0], adjoint=True)
        matrices = torch.bmm(right, out.mH).neg_() if ctx.needs_input_grad[0] else None
        return matrices, right, None


def _lu_factor(matrices: Tensor) -> tuple[Tensor, Tensor]:
    if matrices.device.type != "cpu" or matrices.shape[-1] <= _BATCHED:
        return torch.linalg.lu_factor(matrices)
    factors, pivots = zip(*map(torch.linalg.lu_factor, matrices), strict=True)
    # LAPACK stores columns: the transposes are what is contiguous.
    return torch.stack([factor.mT for factor in factors]).mT, torch.stack(pivots)


def _solved(factors: tuple[Tensor, ...], right: Tensor, *, adjoint: bool) -> Tensor:
    if len(factors) == 1:
        half = torch.linalg.solve_triangular(factors[0], right, upper=False)
        return torch.linalg.solve_triangular(factors[0].mH, half, upper=True)
    if right.device.type != "cpu" or right.shape[-2] <= _BATCHED:
        return torch.linalg.lu_solve(*factors, right, adjoint=adjoint)
    parts = [
        torch.linalg.lu_solve(factor, pivot, part, adjoint=adjoint).mT
        for factor, pivot, part in zip(*factors, right, strict=True)
    ]
    return torch.stack(parts).mT
