"""Block reflections I − 2V(V*V)⁻¹V*, for matrices and for convolutions at each frequency.

References:
    | Enhancing Certified Robustness via Block Reflector Orthogonal Layers and Logit Annealing Loss
    | (Lai, Huang, Kung & Chen, 2025) https://arxiv.org/abs/2505.15174

What differs: a small multiple of the identity is added to V*V, which keeps the matrix a contraction
where V loses rank; in training the reflection acts on the images, so that no matrix of all channels
is formed.  Where numbers of channels differ, rows or columns of a reflection of the larger number
are taken.
"""

__all__ = ["Reflection", "SymbolReflection"]

import torch
from torch import Tensor, nn

from ._factor import solve
from ._precision import full_precision, unit_scale
from .symbol_map import SymbolMap

_RIDGE = 64  # units of rounding of the trace of V*V


class SymbolReflection(SymbolMap):
    """Makes reflections of matrices V, with shape (N, R): I on the complement of their range, −I on it.

    Arguments:
        rows: The number of rows that are taken.
        columns: The number of columns.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, symbols: Tensor) -> Tensor:  # (P, N, R) -> (P, O, I)
        frame = symbols
        for _ in range(2):  # the second time, what is singular has become small
            factor = torch.linalg.cholesky(_gram(frame))
            frame = torch.linalg.solve_triangular(factor, frame.mH, upper=False).mH
        identity = torch.eye(self.rows, self.columns, dtype=frame.dtype, device=frame.device)
        return identity - 2 * frame[:, : self.rows] @ frame[:, : self.columns].mH

    def act(self, symbols: Tensor, spectrum: Tensor) -> Tensor:
        inside = symbols[:, : self.columns].mH @ spectrum.mT  # (P, R, B)
        solved = solve(_gram(symbols), inside)
        out = -2 * (symbols[:, : self.rows] @ solved).mT
        shared = min(self.rows, self.columns)
        kept = torch.nn.functional.pad(spectrum[..., :shared], (0, self.rows - shared))
        return out + kept


class Reflection(nn.Module):
    """Makes an orthogonal matrix, or rows or columns of one, from a matrix with fewer columns.

    Arguments:
        rows: The number of rows.
        columns: The number of columns.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.map = SymbolReflection(rows, columns)

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (N, R) -> (O, I)
        return self.map(unit_scale(weight.double())[None])[0].to(weight.dtype)


def _gram(frame: Tensor) -> Tensor:
    """V*V + εI, with ε a small part of its trace: positive definite for every V."""
    gram = frame.mH @ frame
    trace = gram.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)[..., None, None]
    trace = torch.where(trace > 0, trace, torch.ones_like(trace))
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return gram + _RIDGE * torch.finfo(gram.dtype).eps * trace * identity
