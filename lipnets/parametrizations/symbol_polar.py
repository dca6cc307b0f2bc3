"""The polar factor of the matrices of a convolution, at each frequency.

References:
    | LOT: Layer-wise Orthogonal Training on Improving ℓ2 Certified Robustness
    | (Xu, Li & Li, 2022) https://arxiv.org/abs/2210.11620
    | Computing A^α, log(A), and Related Matrix Functions by Contour Integrals
    | (Hale, Higham & Trefethen, 2008) https://doi.org/10.1137/070700607

What differs: (W*W)^(−½) is a sum of shifted inverses Σⱼ wⱼ (W*W + cⱼI)⁻¹, of a number that the precision
asks for, instead of some Newton-Schulz steps that may not have converged.  In training these act on
the images, by one factorization for each shift, and no square root is formed; in evaluation the
matrices are formed in float64 and corrected by two steps that square their errors.
"""

__all__ = ["SymbolPolar", "inverse_sqrt_poles"]

import math
from functools import lru_cache

import torch
from torch import Tensor

from ._factor import resolvents
from .symbol_map import SymbolMap

_ROUGH = (
    6,
    1e-4,
)  # poles, and the least eigenvalue of W*W, over its norm, that is mapped to 1 ± 1e-4
_FINE = (12, 1e-11)


class SymbolPolar(SymbolMap):
    """Replaces singular values by 1; those that vanish stay below 1, so that it is smooth."""

    def forward(self, symbols: Tensor) -> Tensor:
        rows, columns = symbols.shape[-2:]
        if rows < columns:
            return self(symbols.mT).mT
        identity = torch.eye(columns, dtype=symbols.dtype, device=symbols.device)
        polar = _act(symbols, identity.expand(len(symbols), -1, -1), *_FINE)
        for _ in range(2):
            polar = 1.5 * polar - 0.5 * polar @ (polar.mH @ polar)
        return polar

    def act(self, symbols: Tensor, spectrum: Tensor) -> Tensor:
        return _act(symbols, spectrum.mT, *_ROUGH).mT


def _act(matrices: Tensor, vectors: Tensor, count: int, smallest: float) -> Tensor:
    """W(W*W)^(−½) X, for batches of W and X."""
    rows, columns = matrices.shape[-2:]
    wide = rows < columns
    size = torch.linalg.matrix_norm(matrices.detach(), keepdim=True)
    matrices = matrices / torch.where(size > 0, size, torch.ones_like(size))
    gram = matrices @ matrices.mH if wide else matrices.mH @ matrices
    # A bound of the norm closer than 1, to put the poles where the eigenvalues are.
    norm = torch.linalg.matrix_norm(gram.detach(), keepdim=True)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    gram = gram / norm
    if wide:
        vectors = matrices @ vectors
    shifts, weights = inverse_sqrt_poles(count, smallest)
    total = resolvents(gram, vectors, shifts, weights) / norm.sqrt()
    return total if wide else matrices @ total


@lru_cache(maxsize=16)
def inverse_sqrt_poles(count: int, smallest: float) -> tuple[list[float], list[float]]:
    """Shifts cⱼ > 0 and weights wⱼ > 0 with Σⱼ wⱼ / (x + cⱼ) ≈ x^(−½) for x in [smallest, 1].

    The relative error is about exp(−2π² count / (log(1 / smallest) + 3)), and the sum is at most
    (1 + that) x^(−½) for every x > 0: the trapezoidal rule in coordinates of Jacobi's elliptic functions.
    """
    modulus = 1 - smallest
    quarter = math.pi / 2 / _agm(modulus)[0][-1]
    shifts, weights = [], []
    for j in range(count):
        sine, cosine, delta = _jacobi((j + 0.5) * quarter / count, modulus)
        shifts.append(smallest * (sine / cosine) ** 2)
        scale = 2 * quarter * math.sqrt(smallest) / (math.pi * count)
        weights.append(scale * delta / cosine**2)
    return shifts, weights


def _agm(modulus: float) -> tuple[list[float], list[float]]:
    """The arithmetic-geometric mean of 1 and √(1 − m): the means a, and half-differences c."""
    means, halves, geometric = [1.0], [math.sqrt(modulus)], math.sqrt(1 - modulus)
    while halves[-1] > 1e-15 and len(means) < 30:
        mean = means[-1]
        halves.append((mean - geometric) / 2)
        means.append((mean + geometric) / 2)
        geometric = math.sqrt(mean * geometric)
    return means, halves


def _jacobi(argument: float, modulus: float) -> tuple[float, float, float]:
    """The elliptic functions sn, cn and dn with parameter m, by descending Landen transformations."""
    means, halves = _agm(modulus)
    angle = 2 ** (len(means) - 1) * means[-1] * argument
    for mean, half in zip(reversed(means[1:]), reversed(halves[1:]), strict=True):
        angle = (angle + math.asin(half / mean * math.sin(angle))) / 2
    sine = math.sin(angle)
    return sine, math.cos(angle), math.sqrt(1 - modulus * sine**2)
