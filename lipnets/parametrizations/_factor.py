"""Systems of equations in batches of matrices, with the factorization kept for the backward pass."""

__all__ = ["resolvents", "solve"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SMALL = 128  # columns up to which matrices are inverted
_LEAF = 16  # columns of blocks that LAPACK inverts


def solve(matrices: Tensor, right: Tensor) -> Tensor:
    """X with AX = B, for batches of matrices A with A + A* > 0.

    Arguments:
        matrices: The matrices A, real or complex, with shape (P, N, N).
        right: The right-hand sides B, with shape (P, N, K).
    """
    return _Solve.apply(matrices, right)[0]  # pyright: ignore[reportIndexIssue]


def resolvents(
    matrices: Tensor, right: Tensor, shifts: Sequence[float], weights: Sequence[float]
) -> Tensor:
    """Σⱼ wⱼ (A + cⱼI)⁻¹ B for Hermitian A + cⱼI > 0: a function of A applied to B.

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
            factors = _factors(shifted)
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
        each = len(saved) // len(ctx.weights)  # solutions and their factors
        solved, pulled = saved[::each], []
        for j, weight in enumerate(ctx.weights):
            factors = saved[each * j + 1 : each * (j + 1)]
            pulled.append(_solved(factors, grads[0] * weight, adjoint=True))
        matrices = torch.bmm(torch.cat(pulled, dim=2), torch.cat(solved, dim=2).mH).neg_()
        return matrices, torch.stack(pulled).sum(dim=0), None, None


class _Solve(Function):
    """X with the factors of A.  B̄ = A⁻* X̄ and Ā = −B̄ X*."""

    @staticmethod
    def forward(matrices: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        factors = _factors(matrices)
        return _solved(factors, right, adjoint=False), *factors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        out, *factors = ctx.saved_tensors
        if grads[0] is None:
            return None, None
        right = _solved(tuple(factors), grads[0], adjoint=True)
        matrices = torch.bmm(right, out.mH).neg_() if ctx.needs_input_grad[0] else None
        return matrices, right


def _factors(matrices: Tensor) -> tuple[Tensor, ...]:
    """The inverse of small matrices, which products apply fast, or LU factors of large ones."""
    if matrices.shape[-1] <= _SMALL:
        return (_inverse(matrices),)
    if matrices.device.type != "cpu":
        return torch.linalg.lu_factor(matrices)
    # One by one: batched LU of MKL hangs for more than 150 columns and two threads.
    factors, pivots = zip(*map(torch.linalg.lu_factor, matrices), strict=True)
    # LAPACK stores columns: the transposes are what is contiguous.
    return torch.stack([factor.mT for factor in factors]).mT, torch.stack(pivots)


def _solved(factors: tuple[Tensor, ...], right: Tensor, *, adjoint: bool) -> Tensor:
    if len(factors) == 1:
        inverse = factors[0].mH if adjoint else factors[0]
        return (right.mT @ inverse.mT).mT  # vectors are rows in memory
    if right.device.type != "cpu":
        return torch.linalg.lu_solve(*factors, right, adjoint=adjoint)
    parts = [
        torch.linalg.lu_solve(factor, pivot, part, adjoint=adjoint).mT
        for factor, pivot, part in zip(*factors, right, strict=True)
    ]
    return torch.stack(parts).mT


def _inverse(matrices: Tensor) -> Tensor:
    """Inverses by Schur complements of blocks, which are products of batches.

    For A + A* > 0 blocks on the diagonal and their complements are of the same kind: no pivots.
    """
    size = matrices.shape[-1]
    if size <= _LEAF:
        return torch.linalg.inv(matrices)
    half = size // 2
    above, below = matrices[:, :half, half:], matrices[:, half:, :half]
    first = _inverse(matrices[:, :half, :half])
    left = below @ first
    last = _inverse(torch.baddbmm(matrices[:, half:, half:], left, above, alpha=-1))
    corner = first @ above @ last  # the block above the diagonal, negative
    out = torch.empty_like(matrices)
    out[:, half:, half:] = last
    out[:, :half, half:] = -corner
    out[:, half:, :half] = -(last @ left)
    out[:, :half, :half] = torch.baddbmm(first, corner, left)
    return out
