"""The derivative that orthonormalizations W = QR with R upper triangular have in common."""

__all__ = ["frame_gradient"]

from collections.abc import Sequence

import torch
from torch import Tensor

from ._dense import plus_transpose

_BLOCK = 256  # columns
_SMALLEST = 1e-6  # diagonal entries of R, relative to the largest, that count as zero
_HUGE = 1e18  # stands for infinity on the diagonal


def frame_gradient(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """Gradient of W from that of Q, where W = QR with orthonormal Q and upper triangular R.

    With dW = dQ R + Q dR, Ω = QᵀdQ is skew and its part below the diagonal is that of QᵀdW R⁻¹.  Hence,
    for a gradient C of Q and K = QᵀC, that of W is (C − QK + QT)R⁻ᵀ, T the part of K − Kᵀ below the
    diagonal; C − QK vanishes for square Q.

    Columns whose diagonal entry of R vanishes, as where W has no rank, get no derivative.

    Arguments:
        saved: The matrices Q and R, with shapes (M, N) and (N, N).
        grad: The gradient C, with shape (M, N).
    """
    frame, upper = saved
    inner = frame.mT @ grad
    below = plus_transpose(inner, -1).tril_(-1)
    if frame.shape[0] > frame.shape[1]:
        total = torch.addmm(grad, frame, below - inner)
    else:
        total = _times_lower(frame, below)
    diagonal = upper.diagonal().abs()
    vanishes = diagonal <= _SMALLEST * diagonal.amax()
    safe = upper.clone()
    safe.diagonal().masked_fill_(vanishes, _HUGE)
    return torch.linalg.solve_triangular(safe.mT, total, upper=False, left=False)


def _times_lower(matrix: Tensor, lower: Tensor) -> Tensor:
    """A product with a lower triangular matrix, by blocks of columns without the zeros above them."""
    size = len(lower)
    if size <= _BLOCK:
        return matrix @ lower
    out = matrix.new_empty(matrix.shape)
    for start in range(0, size, _BLOCK):
        columns = slice(start, start + _BLOCK)
        torch.mm(matrix[:, start:], lower[start:, columns], out=out[:, columns])
    return out
