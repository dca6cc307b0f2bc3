"""Norms of convolutions as differentiable estimates, from their symbols S(θ) = Σ_t K_t e^{iθ·t}."""

__all__ = ["Symbol", "grid", "norm_at"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 10


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
        """Norms from below by a few steps of power iteration, to tell high frequencies from low."""
        symbols = Symbol(self.taps.float(), self.offsets.float())(angles.float())
        places = torch.arange(symbols.shape[2], dtype=torch.float32, device=angles.device)
        vectors = torch.polar(torch.ones_like(places), places.square())[:, None]  # no symmetry
        images = symbols @ vectors
        for _ in range(_ITERATIONS):
            pulled = F.normalize(images, dim=1).mH @ symbols  # no copy of the symbols conjugated
            vectors = F.normalize(pulled, dim=2).mH
            images = symbols @ vectors
        return torch.linalg.vector_norm(images, dim=(1, 2)).double()

    def singular(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Squared singular values, increasing, (F, I), and right singular vectors, (F, I, I)."""
        symbols = self(angles)
        return torch.linalg.eigh(symbols.mH @ symbols)
