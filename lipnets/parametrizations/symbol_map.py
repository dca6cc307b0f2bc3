"""Maps of the matrices of a convolution, at each frequency, to constrained ones."""

__all__ = ["SymbolMap"]

from torch import Tensor, nn


class SymbolMap(nn.Module):
    """Maps the matrices S(ω) of a convolution; this one, to themselves.

    Subclasses define `forward`, in one way of evaluation that is accurate in float64, which is what a
    layer computes in evaluation, what it exports and what is certified; and may define `act` where
    the product with vectors needs fewer operations than the matrices, which is what it trains with.
    A map takes the conjugate of a matrix to the conjugate of its image: convolutions stay real.
    """

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
