"""The exponential of the skew part of the matrices of a convolution, at each frequency.

References:
    | Skew Orthogonal Convolutions (Singla & Feizi, 2021) https://arxiv.org/abs/2105.11417
    | An Accurate and Efficient Scheme for Propagating the Time Dependent Schrödinger Equation
    | (Tal-Ezer & Kosloff, 1984) https://doi.org/10.1063/1.448136

What differs: the convolution with the kernel L = K − K* is a matrix L(ω) = S(ω) − S(ω)* at each
frequency of the torus, and exp(L) is taken there.  In training its Chebyshev series, with Bessel
functions of an estimate of ‖L‖ for coefficients, acts on the Fourier coefficients of the images: each
term is a product for two ninths of the operations of a 3 × 3 convolution, and there are as many as
matter, about 6 at norm 1, where Taylor's series takes 9; the paper takes 5 convolutions in training and 12 in
evaluation, which is 2.6e-3 off orthogonal at norm 1 and more where the norm has grown, and divides by a
norm that is a moving buffer.  Here nothing rests on the norm.  In evaluation the exponential itself is taken,
in float64, and exports have one product per frequency, not a convolution for each term.

The paper pads with zeros in each of its convolutions, so that exp(L) of the cut operator is orthogonal
as well.  That takes a convolution of the image for each term, and is not offered: under zero padding
the layer is a part of the orthogonal operator on a larger torus, and 1-Lipschitz.
"""

__all__ = ["SymbolExponential"]

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .symbol_map import SymbolMap

_SAFETY = 1.25  # of the estimate of the norm
_SMALLEST = 0.05  # norm, below which two or three terms do in any case
_NEGLIGIBLE = 64.0  # units of rounding below which terms of the series are left out


class SymbolExponential(SymbolMap):
    """Makes exp(S − S*) of square matrices, or some of its rows and columns.

    Arguments:
        rows: The number of rows that are taken.
        columns: The number of columns.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, symbols: Tensor) -> Tensor:  # (P, N, N) -> (P, O, I)
        whole = torch.linalg.matrix_exp(symbols - symbols.mH)
        return whole[:, : self.rows, : self.columns]

    def act(self, symbols: Tensor, spectrum: Tensor) -> Tensor:
        vectors = F.pad(spectrum, (0, symbols.shape[-1] - self.columns))
        out = _Series.apply(symbols, vectors)[0]  # pyright: ignore[reportIndexIssue]
        return out[..., : self.rows]


class _Series(Function):
    """exp(L) x for vectors x in rows, with L = S − S*.

    With ‖L‖ ≤ r about, u₀ = x, u₁ = Lx / r and u_{k+1} = 2Lu_k / r + u_{k−1}: the sum is Σ c_k u_k with
    c_k = 2J_k(r), and c₀ = J₀(r).  Gradients of u_k are g_k = c_k ȳ + 2L*g_{k+1} / r + g_{k+2}, that of x
    is g₀ with L* in place of 2L*, and that of L is (g₁ u₀* + 2 Σ g_{k+1} u_k*) / r.  Since L* = −L,
    conjugates of the rows g_k are made with L itself, and nothing is conjugated on the way.
    """

    @staticmethod
    def forward(symbols: Tensor, vectors: Tensor) -> tuple[Any, ...]:
        matrices = symbols - symbols.mH
        radius = _radius(matrices, vectors)
        coefficients = _coefficients(radius, _NEGLIGIBLE * torch.finfo(vectors.dtype).eps)
        matrices = matrices.mul_(2 / radius)
        terms = [vectors.clone(), torch.bmm(vectors, matrices.mT).mul_(0.5)]
        for _ in range(len(coefficients) - 2):
            terms.append(torch.bmm(terms[-1], matrices.mT).add_(terms[-2]))
        total = terms[0] * coefficients[0]
        for coefficient, term in zip(coefficients[1:], terms[1:], strict=True):
            total.add_(term, alpha=coefficient)
        return total, radius, coefficients, matrices, *terms[:-1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.radius, ctx.coefficients = output[1:3]
        ctx.mark_non_differentiable(*output[3:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrices, *terms = ctx.saved_tensors
        if grads[0] is None:
            return None, None
        given, coefficients = grads[0].conj().resolve_conj(), ctx.coefficients
        row, later, total = given * coefficients[-1], None, torch.zeros_like(matrices)
        for k in range(len(terms) - 1, -1, -1):  # here `row` is the conjugate of g_{k+1}
            half = 0.5 if k == 0 else 1.0
            total.baddbmm_(row.mT, terms[k], alpha=half * 2 / ctx.radius)
            pulled = torch.bmm(row, matrices).mul_(half).add_(given, alpha=coefficients[k])
            row, later = (pulled if later is None else pulled.add_(later)), row
        return (total - total.mH).conj(), row.conj()


def _radius(matrices: Tensor, vectors: Tensor) -> float:
    """An estimate of the largest norm of skew matrices, by power iteration; more of it for large ones."""
    rows = vectors[:, :2] + 1e-3 * vectors.abs().amax()
    ratio = 0.0
    for step in range(20):
        if step >= 3 and ratio < 2:
            break
        rows = torch.bmm(
            rows / torch.linalg.vector_norm(rows, dim=(1, 2), keepdim=True).clamp_min(1e-30),
            matrices.mT,
        )
        ratio = float(torch.view_as_real(rows).square().sum(dim=(1, 2, 3)).amax().sqrt())
    return max(_SAFETY * ratio, _SMALLEST)


def _coefficients(radius: float, enough: float) -> list[float]:
    """J₀(r), 2J₁(r), 2J₂(r), ..., two at least, until they are negligible.

    By the recurrence J_{k−1} = 2k / r · J_k − J_{k+1} downwards from a high order, which is stable, and
    1 = J₀ + 2J₂ + 2J₄ + ...
    """
    order = int(1.5 * radius) + 30
    values = [0.0] * (order + 2)
    values[order] = 1e-30
    for k in range(order, 0, -1):
        values[k - 1] = 2 * k / radius * values[k] - values[k + 1]
        if abs(values[k - 1]) > 1e100:
            values = [value * 1e-100 for value in values]
    total = values[0] + 2 * sum(values[2::2])
    coefficients = [values[0] / total, *(2 * value / total for value in values[1:])]
    count = max(k for k, value in enumerate(coefficients) if abs(value) > enough) + 1
    return coefficients[: max(count, 2)]
