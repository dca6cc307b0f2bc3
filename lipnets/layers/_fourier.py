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
    "multiplicities",
    "spatial_size",
    "to_spectrum",
    "waves",
]

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

Size = tuple[int, int]
P = ParamSpec("P")

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
    matrices = symbols.flatten(0, 1).index_select(0, _kept(size).to(x.device))
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


def to_spectrum(x: Tensor, period: Size) -> Tensor:
    """Fourier coefficients of images in a corner of a torus, with shape (P, B, I), complex."""
    if period[0] * period[1] <= _DENSE:
        cosines, sines = waves(period, range(x.shape[2]), range(x.shape[3]))
        flat = _Analysis.apply(x.flatten(2).flatten(0, 1), torch.cat([cosines, -sines]).to(x))
        return flat.unflatten(1, x.shape[:2])  # pyright: ignore[reportAttributeAccessIssue]
    spectrum = torch.fft.rfft2(x, s=period)
    return spectrum.flatten(2).permute(2, 0, 1)[_kept(period).to(x.device)]


def from_spectrum(spectrum: Tensor, period: Size, size: Size) -> Tensor:
    """Images with given Fourier coefficients, a corner of them, with shape (B, O, *size)."""
    if period[0] * period[1] <= _DENSE:
        scales = multiplicities(period).div(period[0] * period[1])[:, None]
        cosines, sines = scales * waves(period, range(size[0]), range(size[1]))
        matrix = torch.cat([cosines, -sines]).to(spectrum.device, spectrum.real.dtype)
        flat = _Synthesis.apply(spectrum.flatten(1), matrix)
        return flat.view(*spectrum.shape[1:], *size)  # pyright: ignore[reportAttributeAccessIssue]
    source, sign = _mirrors(period).to(spectrum.device)
    parts = torch.view_as_real(spectrum)[source]
    full = torch.complex(parts[..., 0], parts[..., 1] * sign[:, None, None].to(parts.dtype))
    full = full.unflatten(0, (period[0], -1)).permute(2, 3, 0, 1)
    return torch.fft.irfft2(full, s=period)[..., : size[0], : size[1]]


class _Analysis(Function):
    """WX for rows X of pixels, with shape (N, pixels), as complex numbers with shape (P, N).

    The rows of W are the real parts of P coefficients, then the imaginary ones.
    """

    @staticmethod
    def forward(pixels: Tensor, matrix: Tensor) -> Tensor:
        parts = (matrix @ pixels.mT).unflatten(0, (2, -1))
        return torch.complex(parts[0], parts[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return _Synthesis.apply(grads[0], *ctx.saved_tensors), None


class _Synthesis(Function):
    """The adjoint of `_Analysis`: from shape (P, N), complex, to rows of pixels."""

    @staticmethod
    def forward(spectrum: Tensor, matrix: Tensor) -> Tensor:
        parts = matrix.new_empty(2, *spectrum.shape)
        parts[0].copy_(spectrum.real)
        parts[1].copy_(spectrum.imag)
        return parts.flatten(0, 1).mT @ matrix

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return _Analysis.apply(grads[0], *ctx.saved_tensors), None


def waves(period: Size, rows: range, columns: range) -> Tensor:
    """Cosines and sines of 2π(jy / H + kx / W) for the frequencies (j, k) of the half plane.

    Arguments:
        period: The height H and the width W of the torus.
        rows: The values of y.
        columns: Those of x.

    Returns:
        A tensor in float64 with shape (2, P, len(rows) · len(columns)).
    """
    bounds = (rows.start, rows.stop, columns.start, columns.stop)
    return torch.from_numpy(_waves(period, bounds))


def _kept(period: Size) -> Tensor:
    """Where the half plane is in what `torch.fft.rfft2` keeps, flat, with shape (P,)."""
    rows, columns = half_plane(period).T
    return torch.from_numpy(rows * (period[1] // 2 + 1) + columns)


def multiplicities(period: Size) -> Tensor:
    """2 for frequencies that stand for a pair, 1 for those that are their own opposites."""
    return torch.from_numpy(2 - _alone(period).astype(np.float64))


def _mirrors(period: Size) -> Tensor:
    """For the frequencies that `torch.fft.irfft2` reads, where in the half plane their values are.

    Returns:
        Indices into the half plane; and 1, or −1 where it holds the opposite frequency, whose value is
        the conjugate, or 0 where the value is real; with shape (2, H (W // 2 + 1)).
    """
    return torch.from_numpy(_sources(period))


def _cached(function: Callable[P, np.ndarray]) -> Callable[P, np.ndarray]:
    """Remembers arrays that depend on sizes alone; compilers trace the function itself instead."""
    remembered = lru_cache(maxsize=64)(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> np.ndarray:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        return remembered(*args, **kwargs)  # pyright: ignore[reportCallIssue, reportArgumentType]

    return call


@_cached
def half_plane(size: Size) -> np.ndarray:
    """One of each pair of opposite frequencies (j, k), 0 ≤ j < H, 0 ≤ k ≤ W // 2, with shape (P, 2).

    The wave of a frequency is e^{2πi (jy / H + kx / W)}.
    """
    height, width = size
    half, whole = np.arange(height // 2 + 1), np.arange(height)
    between = np.arange(1, (width + 1) // 2)
    rows = [half, np.tile(whole, len(between))]
    columns = [np.zeros_like(half), np.repeat(between, height)]
    if width % 2 == 0:  # columns 0 and W / 2 hold the opposites of their own frequencies
        rows.append(half)
        columns.append(np.full_like(half, width // 2))
    return np.stack([np.concatenate(rows), np.concatenate(columns)], axis=1)


@_cached
def _waves(period: Size, bounds: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = bounds
    rows, columns = half_plane(period).T
    # Whole turns are taken out in integers: angles below 4π, exact to the last bits.
    down = rows[:, None] * np.arange(top, bottom) % period[0]
    across = columns[:, None] * np.arange(left, right) % period[1]
    turns = (
        down.astype(np.float64)[:, :, None] / period[0]
        + across.astype(np.float64)[:, None, :] / period[1]
    )
    angles = 2 * np.pi * turns.reshape(len(rows), -1)
    return np.stack([np.cos(angles), np.sin(angles)])


@_cached
def _alone(period: Size) -> np.ndarray:
    """Which frequencies of the half plane are their own opposites, with shape (P,)."""
    rows, columns = half_plane(period).T
    return (2 * rows % period[0] == 0) & (2 * columns % period[1] == 0)


@_cached
def _sources(period: Size) -> np.ndarray:
    height, columns = period[0], period[1] // 2 + 1
    kept = half_plane(period)
    places = np.full((height, columns), -1)
    places[kept[:, 0], kept[:, 1]] = np.arange(len(kept))
    sign = np.where(places >= 0, 1, -1)
    sign[kept[:, 0], kept[:, 1]] = np.where(_alone(period), 0, 1)
    mirrored = places[-np.arange(height) % height]
    sources = np.where(places >= 0, places, mirrored)
    return np.stack([sources.reshape(-1), sign.reshape(-1)])
