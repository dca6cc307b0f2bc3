"""What parametrizations of matrices share: Gram matrices, a last correction."""

__all__ = ["FEW", "MANY", "contracted", "error_of", "gram", "plus_transpose", "polished", "tall"]

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 128  # columns of a block of a Gram matrix: smaller ones make products slow
FEW, MANY = 1.0, 16.0  # units of rounding: errors of frames that stay, and that are corrected
_CORRECTIONS = 3


def gram(matrix: Tensor, other: Tensor | None = None, sign: float = 1) -> Tensor:
    """Computes WᵀW, of large matrices with the blocks below the diagonal copied from those above.

    Arguments:
        matrix: The matrix W, with shape (M, N).
        other: A matrix V of the same shape, for which WᵀV is symmetric, to compute that instead.
        sign: −1 where WᵀV is skew.

    Returns:
        A matrix that is symmetric but for rounding within blocks, with shape (N, N), in two thirds
        of the time of a product.
    """
    other = matrix if other is None else other
    columns = matrix.shape[1]
    if columns < 2 * _BLOCK or columns % _BLOCK:
        return matrix.mT @ other
    out = matrix.new_empty(columns, columns)
    for start in range(0, columns, _BLOCK):
        stop = start + _BLOCK
        strip = matrix[:, start:stop].mT @ other[:, start:]
        out[start:stop, start:] = strip
        out[stop:, start:stop] = strip[:, _BLOCK:].mT
        if sign != 1:
            out[stop:, start:stop].neg_()
    return out


def plus_transpose(matrix: Tensor, sign: float = 1) -> Tensor:
    """Computes A + Aᵀ, or A − Aᵀ, five times as fast as torch adds matrices of two layouts."""
    out = matrix.mT.clone(memory_format=torch.contiguous_format)
    return torch.add(matrix, out, alpha=sign, out=out)


def polished(frame: Tensor) -> Tensor:
    """Corrects columns that are nearly orthonormal.

    Errors ε of the singular values of many units of rounding are taken to 3ε² / 2 by steps of Newton
    and Schulz; errors of a few units stay, and the frame is scaled by as little below 1.

    Arguments:
        frame: The columns Q, with shape (M, N), N ≤ M.
    """
    eps, error = torch.finfo(frame.dtype).eps, error_of(frame)
    for _ in range(_CORRECTIONS):
        if not error > MANY:
            break
        product = gram(frame).neg_()
        product.diagonal().add_(3)
        frame = frame @ product.mul_(0.5)
        error = min(error, max(1.5 * error**2 * eps, 2.0))
    return contracted(frame, error)


def contracted(frame: Tensor, error: float) -> Tensor:
    """Scales a frame so that errors of some units of rounding leave no singular value above 1."""
    # The largest of the errors is about twice their root mean square.
    return frame if error <= FEW else frame * (1 - 2 * error * torch.finfo(frame.dtype).eps)


def error_of(frame: Tensor) -> float:
    """Estimates how far columns are from orthonormal, in units of rounding of their dtype.

    The root mean square of the error QᵀQ − I on a few fixed vectors, computed in float64.
    """
    columns = frame.shape[1]
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(columns, min(columns, 8), generator=generator, dtype=torch.float64)
    probes = probes.to(frame.device)
    double = frame.double()
    errors = double.mT @ (double @ probes) - probes
    return float(errors.norm() / probes.norm()) / torch.finfo(frame.dtype).eps


def tall(transform: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Applies a map of matrices with at least as many rows as columns, to the transpose if need be."""
    return transform(weight) if weight.shape[0] >= weight.shape[1] else transform(weight.mT).mT
