"""Steps on the manifold of matrices with orthonormal columns, many matrices at once.

References:
    | The Geometry of Algorithms with Orthogonality Constraints (Edelman, Arias & Smith, 1998)
    | https://arxiv.org/abs/physics/9806030
    | Functions of Matrices: Theory and Computation (Higham, 2008), chapter 8, for polar factors
    | LipNeXt (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513, for square matrices

Matrices Q are tall: QᵀQ = I.  At a square Q the coordinates of a tangent QA are the skew matrix A, a
frame that moves along with Q, so that momenta in it need no transport.  At others, with fewer columns
than rows, a tangent is its own coordinates, and momenta are projected where they are used.

A step ends at a polar factor, computed by Newton-Schulz steps from the matrix as it is: what rounding
did in all steps before is corrected in each, and never adds up.
"""

__all__ = ["grams", "on_manifold", "retract", "tangent"]

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..parametrizations._dense import gram, plus_transpose

_STEPS = 60  # Newton-Schulz steps; the slowest raise a singular value by half of it
_LARGE = 0.7  # distance ‖YᵀY − I‖ beyond which Newton-Schulz steps might diverge


def tangent(frames: Tensor, gradients: Tensor) -> Tensor:
    """The coordinates of gradients: the skew part of QᵀG for square Q, else G − Q sym(QᵀG).

    Arguments:
        frames: Matrices Q, with shape (B, N, P), N ≥ P.
        gradients: Matrices G, of the same shape.
    """
    inner = frames.mT @ gradients
    if frames.shape[-2] == frames.shape[-1]:
        return _plus_transpose(inner, -1).mul_(0.5)
    return torch.baddbmm(gradients, frames, _plus_transpose(inner), alpha=-0.5)


def retract(frames: Tensor, steps: Tensor) -> Tensor:
    """Moves from Q along coordinates: near Q exp(A) for square Q, to the polar factor of Q + T else.

    The exponential is that to second order, I + A + A²/2, whose polar factor differs from exp(A) by
    a multiple of A³; where a bound of ‖A‖ exceeds 1, the exponential itself.

    Arguments:
        frames: Matrices Q, with shape (B, N, P), N ≥ P.
        steps: Coordinates, as `tangent` gives them but for rounding, of its shape.
    """
    with _full_precision(frames):
        if frames.shape[-2] == frames.shape[-1]:
            squares = grams(steps)  # −A²
            # Eigenvalues of A come in pairs ±iθ: ‖A²‖² in the Frobenius norm is 2 Σ θ⁴.
            if float(torch.linalg.matrix_norm(squares).max()) <= 2**0.5:
                moved = torch.baddbmm(frames, frames, squares.mul_(-0.5).add_(steps))
            else:
                moved = frames @ torch.matrix_exp(steps)
        else:
            moved = frames + tangent(frames, steps)
        return _polar(moved)


def grams(matrices: Tensor) -> Tensor:
    """AᵀA for each matrix, with half of the work left out for a large one on a CPU."""
    if len(matrices) == 1 and matrices.device.type == "cpu":
        return gram(matrices[0])[None]
    return matrices.mT @ matrices


def on_manifold(weight: Tensor) -> Tensor:
    """The polar factor of a weight, the orthonormal one that is nearest; shape (M, N, ...)."""
    matrix = weight.flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    with _full_precision(matrix):
        found = _polar((matrix.mT if wide else matrix)[None])[0]
    return (found.mT if wide else found).reshape(weight.shape)


def _polar(matrices: Tensor) -> Tensor:
    """Steps Y(3I − YᵀY)/2, whose error is ¾ of the square of the one before."""
    enough = 2 * torch.finfo(matrices.dtype).eps ** 0.5
    scaled = False
    for _ in range(_STEPS):
        errors = grams(matrices)
        errors.diagonal(dim1=-2, dim2=-1).sub_(1)
        sizes = torch.linalg.matrix_norm(errors)
        size = float(sizes.max())
        if size > _LARGE and not scaled:  # by a bound of the norm: from below 1 all converge
            matrices = matrices * (1 + sizes)[:, None, None].rsqrt()
            scaled = True
            continue
        matrices = torch.baddbmm(matrices, matrices, errors, alpha=-0.5)
        if not size > enough:
            break
    return matrices


def _plus_transpose(matrices: Tensor, sign: float = 1) -> Tensor:
    """A + Aᵀ, or A − Aᵀ, for each matrix."""
    if len(matrices) == 1:
        return plus_transpose(matrices[0], sign)[None]
    return torch.add(matrices, matrices.mT, alpha=sign)


@contextmanager
def _full_precision(like: Tensor) -> Iterator[None]:
    """Without autocast, nor products in TF32: either would round orthonormal columns to 1e-3."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with torch.autocast(like.device.type, enabled=False):
        matmul.fp32_precision = "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = before
