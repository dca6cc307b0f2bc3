"""The exponential of the skew part of the matrices of a convolution, at each frequency.

References:
    | Skew Orthogonal Convolutions (Singla & Feizi, 2021) https://arxiv.org/abs/2105.11417
    | An Accurate and Efficient Scheme for Propagating the Time Dependent Schrödinger Equation
    | (Tal-Ezer & Kosloff, 1984) https://doi.org/10.1063/1.448136

What differs: the convolution with the kernel L = K − K* is a matrix L(ω) = S(ω) − S(ω)* at each
frequency of the torus, and exp(L) is taken there.  In training a polynomial, the Chebyshev series for
an estimate of ‖L‖, of degree 6 at norm 1 where Taylor's series takes 9, acts on the Fourier coefficients
of the images by its quadratic factors, whose matrices are formed from one L² where a batch has about as
many images as the layer has channels; complex products are three real ones.  The paper takes 5
convolutions in training and 12 in evaluation, which is 2.6e-3 off orthogonal at norm 1 and more where
the norm has grown; it divides kernels by a norm that is a moving buffer, whatever they are.  Here
kernels are left as they are until a bound of ‖L‖, loose for kernels without structure, comes near 2π,
where they are scaled down to it, so that a step of training has a bounded cost: the same smooth
function of the kernel in training and in evaluation.  Nothing that is certified rests on the bound.
In evaluation the exponential itself is taken, in float64, and exports have one product per frequency,
not a convolution for each term.

The paper pads with zeros in each of its convolutions, so that exp(L) of the cut operator is orthogonal
as well.  That takes a convolution of the image for each term, and is not offered: under zero padding
the layer is a part of the orthogonal operator on a larger torus, and 1-Lipschitz.
"""

__all__ = ["SymbolExponential"]

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .symbol_map import SymbolMap

_CAP = 2 * math.pi  # of the bound of norms, which may be twice the norm: π is enough for all angles
_SAFETY = 1.25  # of the estimate of the norm
_NEGLIGIBLE = 64.0  # units of rounding below which terms of the series are left out
_STEPS = 8  # radii are rounded up to multiples of 1 / 8
_LARGEST = 2.0  # norm of one polynomial, above which it is repeated

Parts = tuple[Tensor, Tensor]  # the real and the imaginary part
Summed = tuple[Tensor, Tensor, Tensor]  # and their sum, which products take


