"""Clips the singular values of the matrices of a convolution, at each frequency.

References:
    | The Singular Values of Convolutional Layers
    | (Sedghi, Gupta & Long, 2019) https://arxiv.org/abs/1805.10408

What differs: the clipped matrices are the layer, not projected back to small kernels, which would
bring norms above 1 back; it is a map that is trained through, not a projection now and then; and it
takes eigenvalues of W*W, whose function min(1, λ^(−½)) has a derivative where eigenvalues coincide.
"""

__all__ = ["SymbolClip"]

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .symbol_map import SymbolMap


class SymbolClip(SymbolMap):
    """Replaces singular values above 1 by 1, and leaves the others as they are."""

    def forward(self, symbols: Tensor) -> Tensor:
        if symbols.shape[-2] < symbols.shape[-1]:
            return self(symbols.mT).mT
        factor = _Shrink.apply(symbols.mH @ symbols)[0]  # pyright: ignore[reportIndexIssue]
        return symbols @ factor


class _Shrink(Function):
    """h(A) = V h(λ) V* with h(λ) = min(1, λ^(−½)), for Hermitian A = V λ V*.

    The derivative is V (Δ ∘ V* dA V) V*, with the divided differences Δ of h.
    """

    @staticmethod
    def forward(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(gram)
        shrunk = values.clamp_min(1).rsqrt()
        return (vectors * shrunk[:, None]) @ vectors.mH, values, vectors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        values, vectors = ctx.saved_tensors
        if grads[0] is None:
            return None
        inner = vectors.mH @ grads[0] @ vectors
        return vectors @ (_divided_differences(values) * inner) @ vectors.mH


def _divided_differences(values: Tensor) -> Tensor:
    """(h(λᵢ) − h(λⱼ)) / (λᵢ − λⱼ), which is h′ where they are equal, with shape (..., N, N).

    For λ, μ ≥ 1, λ^(−½) − μ^(−½) = (μ − λ) / (√λ √μ (√λ + √μ)): the quotient has no difference in it.
    Where one is clipped to 1, that fraction (μ' − λ') / (μ − λ) of the way counts, with λ' = max(λ, 1).
    """
    clamped = values.clamp_min(1)
    roots = clamped.sqrt()
    rows, columns = roots[..., :, None], roots[..., None, :]
    slopes = -1 / (rows * columns * (rows + columns))
    differences = values[..., :, None] - values[..., None, :]
    moved = clamped[..., :, None] - clamped[..., None, :]
    both = (values > 1)[..., :, None] & (values > 1)[..., None, :]
    share = moved / torch.where(differences == 0, torch.ones_like(differences), differences)
    return slopes * torch.where(both, torch.ones_like(share), share)
