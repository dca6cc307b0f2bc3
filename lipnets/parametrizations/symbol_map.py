"""Maps of the matrices of a convolution, at each frequency, to constrained ones."""

__all__ = ["SymbolMap"]

import torch
from torch import Tensor, nn

from ._parts import join, split


class SymbolMap(nn.Module):
    """Maps the matrices S(ω) of a convolution; this one, to themselves.

    Subclasses define `forward`, in one way of evaluation that is accurate in float64, which is what a
    layer computes in evaluation, what it exports and what is certified; and may define `act` where
    the product with vectors needs fewer operations than the matrices, which is what it trains with.
    A map takes the conjugate of a matrix to the conjugate of its image: convolutions stay real.

    What depends on the whole kernel, and not on one frequency, is done by `prepare`.
    """

    def prepare(self, kernel: Tensor) -> Tensor:
        """The kernel whose matrices are mapped, from the raw one of the same shape; here, itself."""
        return kernel

    def forward(self, symbols: Tensor) -> Tensor:  # (P, O, I) -> (P, O, I), complex
        return symbols

    def act(self, symbols: Tensor, spectrum: Tensor) -> Tensor:
        """Multiplies vectors by the matrices, computed in the precision of `symbols`.

        Arguments:
            symbols: The raw matrices, with shape (P, O, I).
            spectrum: Vectors at each of the P frequencies, with shape (P, B, I).

        Returns:
            The products of mapped matrices and vectors, with shape (P, B, O).
        """
        return spectrum @ self(symbols).mT

    def act_on_parts(self, taps: Tensor, waves: Tensor, spectrum: Tensor) -> Tensor:
        """As `act`, for real and imaginary parts and the symbols Σ_t K_t e^{iω·t} of a raw kernel.

        Arguments:
            taps: The matrices K_t, with shape (T, O, I).
            waves: Cosines and sines of ω·t, with shape (2, P, T).
            spectrum: The parts of vectors at each frequency, with shape (2, P, B, I).

        Returns:
            The parts of the products, with shape (2, P, B, O).
        """
        flat = taps.flatten(1)
        symbols = torch.complex(waves[0] @ flat, waves[1] @ flat).unflatten(1, taps.shape[1:])
        return split(self.act(symbols, join(spectrum)))
