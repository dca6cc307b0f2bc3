"""Division of a matrix by its largest singular value.

References:
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
    | https://arxiv.org/abs/1802.05957
    | Calculating the Singular Values and Pseudo-Inverse of a Matrix (Golub & Kahan, 1965)
    | https://doi.org/10.1137/0702016

What differs: no power iteration is kept between steps, which would be another function in training
than in evaluation, and a lower estimate in both.  A Lanczos iteration from a fixed start runs until
its residual is small, and the divisor is its value plus that residual.
"""

__all__ = ["SpectralMatrix"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from ._opaque import opaque
from ._precision import full_precision

_ENOUGH = 1e-3  # residual, relative to the singular value
_ROOM = 64  # steps to begin with
_FIRST, _EVERY = 20, 5  # steps until the first look at the residual, and from one to the next


class SpectralMatrix(nn.Module):
    """Divides a matrix by its largest singular value, found to 1e-3 and never below it.

    A singular value lies within the residual of the value found; that it is the largest is what a
    start at random makes all but certain, and what the certificate of the layer checks.  Zeros stay
    zeros.  The raw weight has the shape of the constrained one.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return _normalized(weight)


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    largest = float(weight.abs().amax())
    if not largest > 0:
        return weight.clone(), (weight, weight[:, 0], weight[0], torch.ones(()))
    scaled = weight / largest
    norm, left, right = _top(scaled)
    out = scaled.div_(norm)
    return out, (out, left, right, torch.tensor(norm * largest, dtype=torch.float64))


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """W / σ, with dσ = uᵀ dW v for the singular vectors u and v of σ."""
    out, left, right, norm = saved
    along = torch.sum(grad * out)
    return torch.addr(grad, along * left, right, alpha=-1).div_(float(norm))


def _top(weight: Tensor) -> tuple[float, Tensor, Tensor]:
    """The largest singular value of a matrix, its residual added, and its singular vectors.

    With WV = UB, B upper bidiagonal, and WᵀU = VBᵀ + βveᵀ: the residual of a triple of B is β times the
    last entry of its left vector.  Of small matrices the columns of V are kept orthogonal, and those of U
    follow; of large ones they lose that only where a triple has converged, which is enough here.
    """
    rows, steps = weight.shape
    if rows < steps:
        norm, left, right = _top(weight.mT)
        return norm, right, left
    generator = torch.Generator().manual_seed(0)
    ahead = torch.randn(steps, generator=generator, dtype=torch.float64).to(weight)
    room = min(steps, _ROOM)
    inputs, outputs = weight.new_empty(room, steps), weight.new_empty(room, rows)
    alphas: list[float] = []
    betas: list[float] = []
    eps = torch.finfo(weight.dtype).eps
    few = steps <= _ROOM
    beta, left = float(vector_norm(ahead)), weight.new_zeros(rows)
    right = torch.div(ahead, beta, out=inputs[0])
    while True:
        image = torch.addmv(left, weight, right, beta=-beta) if alphas else weight @ right
        alpha = float(vector_norm(image))
        left = torch.div(image, alpha or 1.0, out=outputs[len(alphas)])
        ahead = torch.addmv(right, weight.mT, left, beta=-alpha)
        alphas.append(alpha)
        size = len(alphas)
        if few:
            ahead.addmv_(inputs[:size].mT, inputs[:size] @ ahead, alpha=-1)
        beta = float(vector_norm(ahead))
        ended = size == steps or not min(alpha, beta) > eps * alphas[0]
        if ended or (size >= _FIRST and size % _EVERY == 0):
            values, vectors, others = _decomposed(alphas, betas)
            residual = beta * abs(float(vectors[-1, 0]))
            if ended or residual <= _ENOUGH * float(values[0]):
                break
        betas.append(beta)
        if size == len(inputs):  # rows for as many steps again
            inputs, outputs = (torch.cat([t, torch.empty_like(t)]) for t in (inputs, outputs))
        right = torch.div(ahead, beta, out=inputs[size])
    return (
        float(values[0]) + residual,
        vectors[:, 0].to(weight) @ outputs[:size],
        others[0].to(weight) @ inputs[:size],
    )


def _decomposed(alphas: list[float], betas: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values, left and right vectors of a matrix with two diagonals."""
    bands = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    bands.diagonal(1).copy_(torch.tensor(betas, dtype=torch.float64))
    vectors, values, others = torch.linalg.svd(bands)
    return values, vectors, others


_normalized = opaque("spectral", _forward, _backward)
