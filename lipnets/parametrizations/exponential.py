"""The matrix exponential of skew-symmetric matrices.

References:
    | Cheap Orthogonal Constraints in Neural Networks (Lezcano-Casado & Martínez-Rubio, 2019)
    | https://arxiv.org/abs/1901.08428
    | Functions of Matrices: Theory and Computation (Higham, 2008), chapter 10

What differs: cosine and sine of a skew matrix are series in its square, which is symmetric, so that
a few products give both; and the derivative is a short series of commutators, each one product.
"""

__all__ = ["Exponential", "exponential"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import gram, plus_transpose, polished, tall
from ._opaque import opaque
from ._precision import full_precision

_SMALL = 0.85  # norms below which the series needs no squaring
_BLOCKS = {torch.float32: 1, torch.float64: 3}  # of 4 powers each: terms below 9! or 17!
_TERMS = 30  # of a series whose k-th term is 1.7ᵏ / (k + 1)! at most
_LARGE = 2.0**6  # norms above which float32 loses digits in squarings


class Exponential(nn.Module):
    """Makes the first columns of exp(A), with A skew-symmetric; transposed for wide matrices.

    The raw weight has the shape of the constrained one.  Of a square weight W, A = W − Wᵀ; of a tall
    one, W is the first columns of a matrix whose other ones are zero.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return tall(_frame, weight)


def _frame(weight: Tensor) -> Tensor:
    rows, columns = weight.shape
    square = torch.nn.functional.pad(weight, (0, rows - columns))
    return exponential(square - square.mT.contiguous())[:, :columns]


def exponential(skew: Tensor) -> Tensor:
    """Computes exp(A) for a skew-symmetric A, with shape (N, N): an orthogonal matrix."""
    return _exponential(skew)


def _forward(skew: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """Q = exp(A) for skew A, by squaring exp(A / 2ˢ) s times."""
    square = gram(skew).neg_()
    norm = float(torch.linalg.matrix_norm(square, torch.inf)) ** 0.5
    wide = skew.double() if norm > _LARGE else skew
    squarings = max(0, math.ceil(math.log2(norm / _SMALL))) if norm > 0 else 0
    small = math.ldexp(1.0, -squarings)
    square = gram(wide * small).neg_() if wide is not skew else square * small**2
    roots = [_series(wide * small, square)]
    for _ in range(squarings):
        roots.append(roots[-1] @ roots[-1])
    out = polished(roots.pop()).to(skew.dtype)
    return out, (skew, out, *(root.to(skew.dtype) for root in roots))


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """For a gradient C of Q, that of A among skew matrices is ∫₀¹ e^{tA} K e^{−tA} dt, K = skew(QᵀC).

    It is the series Σ adᵏ(K) / (k + 1)!, ad(K) = AK − KA = AK − (AK)ᵀ, and for 2A the mean of that for A and
    of its image under K ↦ e^A K e^{−A}.
    """
    skew, out, *roots = saved
    inner = out.mT @ grad
    term = plus_transpose(inner, -1).mul_(0.5)
    total = term.clone()
    small = skew * math.ldexp(1.0, -len(roots))
    size = before = float(term.norm())
    enough, k = torch.finfo(skew.dtype).eps * size, 0
    # Terms decrease faster than a geometric series: the next one is about size² / before, or less.
    while size * min(size / (before or 1.0), 1.0) > enough and k < _TERMS:
        k += 1
        product = small @ term
        term = plus_transpose(product, -1).mul_(1 / (k + 1))
        total += term
        before, size = size, float(term.norm())
    for root in roots:
        total.add_(gram((root @ total).mT, root.mT, sign=-1)).mul_(0.5)
    return total


def _series(skew: Tensor, square: Tensor) -> Tensor:
    """Cosine and sine of a small skew matrix: Σ A²ᵏ / (2k)! and A Σ A²ᵏ / (2k + 1)!, in powers of A⁴."""
    fourth = gram(square)
    cosine = _even(square, fourth, 0)
    sine = skew @ _even(square, fourth, 1)
    return cosine + sine


def _even(square: Tensor, fourth: Tensor, odd: int) -> Tensor:
    blocks = _BLOCKS[square.dtype]
    inverse = [1 / math.factorial(2 * k + odd) for k in range(2 * blocks + 3)]
    out = fourth * inverse[2 * blocks + 2]
    for k in reversed(range(blocks + 1)):
        if k < blocks:
            out = gram(fourth, out)  # both are polynomials of one symmetric matrix
        out.add_(square, alpha=inverse[2 * k + 1])
        out.diagonal().add_(inverse[2 * k])
    return out


_exponential = opaque("exponential", _forward, _backward)