class SymbolExponential(SymbolMap):
    """Makes exp(S − S*) of square matrices, or some of its rows and columns.

    Arguments:
        rows: The number of rows that are taken.
        columns: The number of columns.
        center: The place of the tap at offset 0 in kernels, which are scaled so that norms are at
            most 2π; by default they are not scaled.
    """

    def __init__(self, rows: int, columns: int, center: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.rows, self.columns, self.center = rows, columns, center

    def prepare(self, kernel: Tensor) -> Tensor:  # (N, N, k₁, k₂)
        return kernel if self.center is None else kernel * _cap(kernel, self.center)

    def forward(self, symbols: Tensor) -> Tensor:  # (P, N, N) -> (P, O, I)
        whole = torch.linalg.matrix_exp(symbols - symbols.mH)
        return whole[:, : self.rows, : self.columns]

    def act_on_parts(self, taps: Tensor, waves: Tensor, spectrum: Tensor) -> Tensor:
        # Vectors are rows: the transpose of L = Σ K e^{iω·t} − K* e^{−iω·t} multiplies them.
        real = waves[0] @ (taps.mT - taps).flatten(1)
        imaginary = waves[1] @ (taps.mT + taps).flatten(1)
        if taps.shape[-1] > self.columns:
            spectrum = F.pad(spectrum, (0, taps.shape[-1] - self.columns))
        matrices = (part.view(-1, *taps.shape[1:]) for part in (real, imaginary))
        out = _Exponential.apply(*matrices, spectrum)
        return out[..., : self.rows]  # pyright: ignore[reportIndexIssue]


def _cap(kernel: Tensor, center: tuple[int, int]) -> Tensor:
    """A number c up to 1 such that the matrices L(ω) of cK − (cK)* have norms less than 2π.

    L(ω) = Σ_t L_t e^{iω·t} is the product of the row M of its T taps and a column of T unitary
    matrices, of norm √T: ‖L(ω)‖² ≤ T ‖MM*‖ ≤ (tr G⁸)^⅛ with G = T MM*.  With r for that bound of ‖L(ω)‖,
    c = (1 + (r / 2π)¹⁶)^(−1/16) is 1 to a part in 10⁶ up to r = π, and less than 2π / r.
    """
    pads, shared = [], 1
    for size, before in zip(kernel.shape[2:], center, strict=True):
        after = size - 1 - before
        reach = max(before, after)
        pads = [reach - before, reach - after, *pads]  # offset 0 in the middle
        shared *= max(0, 2 * min(before, after) + 1)  # taps that have an opposite one
    centered = F.pad(kernel, pads)
    taps = (centered - centered.transpose(0, 1).flip(2, 3)).flatten(1)
    count = 2 * kernel.shape[2:].numel() - shared
    # Large kernels are scaled first, for the powers: by whatever number, the result is the same.
    norm = torch.linalg.vector_norm(taps.detach(), dtype=torch.float64).to(taps)
    scale = (norm * (count**0.5 / _CAP)).clamp_min(1.0)
    taps = taps / scale * (count**0.5 / _CAP)
    fourth = torch.linalg.matrix_power(taps @ taps.mT, 4)
    return (scale**-16 + fourth.square().sum()) ** (-1 / 16) / scale


class _Exponential(Function):
    """x exp(X) for rows x and skew-Hermitian matrices X, as a product of quadratics aI + bX + cX².

    The gradient of x is that of the result times exp(X)*, the product of aI − bX + cX², and that of X
    adds up over the factors.  Where the matrices of factors are formed, their gradients give one of
    A = X² as well, Ā, which adds ĀX* + X*Ā to that of X: its skew part, the only one that counts, is
    that of −(Ā + Ā*)X.
    """

    @staticmethod
    def forward(ctx: Any, real: Tensor, imaginary: Tensor, rows: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrix, row = _summed((real, imaginary)), (rows[0], rows[1])
        factors = _factors(_radius(matrix[:2], row), _NEGLIGIBLE * torch.finfo(rows.dtype).eps)
        different = list(dict.fromkeys(factors))
        # A product with the matrix takes N / B times the operations of one with B rows.
        ctx.formed = rows.shape[3] < len(factors) * rows.shape[2]
        ctx.factors, ctx.different = factors, different
        visited: list[Parts] = []
        if ctx.formed:
            square = _square(matrix)
            formed = [_quadratic(matrix, square, factor) for factor in different]
            for factor in factors:
                visited.append(row)
                row = _times(row, formed[different.index(factor)])
            ctx.save_for_backward(*matrix, *chain(*formed), *chain(*visited))
        else:
            for scale, first, second in factors:
                once = _times(row, matrix)
                visited += [row, once]
                row = _combine((scale, row), (first, once), (second, _times(once, matrix)))
            ctx.save_for_backward(*matrix, *chain(*visited))
        return torch.stack(row)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrix, saved = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        row = (grads[0][0], grads[0][1])
        if ctx.formed:
            count = 3 * len(ctx.different)
            formed = list(zip(*(saved[i:count:3] for i in range(3)), strict=True))
            visited = _pairs(saved[count:])
            slope, of_square = _zeros(matrix[:2]), _zeros(matrix[:2])
            for factor, before in zip(reversed(ctx.factors), reversed(visited), strict=True):
                outer = _outer(before, row)
                row = _times_adjoint(row, formed[ctx.different.index(factor)])
                for part, square, piece in zip(slope, of_square, outer, strict=True):
                    part.add_(piece, alpha=factor[1])
                    square.add_(piece, alpha=factor[2])
            real, imaginary = of_square
            doubled = (real + real.mT, imaginary - imaginary.mT)
            slope = _combine((1.0, slope), (-1.0, _times(doubled, matrix)))
            return *slope, torch.stack(row)
        lefts, rights = _pairs(saved), []
        for (scale, first, second), _ in zip(reversed(ctx.factors), lefts[::2], strict=True):
            later = _combine((second, row))
            once = _combine((first, row), (-1.0, _times(later, matrix)))
            rights = [once, later, *rights]
            row = _combine((scale, row), (-1.0, _times(once, matrix)))
        return *_outer(_stack(lefts), _stack(rights)), torch.stack(row)


def _times(row: Parts, matrix: Summed) -> Parts:
    """(R + iJ)(X + iY) by three products: RX, JY and (R + J)(X + Y)."""
    near, far = torch.bmm(row[0], matrix[0]), torch.bmm(row[1], matrix[1])
    mixed = torch.bmm(row[0] + row[1], matrix[2])
    return near - far, mixed.sub_(near).sub_(far)


def _times_adjoint(row: Parts, matrix: Summed) -> Parts:
    """(R + iJ)(X + iY)* by three products: RX*, JY* and (J − R)(X + Y)*."""
    near, far = torch.bmm(row[0], matrix[0].mT), torch.bmm(row[1], matrix[1].mT)
    mixed = torch.bmm(row[1] - row[0], matrix[2].mT)
    return near + far, mixed.add_(near).sub_(far)


def _outer(left: Parts, right: Parts) -> Parts:
    """(R + iJ)*(X + iY) by three products: R*X, J*Y and (R − J)*(X + Y)."""
    near, far = torch.bmm(left[0].mT, right[0]), torch.bmm(left[1].mT, right[1])
    mixed = torch.bmm((left[0] - left[1]).mT, right[0] + right[1])
    return near + far, mixed.sub_(near).add_(far)


def _square(matrix: Summed) -> Parts:
    """X² for skew X, whose real part is skew and whose imaginary part is symmetric: YZ + ZY is YZ − (YZ)*."""
    mixed = torch.bmm(matrix[0], matrix[1])
    real = torch.bmm(matrix[0], matrix[0]).sub_(torch.bmm(matrix[1], matrix[1]))
    return real, mixed - mixed.mT


def _quadratic(matrix: Summed, square: Parts, factor: tuple[float, float, float]) -> Summed:
    scale, first, second = factor
    real, imaginary = _combine((first, matrix[:2]), (second, square))
    real.diagonal(dim1=1, dim2=2).add_(scale)
    return _summed((real, imaginary))


def _summed(parts: Parts) -> Summed:
    return *parts, parts[0] + parts[1]


def _combine(*terms: tuple[float, Parts]) -> Parts:
    """A linear combination."""
    (scale, first), *rest = terms
    total = (first[0] * scale, first[1] * scale)
    for factor, (real, imaginary) in rest:
        total[0].add_(real, alpha=factor)
        total[1].add_(imaginary, alpha=factor)
    return total


def _zeros(parts: Parts) -> Parts:
    return torch.zeros_like(parts[0]), torch.zeros_like(parts[1])


def _stack(parts: Sequence[Parts]) -> Parts:
    """Rows of one after those of the other."""
    real, imaginary = zip(*parts, strict=True)
    return torch.cat(real, dim=1), torch.cat(imaginary, dim=1)


def _pairs(tensors: Sequence[Tensor]) -> list[Parts]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _radius(matrix: Parts, row: Parts) -> float:
    """An estimate of the largest norm of skew matrices, by power iteration; more of it for large ones."""
    if matrix[0].is_meta:
        return 0.0  # shapes alone: any number of factors will do
    real, imaginary = (part[:, :2] + 1e-3 * part.abs().amax() for part in row)
    ratio = 0.0
    for step in range(20):
        if step >= 3 and ratio < 2:
            break
        both = torch.cat([real, imaginary], dim=1)
        size = torch.linalg.vector_norm(both, dim=(1, 2), keepdim=True).clamp_min(1e-30)
        (a, b), (c, d) = ((both / size @ part).chunk(2, dim=1) for part in matrix)
        real, imaginary = a - d, b + c
        ratio = float((real.square() + imaginary.square()).sum(dim=(1, 2)).amax().sqrt())
    return _SAFETY * ratio


def _factors(radius: float, enough: float) -> list[tuple[float, float, float]]:
    """Quadratics a + bz + cz² whose product is exp(z) for imaginary z of a modulus up to r, about."""
    if not math.isfinite(radius):
        radius = 0.0  # weights are not finite, nor is the result
    repeats = max(1, math.ceil(radius / _LARGEST))
    factors = _polynomial(max(1, math.ceil(radius / repeats * _STEPS)), enough)
    return [(a, b / repeats, c / repeats**2) for a, b, c in factors] * repeats


@lru_cache(maxsize=64)
def _polynomial(steps: int, enough: float) -> list[tuple[float, float, float]]:
    """Quadratic factors of the Chebyshev series of exp(z), z = irt, for r = steps / _STEPS.

    exp(irt) = J₀(r) + 2 Σ iᵏ Jₖ(r) Tₖ(t), until what follows is negligible.  It has real coefficients
    in z, and an even degree, so that its roots are pairs of conjugates: z² − 2 Re(ρ) z + |ρ|² divides it.
    """
    radius = steps / _STEPS
    values = _bessel(radius)
    degree = next(n for n in range(2, len(values), 2) if 2 * abs(values[n + 1]) <= enough)
    series = [(2 if k else 1) * 1j**k * values[k] for k in range(degree + 1)]
    powers = np.polynomial.chebyshev.cheb2poly(series)
    real = (powers / (1j * radius) ** np.arange(degree + 1)).real
    roots = np.polynomial.polynomial.polyroots(real)
    above = sorted((root for root in roots if root.imag > 0), key=abs)
    factors = [
        (1.0, float(-2 * root.real / abs(root) ** 2), float(abs(root) ** -2)) for root in above
    ]
    scale = float(real[0])
    (a, b, c), *rest = factors
    return [(scale * a, scale * b, scale * c), *rest]


def _bessel(radius: float) -> list[float]:
    """J₀(r), J₁(r), ..., J₃₀(r).

    By the recurrence J_{k−1} = 2k / r · J_k − J_{k+1} downwards from a high order, which is stable, and
    1 = J₀ + 2J₂ + 2J₄ + ...
    """
    order = 40
    values = [0.0] * (order + 2)
    values[order] = 1e-200
    for k in range(order, 0, -1):
        values[k - 1] = 2 * k / radius * values[k] - values[k + 1]
    total = values[0] + 2 * sum(values[2::2])
    return [value / total for value in values[:31]]
