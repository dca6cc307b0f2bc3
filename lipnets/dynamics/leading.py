"""The largest singular values of a large matrix that moves little: found again from where they were.

References:
    | Thick-restart Lanczos method for large symmetric eigenvalue problems (Wu & Simon, 2000)
    | Matrix Computations (Golub & Van Loan, 2013), section 11.3

A decomposition of n × n numbers takes n³ operations.  Here the singular vectors of a step before, and a
Krylov space of T*T that begins with the residual of the first of them, are a space in which those of
now are found by projection; and the sum in the curvature, b*(s₁² − T*T)⁺b, by conjugate gradients, whose
error is at most the square of the residual over s₁² − s₂².
"""

__all__ = ["Leading", "leading", "start_vectors"]

from dataclasses import dataclass

import torch
from torch import Tensor

from .singular import Top

_KEPT = 6  # singular vectors that are kept
_SPACE = 48  # vectors of a space, at most
_BETWEEN = 6  # vectors that are added before the next projection
_PROJECTIONS = 50
_VECTORS = 3e-9  # the residual in T*T, over the gap of squares, at which vectors are good enough
_FLOOR = 1e-13  # the residual, over the largest square, that rounding leaves
_CURVATURE = 1e-4  # the relative error of curvatures
_GRADIENTS = 200  # steps of conjugate gradients


@dataclass(frozen=True)
class Leading(Top):
    """The largest singular value of one matrix, (1, m, n), as `Top`, of which few others are known.

    Arguments:
        basis: The singular vectors of the smaller side that belong to the largest values, decreasing,
            with shape (n, k): where `leading` of a matrix close by starts.
    """

    basis: Tensor

    @property
    def start(self) -> Tensor:
        """The basis."""
        return self.basis

    def _rest(self, side: Tensor) -> Tensor:
        """By conjugate gradients for (s₁² − T*T) x = b, from x in the span of the basis."""
        return torch.stack([self._solved(each) for each in side.flatten(0, -2)]).view(
            side.shape[:-1]
        )

    def _solved(self, side: Tensor) -> Tensor:
        """b*(s₁² − T*T)⁺b for one b (n,), from below."""
        high, first, others = self._matrices[0], self.basis[:, 0], self.basis[:, 1:]
        square = self._squares[0, -1]
        gaps = square - self._squares[0, :-1].flip(0)  # in the order of the basis

        def project(x: Tensor) -> Tensor:
            return x - torch.vdot(first, x) * first

        def multiply(x: Tensor) -> Tensor:
            return project(square * x - _pull(high, high @ x))

        right = project(side)
        x = others @ ((others.mH @ right) / gaps)
        residual = right - multiply(x)
        step, size = residual, _squared(residual)
        value = torch.vdot(right + residual, x).real
        for _ in range(_GRADIENTS):
            if not size > _CURVATURE * value * gaps[:1].sum():
                break
            image = multiply(step)
            length = size / torch.vdot(step, image).real
            x, residual = x + length * step, residual - length * image
            before, size = size, _squared(residual)
            step = residual + size / before * step
            value = torch.vdot(right + residual, x).real
        return value


def start_vectors(matrix: Tensor) -> Tensor:
    """Vectors to start from where nothing is known of a matrix (1, m, n), with shape (min(m, n), k)."""
    n = min(matrix.shape[-2:])
    at = torch.arange(1, n + 1, device=matrix.device, dtype=torch.float64)
    waves = torch.cos(at[:, None] * (at[: min(_KEPT, n)] - 0.5) * torch.pi / n + at[:, None] ** 2)
    return waves.to(_double(matrix))


def leading(matrix: Tensor, start: Tensor) -> Leading:
    """Finds the largest singular values in float64, for a matrix too large for `top`.

    Arguments:
        matrix: A real or complex matrix, with shape (1, m, n).
        start: `start_vectors`, or better the `basis` of a matrix close to it.
    """
    matrix = matrix.to(_double(matrix))
    swapped = matrix.shape[-2] < matrix.shape[-1]
    oriented = matrix.mH if swapped else matrix
    high = oriented[0]
    kept = start.shape[1]
    space = torch.linalg.qr(start).Q
    images = torch.stack([high @ each for each in space.mT], dim=1)
    for _ in range(_PROJECTIONS):
        squares, mixed = torch.linalg.eigh(images.mH @ images)
        squares, mixed = squares[-kept:], mixed[:, -kept:].flip(1)
        first, image = space @ mixed[:, 0], images @ mixed[:, 0]
        added = _pull(high, image) - squares[-1] * first
        gap = squares[-1] - squares[-2:-1].sum()
        enough = (_VECTORS * gap).maximum(_FLOOR * squares[-1])
        if not torch.linalg.vector_norm(added) > enough:
            break
        if space.shape[1] + _BETWEEN > min(_SPACE, len(space)):
            space, images = space @ mixed, images @ mixed
        for _ in range(min(_BETWEEN, len(space) - space.shape[1])):
            for _ in range(2):  # once leaves what rounding made of it
                added = added - space @ (space.mH @ added)
            added = added / torch.linalg.vector_norm(added).clamp_min(1e-300)
            image = high @ added
            space = torch.cat([space, added[:, None]], dim=1)
            images = torch.cat([images, image[:, None]], dim=1)
            added = _pull(high, image)
    basis = space @ mixed  # pyright: ignore[reportPossiblyUnboundVariable]
    right = basis[:, 0]
    pushed = high @ right
    value = torch.linalg.vector_norm(pushed)
    left = pushed / value
    squares = torch.cat([squares[:-1].clamp_min(0), value.square()[None]])  # pyright: ignore
    second = squares[-2:-1].sum().sqrt()
    ends = (right[None], left[None]) if swapped else (left[None], right[None])
    return Leading(
        value[None], second[None], *ends, oriented, basis[None], squares[None], swapped, basis
    )


def _pull(high: Tensor, image: Tensor) -> Tensor:
    """The adjoint of a matrix (m, n) times (m,), without a copy of the adjoint."""
    return (image.conj() @ high).conj()


def _squared(vector: Tensor) -> Tensor:
    return vector.abs().square().sum()


def _double(matrix: Tensor) -> torch.dtype:
    return torch.complex128 if matrix.is_complex() else torch.float64
