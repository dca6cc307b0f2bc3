"""Convolutions on the torus in the frequency domain, where each frequency has a matrix of its own.

Real images have conjugate Fourier coefficients at opposite frequencies.  Of each pair ±ω one is kept,
of the few frequencies that are their own opposites all: `half_plane` lists them.  The transform R
from images to these coefficients, those of pairs counted √2 times, is an isometry onto the
sequences that are real at the frequencies of the second kind: a real orthogonal matrix, in
coordinates.

On a small torus the transform is a matrix product along each axis: it is faster than an FFT there,
puts frequencies in front where the products want them, and pads and crops for nothing.  Layers that
are exported ask for it on any torus: what a product rounds is proved (`rounding`), and whatever
library computes it; entries of its matrices are correctly rounded (`convolutions.roots_of_unity`).
"""

__all__ = [
    "apply_to_parts",
    "apply_to_spectrum",
    "factors",
    "from_spectrum",
    "half_plane",
    "multiplicities",
    "roots",
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
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.autograd import Function

from ..convolutions import roots_of_unity
from ..parametrizations._parts import join, split

Size = tuple[int, int]
P = ParamSpec("P")

_DENSE = 1600  # pixels of a torus up to which the transform is a matrix product along each axis


def apply_to_spectrum(
    x: Tensor,
    act: Callable[[Tensor], Tensor],
    period: Size,
    size: Size | None = None,
    *,
    dense: bool = False,
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
        dense: Whether to transform by matrix products on any torus.

    Returns:
        Images, with shape (B, O, *size).
    """
    spectrum = act(to_spectrum(x, period, dense=dense))
    return from_spectrum(spectrum, period, size or spatial_size(x), dense=dense)


def apply_to_parts(
    x: Tensor, act: Callable[[Tensor], Tensor], period: Size, size: Size | None = None
) -> Tensor:
    """As `apply_to_spectrum`, for a map of the real and the imaginary parts of coefficients.

    Arguments:
        x: Images, with shape (B, I, h, w).
        act: The map, from shape (2, P, B, I) to (2, P, B, O), real.
        period: The height and the width of the torus.
        size: The height and width of the output, those of the images by default.

    Returns:
        Images, with shape (B, O, *size).
    """
    return _from_parts(act(_to_parts(x, period)), period, size or spatial_size(x))


def spatial_size(x: Tensor) -> Size:
    """Height and width of images."""
    return x.shape[-2], x.shape[-1]


def to_spectrum(x: Tensor, period: Size, *, dense: bool = False) -> Tensor:
    """Fourier coefficients of images in a corner of a torus, with shape (P, B, I), complex."""
    if dense or _is_small(period):
        return join(_products_to_parts(x, period))
    spectrum = torch.fft.rfft2(x, s=period)
    return spectrum.flatten(2).permute(2, 0, 1)[_kept(period).to(x.device)]


def from_spectrum(spectrum: Tensor, period: Size, size: Size, *, dense: bool = False) -> Tensor:
    """Images with given Fourier coefficients, a corner of them, with shape (B, O, *size)."""
    if dense or _is_small(period):
        return _products_from_parts(split(spectrum), period, size)
    source, sign = _mirrors(period).to(spectrum.device)
    parts = torch.view_as_real(spectrum)[source]
    full = torch.complex(parts[..., 0], parts[..., 1] * sign[:, None, None].to(parts.dtype))
    full = full.unflatten(0, (period[0], -1)).permute(2, 3, 0, 1)
    return torch.fft.irfft2(full, s=period)[..., : size[0], : size[1]]


def _is_small(period: Size) -> bool:
    return period[0] * period[1] <= _DENSE


def _to_parts(x: Tensor, period: Size) -> Tensor:
    """Real and imaginary parts of Fourier coefficients, with shape (2, P, B, I)."""
    if not _is_small(period):
        return split(to_spectrum(x, period))
    return _products_to_parts(x, period)


def _products_to_parts(x: Tensor, period: Size) -> Tensor:
    matrices = [f.to(x) for f in factors(period, spatial_size(x), weighted=False)]
    parts = _Analysis.apply(x.flatten(0, 1), *matrices, period[1])
    return parts.unflatten(2, x.shape[:2])  # pyright: ignore[reportAttributeAccessIssue]


def _from_parts(parts: Tensor, period: Size, size: Size) -> Tensor:
    """Images with Fourier coefficients of given parts, (2, P, B, O) -> (B, O, *size)."""
    if not _is_small(period):
        return from_spectrum(join(parts), period, size)
    return _products_from_parts(parts, period, size)


def _products_from_parts(parts: Tensor, period: Size, size: Size) -> Tensor:
    matrices = [f.to(parts) for f in factors(period, size, weighted=True)]
    flat = _Synthesis.apply(parts.flatten(2), *matrices, period[1])
    return flat.unflatten(0, parts.shape[2:])  # pyright: ignore[reportAttributeAccessIssue]


class _Analysis(Function):
    """Coefficients of N images of h × w pixels, (N, h, w) -> (2, P, N), real and imaginary parts.

    Sums over x with cosines and −sines of 2πkx / W, for the columns k of the half plane, and then,
    for each of these, sums over y with those of 2πjy / H: the matrices of `factors`.
    """

    @staticmethod
    def forward(pixels: Tensor, across: Tensor, half: Tensor, full: Tensor, width: int) -> Tensor:
        flat = across.flatten(0, 1) @ pixels.reshape(-1, across.shape[2]).mT
        lines = flat.view(2, -1, *pixels.shape[:2])  # (2, K, N, h)
        pieces = _pieces(width, half, full)
        if torch.compiler.is_exporting():
            return torch.cat(
                [_coefficients(lines[:, a:b].mT, down) for a, b, down in pieces], dim=1
            )
        count = sum((stop - start) * down.shape[1] for start, stop, down in pieces)
        out, first = pixels.new_empty(2, count, pixels.shape[0]), 0
        for start, stop, down in pieces:
            columns, rows = stop - start, down.shape[1]
            cosines, sines = (wave.expand(columns, -1, -1) for wave in down)
            real, imaginary = (part[start:stop].mT for part in lines)  # (K', h, N)
            block = out[:, first : first + columns * rows].unflatten(1, (columns, rows))
            block[0].baddbmm_(cosines, real, beta=0).baddbmm_(sines, imaginary)
            block[1].baddbmm_(cosines, imaginary, beta=0).baddbmm_(sines, real, alpha=-1)
            first += columns * rows
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[1:-1])
        ctx.width = inputs[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Synthesis.apply(grads[0], *ctx.saved_tensors, ctx.width), *(None,) * 4


class _Synthesis(Function):
    """The adjoint of `_Analysis`, (2, P, N) -> (N, h, w)."""

    @staticmethod
    def forward(parts: Tensor, across: Tensor, half: Tensor, full: Tensor, width: int) -> Tensor:
        images, height, columns = parts.shape[2], half.shape[2], across.shape[1]
        pieces = _pieces(width, half, full)
        if torch.compiler.is_exporting():
            sizes = [(stop - start) * down.shape[1] for start, stop, down in pieces]
            runs = zip(parts.split(sizes, dim=1), pieces, strict=True)
            return _pixels(
                torch.cat([_columns(part, down) for part, (_, _, down) in runs], 1), across
            )
        lines, first = parts.new_empty(2, columns, height, images), 0
        for start, stop, down in pieces:
            columns, rows = stop - start, down.shape[1]
            cosines, sines = (wave.mT.expand(columns, -1, -1) for wave in down)  # (K', h, J)
            real, imaginary = parts[:, first : first + columns * rows].unflatten(1, (columns, rows))
            into = lines[:, start:stop]
            into[0].baddbmm_(cosines, real, beta=0).baddbmm_(sines, imaginary, alpha=-1)
            into[1].baddbmm_(sines, real, beta=0).baddbmm_(cosines, imaginary)
            first += columns * rows
        return _pixels(lines, across)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[1:-1])
        ctx.width = inputs[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Analysis.apply(grads[0], *ctx.saved_tensors, ctx.width), *(None,) * 4


# Out of place for graphs, in which a number that is written into a tensor is many operations.


def _coefficients(lines: Tensor, down: Tensor) -> Tensor:
    """Sums over y of some columns: (2, K, h, N) -> (2, K J, N)."""
    (cosines, sines), (real, imaginary) = down, lines
    parts = [cosines @ real + sines @ imaginary, cosines @ imaginary - sines @ real]
    return torch.stack(parts).flatten(1, 2)


def _columns(parts: Tensor, down: Tensor) -> Tensor:
    """The adjoint of `_coefficients`, (2, K J, N) -> (2, K, h, N)."""
    cosines, sines = down.mT.unbind(0)
    real, imaginary = parts.unflatten(1, (-1, down.shape[1]))
    return torch.stack([cosines @ real - sines @ imaginary, sines @ real + cosines @ imaginary])


def _pixels(lines: Tensor, across: Tensor) -> Tensor:
    """Rows of pixels from all columns, (2, K, h, N) -> (N, h, w); images last: then one transpose of a matrix."""
    height, images = lines.shape[2:]
    waves = across.flatten(0, 1).mT.expand(height, -1, -1)  # (h, w, 2K)
    pixels = torch.bmm(waves, lines.flatten(0, 1).transpose(0, 1))  # (h, w, N)
    return pixels.flatten(0, 1).mT.contiguous().view(images, height, -1)


def _pieces(width: int, half: Tensor, full: Tensor) -> list[tuple[int, int, Tensor]]:
    """Runs of columns of the half plane that have the same rows, and the waves along these."""
    last = (width + 1) // 2  # columns 0 and W / 2 hold the opposites of their own frequencies
    runs = [(0, 1, half), (1, last, full), (last, width // 2 + 1, half)]
    return [(start, stop, down) for start, stop, down in runs if stop > start]


def factors(period: Size, size: Size, *, weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and −sines along the width; cosines and sines along the height, of half and all rows.

    With shapes (2, W // 2 + 1, w), (2, H // 2 + 1, h) and (2, H, h), in float64.

    Arguments:
        period: The height H and the width W of the torus.
        size: The height h and the width w of images.
        weighted: Whether frequencies are counted as often as they stand for, over HW: what makes the
            adjoint of the transform its inverse.
    """
    across, down = (
        torch.from_numpy(_lines(n, m)) for n, m in zip(period[::-1], size[::-1], strict=True)
    )
    cosines, sines = across[:, : period[1] // 2 + 1]
    across = torch.stack([cosines, -sines])
    half, full = down[:, : period[0] // 2 + 1], down
    if weighted:
        counts = multiplicities((period[0], 1))[:, None]
        across, half, full = across / (period[0] * period[1]), counts * half, 2 * full
    return across, half, full


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
def _lines(period: int, size: int) -> np.ndarray:
    """Cosines and sines of 2πjx / n for frequencies j < n and pixels x, with shape (2, n, pixels)."""
    return roots(period)[:, np.outer(np.arange(period), np.arange(size)) % period]


@torch.compiler.assume_constant_result
def roots(period: int) -> np.ndarray:
    """Cosines and sines of 2πj / n for j < n, correctly rounded, with shape (2, n)."""
    with unset_fake_temporarily(), torch.device("cpu"):  # they are remembered
        return torch.stack(roots_of_unity(period)).numpy()


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
