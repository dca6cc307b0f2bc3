"""The largest singular value of a matrix that moves: its value, its slope and its curvature.

References:
    | A Hessian of singular values, and with it their stochastic dynamics (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.03764, https://arxiv.org/abs/2506.18588
    | Perturbation Theory for Linear Operators (Kato, 1966), chapter II

What differs: no Hessian of mn × mn numbers is made.  With T = U diag(s) V* and a direction N, the vector
y = (Nv₁, N*u₁) says all: σ₁ is the largest eigenvalue of A = [[0, T], [T*, 0]], whose eigenvector is
(u₁, v₁)/√2, hence

    D σ₁(N)  = Re u₁*Nv₁,
    D²σ₁(N) = y* (s₁ − A)⁺ y,

and (s₁ − A) z = y, with y orthogonal to (u₁, v₁), is solved by elimination of the first half of z, which
leaves the Gram matrix of the smaller side:

    D²σ₁(N) = (‖y_u‖² + Σⱼ₌₂ |vⱼ*(s₁ y_v + T*y_u)|² / (s₁² − sⱼ²)) / s₁.
"""

__all__ = ["Top", "apply", "top"]

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Top:
    """The largest singular value of each of F matrices with shape (m, n), and what it moves with.

    It is an estimate as good as float64 makes it, never a `Bound`.

    Arguments:
        value: σ₁, with shape (F,).
        second: σ₂, with shape (F,); 0 for matrices of one row or column.
        left: u₁, with shape (F, m).
        right: v₁, with shape (F, n).
    """

    value: Tensor
    second: Tensor
    left: Tensor
    right: Tensor
    _matrices: Tensor  # at least as high as wide, (F, m, n) or its adjoint
    _vectors: Tensor  # right singular vectors of these, increasing, (F, n, n)
    _squares: Tensor  # their squared singular values, (F, n)
    _swapped: bool

    @property
    def gap(self) -> Tensor:
        """σ₁ − σ₂, with shape (F,): the formulas hold for changes that are much smaller."""
        return self.value - self.second

    @property
    def start(self) -> Tensor | None:
        """Where `leading` of a matrix close by starts; None where none is known."""
        return None

    def slope(self, directions: Tensor) -> Tensor:
        """D σ₁ along directions of shape (..., F, m, n), with shape (..., F)."""
        pushed = (directions @ self.right[..., None])[..., 0]
        return self.slope_of(pushed)

    def curvature(self, directions: Tensor) -> Tensor:
        """D²σ₁ along directions of shape (..., F, m, n), with shape (..., F): never negative."""
        pushed = (directions @ self.right[..., None])[..., 0]
        pulled = (self.left.conj()[..., None, :] @ directions)[..., 0, :].conj()
        return self.curvature_of(pushed, pulled)

    def slope_of(self, pushed: Tensor) -> Tensor:
        """D σ₁ along directions of which only Nv₁ is known, with shape (..., F, m)."""
        return (self.left.conj() * pushed).sum(dim=-1).real

    def curvature_of(self, pushed: Tensor, pulled: Tensor) -> Tensor:
        """D²σ₁ along directions of which Nv₁, (..., F, m), and N*u₁, (..., F, n), are known."""
        left, right = (self.right, self.left) if self._swapped else (self.left, self.right)
        high, wide = (pulled, pushed) if self._swapped else (pushed, pulled)
        along = (left.conj() * high).sum(dim=-1).real + (right.conj() * wide).sum(dim=-1).real
        high = high - (along / 2)[..., None] * left
        wide = wide - (along / 2)[..., None] * right
        side = self.value[:, None] * wide + apply(self._matrices.mH, high)
        return (high.abs().square().sum(dim=-1) + self._rest(side)) / self.value

    def _rest(self, side: Tensor) -> Tensor:
        """Σⱼ₌₂ |vⱼ* side|² / (s₁² − sⱼ²), with shape (..., F)."""
        parts = apply(self._vectors.mH, side)[..., :-1].abs().square()
        return (parts / (self._squares[:, -1:] - self._squares[:, :-1])).sum(dim=-1)


def top(matrices: Tensor) -> Top:
    """Decomposes matrices in float64.

    Where σ₁ is not simple, or 0, curvatures are infinite or not numbers: see `Top.gap`.

    Arguments:
        matrices: Real or complex matrices, with shape (F, m, n).
    """
    double = torch.complex128 if matrices.is_complex() else torch.float64
    matrices = matrices.to(double)
    swapped = matrices.shape[-2] < matrices.shape[-1]
    high = matrices.mH if swapped else matrices
    squares, vectors = torch.linalg.eigh(high.mH @ high)
    right = vectors[..., -1]
    image = apply(high, right)
    value = torch.linalg.vector_norm(image, dim=-1)
    left = image / value[..., None]
    squares = torch.cat([squares[..., :-1].clamp_min(0), value.square()[..., None]], dim=-1)
    second = squares[..., -2].sqrt() if squares.shape[-1] > 1 else torch.zeros_like(value)
    ends = (right, left) if swapped else (left, right)
    return Top(value, second, *ends, high, vectors, squares, swapped)


def apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices (F, m, n) times vectors (..., F, n), with shape (..., F, m)."""
    if vectors.ndim == 2:
        return torch.bmm(matrices, vectors[..., None])[..., 0]  # without the overhead of einsum
    return torch.einsum("fmn,...fn->...fm", matrices, vectors)
