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

from ._opaque import opaque
from ._precision import full_precision

_ENOUGH = 1e-3  # residual, relative to the singular value
_ROOM = 64  # steps to begin with
_FIRST, _EVERY = 15, 5  # steps until the first look at the residual, and from one to the next


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
    largest = float(torch.linalg.vector_norm(weight, torch.inf))
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
    last entry of its left vector.  The columns of V are kept orthogonal, those of U follow.
    """
    rows, steps = weight.shape
    if rows < steps:
        norm, left, right = _top(weight.mT)
        return norm, right, left
    generator = torch.Generator().manual_seed(0)
    ahead = torch.randn(steps, generator=generator, dtype=torch.float64).to(weight)
    room = min(steps, _ROOM)
    inputs, outputs = weight.new_zeros(room, steps), weight.new_zeros(room, rows)
    bands = torch.zeros(room, room, dtype=torch.float64)
    eps = torch.finfo(weight.dtype).eps
    beta = float(ahead.norm())
    values = vectors = others = torch.zeros(0)
    residual, size = 0.0, 0
    while True:
        if size == len(bands):  # rows for as many steps again
            inputs, outputs = (torch.cat([t, torch.zeros_like(t)]) for t in (inputs, outputs))
            bands = torch.block_diag(bands, torch.zeros_like(bands))
        right = inputs[size] = ahead / beta
        image = weight @ right
        if size:
            image.sub_(outputs[size - 1], alpha=beta)
            bands[size - 1, size] = beta
        alpha = float(image.norm())
        bands[size, size] = alpha
        left = outputs[size] = image / (alpha or 1.0)
        size += 1
        ahead = (left @ weight).sub_(right, alpha=alpha)
        ahead.addmv_(inputs[:size].mT, inputs[:size] @ ahead, alpha=-1)
        beta = float(ahead.norm())
        ended = size == steps or not min(alpha, beta) > eps * bands[0, 0]
        if ended or (size >= _FIRST and size % _EVERY == 0):
            vectors, values, others = torch.linalg.svd(bands[:size, :size])
            residual = beta * abs(float(vectors[-1, 0]))
            if ended or residual <= _ENOUGH * float(values[0]):
                break
    return (
        float(values[0]) + residual,
        vectors[:, 0].to(weight) @ outputs[:size],
        others[0].to(weight) @ inputs[:size],
    )


_normalized = opaque("spectral", _forward, _backward)
