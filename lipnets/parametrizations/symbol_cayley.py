"""The Cayley map of the matrices of a convolution, at each frequency.

References:
    | Orthogonalizing Convolutional Layers with the Cayley Transform
    | (Trockman & Kolter, 2021) https://arxiv.org/abs/2104.07167

What differs: no learnable norm of the kernel.  In training the orthogonal matrices are never formed:
(I − A)(I + A)⁻¹x = 2(I + A)⁻¹x − x takes one factorization for each frequency and one solve for each
image, and the backward pass as many solves with the same factors and a product of rank B for a batch
of B.  The paper's code inverts and multiplies matrices of all channels, for about ten times the
operations where a batch has fewer images than the layer has channels.
"""

__all__ = ["SymbolCayley"]

import torch
from torch import Tensor

from ._factor import solve
from .symbol_map import SymbolMap


class SymbolCayley(SymbolMap):
    """Makes matrices with orthonormal columns, or rows where there are fewer of them.

    A matrix of more rows than columns, [U; Z], becomes [2(I + A)⁻¹ − I; −2Z(I + A)⁻¹] with A = U − U* +
    Z*Z; one of more columns, [U, Z], becomes [2(I + A)⁻¹ − I, −2(I + A)⁻¹Z] with A = U − U* + ZZ*.  Since
    A + A* ≥ 0, I + A is invertible and the norm of its inverse at most 1: defined and smooth for all
    raw matrices.
    """

    def forward(self, symbols: Tensor) -> Tensor:
        columns = symbols.shape[-1]
        identity = torch.eye(columns, dtype=symbols.dtype, device=symbols.device)
        return self.act(symbols, identity.expand(len(symbols), -1, -1)).mT

    def act(self, symbols: Tensor, spectrum: Tensor) -> Tensor:
        rows, columns = symbols.shape[-2:]
        side = min(rows, columns)
        square = symbols[:, :side, :side]
        system = square - square.mH + torch.eye(side, dtype=symbols.dtype, device=symbols.device)
        if rows >= columns:
            tail = symbols[:, side:]
            if rows > columns:
                system = system + tail.mH @ tail
            solved = solve(system, spectrum.mT).mT  # (P, B, I)
            head = 2 * solved - spectrum
            return head if rows == columns else torch.cat([head, -2 * solved @ tail.mT], dim=2)
        tail = symbols[:, :, side:]
        near, far = spectrum[..., :side], spectrum[..., side:]
        solved = solve(system + tail @ tail.mH, (near - far @ tail.mT).mT).mT
        return 2 * solved - near
