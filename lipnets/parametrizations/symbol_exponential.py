"""The exponential of the skew part of the matrices of a convolution, at each frequency.

References:
    | Skew Orthogonal Convolutions (Singla & Feizi, 2021) https://arxiv.org/abs/2105.11417
    | Computing the Action of the Matrix Exponential
    | (Al-Mohy & Higham, 2011) https://doi.org/10.1137/100788860

What differs: the convolution with the kernel L = K − K* is a matrix L(ω) = S(ω) − S(ω)* at each
frequency of the torus, and exp(L) is taken there.  In training its series acts on the Fourier
coefficients of the images, each term a product for two ninths of the operations of a 3 × 3
convolution, until terms no longer matter; the paper takes 5 convolutions in training and 12 in
evaluation, which is 2.6e-3 off orthogonal at norm 1 and more where the norm has grown, and divides by a
norm that is a moving buffer.  Here no norm is needed.  In evaluation the exponential itself is taken,
in float64, and exports have one product per frequency, not a convolution for each term.

The paper pads with zeros in each of its convolutions, so that exp(L) of the cut operator is orthogonal
as well.  That takes a convolution of the image for each term, and is not offered: under zero padding
the layer is a part of the orthogonal operator on a larger torus, and 1-Lipschitz.
"""

__all__ = ["SymbolExponential"]

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .symbol_map import SymbolMap

_LARGEST = 6.0  # norm of L above which terms would cancel, and the matrices are formed
_SAFETY = 1.25  # of the estimate of that norm
_NEGLIGIBLE = 8.0  # units of rounding below which terms of the series are left out


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
        with torch.no_grad():
            growth = _growth(symbols, vectors[:, :4])
        if growth > _LARGEST:
            whole = self(symbols.to(torch.complex128)).to(spectrum.dtype)
            return spectrum @ whole.mT
        enough = torch.finfo(spectrum.dtype).eps * _NEGLIGIBLE
        terms, size = 1, growth
        while size > enough:
            terms += 1
            size *= growth / terms
        out = _Series.apply(symbols, vectors, terms)[0]  # pyright: ignore[reportIndexIssue]
        return out[..., : self.rows]


def _growth(symbols: Tensor, vectors: Tensor) -> float:
    """An estimate of the largest ‖Lx‖ / ‖x‖ for the second iterates x of some vectors."""
    sizes = []
    for _ in range(3):
        vectors = vectors @ symbols.mT - (vectors.conj() @ symbols).conj()
        sizes.append(torch.view_as_real(vectors).square().sum(dim=(1, 2, 3)).sqrt())
    ratios = sizes[2] / sizes[1].clamp_min(torch.finfo(sizes[1].dtype).tiny)
    return _SAFETY * float(ratios.amax())


class _Series(Function):
    """exp(L) x = Σ_k L^k x / k! for vectors x in rows, with L = S − S*.

    With v_k = L^k x / k! and ȳ the gradient of the sum, that of v_k is g_k = ȳ + L* g_{k+1} / (k + 1),
    that of x is g_0, and that of L is Σ_k g_k v*_{k−1} / k.  Since L* = −L, conjugates of the rows g_k are
    made with L itself, and nothing is conjugated on the way.
    """

    @staticmethod
    def forward(symbols: Tensor, vectors: Tensor, count: int) -> tuple[Tensor, ...]:
        matrices = symbols - symbols.mH
        terms = [vectors.clone()]
        total = vectors.clone()
        for k in range(1, count + 1):  # L^k x, whose factorials are left to the sums
            terms.append(torch.bmm(terms[-1], matrices.mT))
            total.add_(terms[-1], alpha=1 / math.factorial(k))
        return total, matrices, *terms[:-1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrices, *terms = ctx.saved_tensors
        if grads[0] is None:
            return None, None, None
        conjugate = grads[0].conj().resolve_conj()
        row, total = conjugate, torch.zeros_like(matrices)
        for k in range(len(terms), 0, -1):
            total.baddbmm_(row.mT, terms[k - 1], alpha=1 / math.factorial(k))
            row = torch.add(conjugate, torch.bmm(row, matrices), alpha=1 / k)
        return (total - total.mH).conj(), row.conj(), None
