"""Convolutions on the torus in the frequency domain, where each frequency has a matrix of its own.

Real images have conjugate Fourier coefficients at opposite frequencies.  Of each pair ±ω one is kept,
of the few frequencies that are their own opposites all: `half_plane` lists them.  The transform R
from images to these coefficients, those of pairs counted √2 times, is an isometry onto the
sequences that are real at the frequencies of the second kind: a real orthogonal matrix, in
coordinates.

On a small torus the transform is one matrix product, with the matrix of waves: it is as fast as an
FFT there, puts frequencies in front where the products want them, and pads and crops for nothing.
"""

__all__ = [
    "apply_symbols",
    "apply_to_spectrum",
    "from_spectrum",
    "half_plane",
    "spatial_size",
    "to_spectrum",
]

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]

_DENSE = 400  # pixels of a torus up to which the transform is a matrix product


def apply_symbols(x: Tensor, symbols: Tensor) -> Tensor:
    """Multiplies the channels of images by a matrix at each spatial frequency.

    The real map with the symbol S where S(−ω) is the conjugate of S(ω).  Of two values that are not,
    the one at the frequency of `half_plane` counts, and where ω is its own opposite the real part of
    S(ω): the norm of the map is at most max ‖S(ω)‖ in any case (`apply_to_spectrum`).

    Arguments:
        x: Images, with shape (B, I, H, W).
        symbols: The matrices, complex, for the frequencies that `torch.fft.rfft2` keeps, with shape
            (H, W // 2 + 1, O, I).

    Returns:
        Images, with shape (B, O, H, W).
    """
    size = spatial_size(x)
    rows, columns = half_plane(size).T
    kept = torch.from_numpy(rows * (size[1] // 2 + 1) + columns).to(x.device)
    matrices = symbols.flatten(0, 1).index_select(0, kept)
    return apply_to_spectrum(x, lambda spectrum: spectrum @ matrices.to(spectrum.dtype).mT, size)


def apply_to_spectrum(
    x: Tensor, act: Callable[[Tensor], Tensor], period: Size, size: Size | None = None
) -> Tensor:
    """Maps the Fourier coefficients of images on a torus, frequency by frequency.

    If `act` multiplies by matrices S(ω), this is the real linear map T = C R* Re₀ S R P, where P puts
    the image in a corner of the torus, C takes a corner of the torus, R is the isometry above, and
    Re₀ drops the imaginary parts at the frequencies that are their own opposites, the orthogonal
    projection to the range of R.  Hence ‖T‖ ≤ max ‖S(ω)‖, over the frequencies of `half_plane`.

    Arguments:
        x: Images, with shape (B, I, h, w).
        act: The map, from shape (P, B, I) to (P, B, O).
        period: The height H ≥ h and the width W ≥ w of the torus.
        size: The height and width of the output, those of the images by default.

    Returns:
        Images, with shape (B, O, *size).
    """
    return from_spectrum(act(to_spectrum(x, period)), period, size or spatial_size(x))


def spatial_size(x: Tensor) -> Size:
    """Height and width of images."""
    return x.shape[-2], x.shape[-1]


@lru_cache(maxsize=64)
def half_plane(size: Size) -> np.ndarray:
    """One of each pair of opposite frequencies (j, k), 0 ≤ j < H, 0 ≤ k ≤ W // 2, with shape (P, 2).

    The wave of a frequency is e^{2πi (jy / H + kx / W)}.
    """
    height, width = size
    indices = np.indices((height, width // 2 + 1)).reshape(2, -1).T
    rows, columns = indices.T
    alone = (2 * columns) % width == 0  # columns that hold the opposites of their own frequencies
    return indices[~alone | (rows <= height // 2)]


def to_spectrum(x: Tensor, period: Size) -> Tensor:
    """Fourier coefficients of images in a corner of a torus, with shape (P, B, I), complex."""
    batch, channels = x.shape[:2]
    if period[0] * period[1] <= _DENSE:
        cosines, sines = (torch.from_numpy(w).to(x) for w in _waves(period, spatial_size(x)))
        flat = x.reshape(batch * channels, -1).mT
        parts = torch.complex(cosines @ flat, -(sines @ flat))
        return parts.unflatten(1, (batch, channels))
    spectrum = torch.fft.rfft2(x, s=period)
    rows, columns = torch.from_numpy(half_plane(period).T).to(x.device)
    return spectrum.permute(2, 3, 0, 1)[rows, columns]


def from_spectrum(spectrum: Tensor, period: Size, size: Size) -> Tensor:
    """Images with given Fourier coefficients, a corner of them, with shape (B, O, *size)."""
    batch, channels = spectrum.shape[1:]
    if period[0] * period[1] <= _DENSE:
        scale = torch.from_numpy(_multiplicities(period)[:, None] / (period[0] * period[1]))
        parts = torch.view_as_real(spectrum)
        real, imag = parts[..., 0].flatten(1), parts[..., 1].flatten(1)
        cosines, sines = (
            (scale * torch.from_numpy(wave)).to(real) for wave in _waves(period, size)
        )
        pixels = torch.addmm(real.mT @ cosines, imag.mT, sines, alpha=-1)
        return pixels.view(batch, channels, *size)
    source, sign = (torch.from_numpy(each).to(spectrum.device) for each in _mirrors(period))
    parts = torch.view_as_real(spectrum)[source]
    full = torch.complex(parts[..., 0], parts[..., 1] * sign[:, None, None].to(parts.dtype))
    full = full.unflatten(0, (period[0], -1)).permute(2, 3, 0, 1)
    return torch.fft.irfft2(full, s=period)[..., : size[0], : size[1]]


@lru_cache(maxsize=64)
def _waves(period: Size, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Cos and sin of 2π(jy / H + kx / W) for the pixels of a corner, each of shape (P, h w)."""
    pixels = np.indices(size).reshape(2, -1)
    # Whole turns are taken out in integers: angles below 2π, exact to the last bit but one.
    turns = half_plane(period)[:, :, None] * pixels % np.array(period)[:, None]
    angles = 2 * np.pi * (turns / np.array(period)[:, None]).sum(axis=1)
    return np.cos(angles), np.sin(angles)


@lru_cache(maxsize=64)
def _multiplicities(period: Size) -> np.ndarray:
    """2 for frequencies that stand for a pair, 1 for those that are their own opposites."""
    return np.where((2 * half_plane(period) % np.array(period) == 0).all(axis=1), 1.0, 2.0)


@lru_cache(maxsize=64)
def _mirrors(period: Size) -> tuple[np.ndarray, np.ndarray]:
    """For the frequencies that `torch.fft.irfft2` reads, where in the half plane their values are.

    Returns:
        Indices into the half plane; and 1, or −1 where it holds the opposite frequency, whose value is
        the conjugate, or 0 where the value is real; each of shape (H (W // 2 + 1),).
    """
    height, columns = period[0], period[1] // 2 + 1
    kept = half_plane(period)
    places = np.full((height, columns), -1)
    places[kept[:, 0], kept[:, 1]] = np.arange(len(kept))
    sign = np.where(places >= 0, 1, -1)
    mirrored = places[-np.arange(height) % height]
    sign[kept[:, 0], kept[:, 1]] = np.where(_multiplicities(period) == 1, 0, 1)
    return np.where(places >= 0, places, mirrored).reshape(-1), sign.reshape(-1)
