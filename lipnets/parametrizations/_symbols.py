"""Norms of convolutions as differentiable estimates, from their symbols S(θ) = Σ_t K_t e^{iθ·t}."""

__all__ = ["Symbol", "grid", "norm_at"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SQUARINGS = 6  # of Gram matrices: ranks norms up to a factor r^(1/128), for r channels


def grid(points: Sequence[int], like: Tensor) -> Tensor:
    """Angles 2πj/M of the half of a grid that `torch.fft.rfft2` keeps, with shape (M₁, M₂/2 + 1, 2)."""
    rows = torch.fft.fftfreq(points[0], dtype=torch.float64, device=like.device)
    columns = torch.fft.rfftfreq(points[1], dtype=torch.float64, device=like.device)
    return 2 * math.pi * torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def norm_at(kernel: Tensor, angle: Tensor, right: Tensor) -> Tensor:
    """The norm ‖S(θ)v‖ at one frequency, which autograd sees as Re(u* S(θ) v) with fixed u and v.

    Arguments:
        kernel: The kernel, with shape (O, I, H, W).
        angle: The frequency θ, with shape (2,).
        right: The vector v, complex of norm 1, with shape (I,).
    """
    with torch.no_grad():
        symbol = Symbol.of(kernel)
        waves = symbol.waves(angle)  # (P,)
        image = torch.einsum("p,poi,i->o", waves, symbol.taps.to(waves), right)
        left = image / torch.linalg.vector_norm(image).clamp_min(torch.finfo(torch.float64).tiny)
        slope = torch.einsum("p,o,i->oip", waves, left.conj(), right).real
    return (kernel.double() * slope.view_as(kernel)).sum().to(kernel.dtype)


@dataclass(frozen=True)
class Symbol:
    """The symbol of a convolution, as a trigonometric polynomial.

    Arguments:
        taps: The matrices K_t in float64, with shape (P, O, I).
        offsets: The indices t, with shape (P, 2).
    """

    taps: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, kernel: Tensor) -> "Symbol":
        """Reads the taps of a kernel with shape (O, I, H, W)."""
        height, width = kernel.shape[2:]
        rows = torch.arange(height, dtype=torch.float64, device=kernel.device)
        columns = torch.arange(width, dtype=torch.float64, device=kernel.device)
        taps = kernel.detach().double().permute(2, 3, 0, 1).flatten(0, 1)
        return cls(taps, torch.cartesian_prod(rows, columns))

    def waves(self, angles: Tensor) -> Tensor:  # (..., 2) -> (..., P)
        phases = angles @ self.offsets.mT
        return torch.polar(torch.ones_like(phases), phases)

    def __call__(self, angles: Tensor) -> Tensor:  # (..., 2) -> (..., O, I)
        waves = self.waves(angles)
        flat = self.taps.flatten(1)
        values = torch.complex(waves.real @ flat, waves.imag @ flat)
        return values.unflatten(-1, self.taps.shape[1:])

    def approximate_norms(self, angles: Tensor) -> Tensor:  # (F, 2) -> (F,)
        """Norms up to a factor r^(1/128) too large, r = min(O, I), by repeated squaring."""
        symbols = self(angles).to(torch.complex64)
        wide = symbols.shape[1] < symbols.shape[2]
        gram = symbols @ symbols.mH if wide else symbols.mH @ symbols
        logarithm = torch.zeros(len(angles), dtype=torch.float64, device=angles.device)
        for power in range(_SQUARINGS + 1):
            trace = gram.diagonal(dim1=1, dim2=2).real.sum(dim=1).clamp_min(1e-30)
            logarithm += trace.double().log() / 2**power
            gram = gram / trace[:, None, None]
            gram = gram @ gram
        return (logarithm / 2).exp()

    def singular(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Squared singular values, increasing, (F, I), and right singular vectors, (F, I, I)."""
        symbols = self(angles)
        return torch.linalg.eigh(symbols.mH @ symbols)
