"""Radial bands of spatial frequencies, and kernels of norm 1 behind them.

A frequency is a pair of numbers in cycles per pixel, each in [−½, ½); its radius is at most √½.
"""

__all__ = ["BandSpectral", "radial_mask"]

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ._precision import full_precision, unit_scale
from ._symbols import Symbol, norm_at

_POINTS = 32  # along each axis of the grid on which norms are estimated
_PEAKS = 2  # frequencies at which they are exact


@lru_cache(maxsize=64)
def radial_mask(
    size: tuple[int, int], low: float, high: float, rolloff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of the discrete Fourier transform, and how much of each a band passes.

    Arguments:
        size: The height and width of images, in pixels.
        low: The least radius that is passed, in cycles per pixel; 0 passes constants.
        high: The largest radius that is passed; √½ and above pass all that is above `low`.
        rolloff: The width of the two edges, inside the band: squared sines from 0 to 1.

    Returns:
        The frequencies, with shape (H, W, 2), and factors in [0, 1], with shape (H, W), in the order
        of `torch.fft`.  An even function: opposite frequencies have equal factors, to the bit.
    """
    axes = np.meshgrid(*(np.fft.fftfreq(length) for length in size), indexing="ij")
    radius = np.hypot(*axes)
    factor = np.ones(size)
    if low > 0:
        factor *= _edge((radius - low) / rolloff)
    if high < math.sqrt(0.5):
        factor *= _edge((high - radius) / rolloff)
    return np.stack(axes, axis=-1), factor


def _edge(distance: np.ndarray) -> np.ndarray:
    """Rises from 0 at 0 to 1 at 1."""
    return np.sin(np.pi / 2 * np.clip(distance, 0, 1)) ** 2


class BandSpectral(nn.Module):
    """Divides a kernel by the norm of its convolution within a radial band of frequencies.

    The norm is estimated on a fixed grid, as the largest m(ω) ‖S(ω)‖ where the band passes the share
    m(ω) of frequency ω: about the norm at any image size, though not exactly that at one.

    Arguments:
        low: The least radius that is passed, in cycles per pixel.
        high: The largest radius that is passed.
        rolloff: The width of the edges of the band.
    """

    def __init__(self, low: float, high: float, rolloff: float) -> None:
        super().__init__()
        self.low, self.high, self.rolloff = low, high, rolloff

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}, rolloff={self.rolloff:g}"

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I, H, W)
        weight = unit_scale(weight)
        tall = weight if weight.shape[0] >= weight.shape[1] else weight.transpose(0, 1)
        frequencies, factors = radial_mask((_POINTS,) * 2, self.low, self.high, self.rolloff)
        passed = (factors > 0) & (frequencies[..., 1] <= 0)  # one of each pair ±ω
        with torch.no_grad():
            symbol = Symbol.of(tall)
            angles = torch.from_numpy(2 * np.pi * frequencies[passed]).to(symbol.taps.device)
            mask = torch.from_numpy(factors[passed]).to(symbol.taps.device)
            peaks = (mask * symbol.approximate_norms(angles)).topk(min(_PEAKS, len(mask))).indices
            squares, vectors = symbol.singular(angles[peaks])
            best = (mask[peaks].square() * squares[:, -1]).topk(1).indices
            angle, factor = angles[peaks][best][0], mask[peaks][best][0]
            right = vectors[best][0, :, -1]
        norm = factor.to(weight.dtype) * norm_at(tall, angle, right)
        return weight / torch.where(norm > 0, norm, torch.ones_like(norm))
