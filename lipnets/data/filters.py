"""Radial frequencies of images, and the filters and waves that belong to them.

The frequency of the Fourier coefficient (f_y, f_x) of an image is
ρ = √((f_y/H)² + (f_x/W)²) · min(H, W), in cycles per image: the same distance on a square image
as on a longer one, and at most min(H, W)/2 along an axis.  Only the corners lie beyond.
"""

__all__ = [
    "high_pass",
    "low_pass",
    "radial_bands",
    "radial_frequency",
    "ring_means",
    "rings",
    "wave_numbers",
    "waves",
]

import math

import torch
from torch import Tensor


def radial_frequency(height: int, width: int) -> Tensor:
    """Computes the frequency ρ of every Fourier coefficient.

    Arguments:
        height: The height H of images, in pixels.
        width: The width W of images, in pixels.

    Returns:
        Frequencies in cycles per image, float64 in the order of `torch.fft.fft2`, with shape
        (H, W).

    Example:
        >>> radial_frequency(4, 4)[0].tolist()
        [0.0, 1.0, 2.0, 1.0]
    """
    side = min(height, width)
    # Whole numbers, divided last: a frequency that is a whole number is exactly that.
    y, x = (_whole_frequencies(size) * side / size for size in (height, width))
    return (y.square()[:, None] + x.square()).sqrt()


def rings(height: int, width: int) -> Tensor:
    """Numbers the rings of frequencies, by rounding: ring k has ρ in k ± 1/2.

    Returns:
        Numbers of rings, int64 in the order of `torch.fft.fft2`, with shape (H, W).
    """
    return radial_frequency(height, width).round().to(torch.int64)


def low_pass(images: Tensor, radius: float) -> Tensor:
    """Keeps the frequencies ρ ≤ `radius`, the mean among them.

    Filtered images are real, and not clipped: they may leave [0, 1].

    Arguments:
        images: The images, with shape (..., H, W).
        radius: The highest frequency to keep, in cycles per image.

    Returns:
        Filtered images, with shape (..., H, W).
    """
    height, width = images.shape[-2:]
    # The mask is the same at f and -f, so that images remain real and half of it is enough.
    mask = radial_frequency(height, width)[:, : width // 2 + 1] <= radius
    spectrum = torch.fft.rfft2(images) * mask.to(images.device)
    return torch.fft.irfft2(spectrum, s=(height, width))


def high_pass(images: Tensor, radius: float) -> Tensor:
    """Keeps the frequencies ρ > `radius`: what `low_pass` leaves out.

    Arguments:
        images: The images, with shape (..., H, W).
        radius: The highest frequency to remove, in cycles per image.

    Returns:
        Filtered images, with shape (..., H, W).
    """
    return images - low_pass(images, radius)


def ring_means(spectra: Tensor) -> tuple[Tensor, Tensor]:
    """Averages over the rings of `rings`.

    All coefficients count, those of both signs: nothing is to be doubled.

    Arguments:
        spectra: Something of each Fourier coefficient, with shape (..., H, W).

    Returns:
        The means, with shape (..., R), in float64, and how many coefficients a ring has, (R,).

    Example:
        >>> means, counts = ring_means(torch.ones(4, 4))
        >>> means.tolist(), counts.tolist()
        ([1.0, 1.0, 1.0, 1.0], [1, 8, 6, 1])
    """
    numbers = rings(*spectra.shape[-2:]).flatten().to(spectra.device)
    counts = numbers.bincount()
    flat = spectra.double().flatten(-2)
    sums = flat.new_zeros(*flat.shape[:-1], len(counts)).index_add_(-1, numbers, flat)
    return sums / counts.clamp(min=1), counts.cpu()


def radial_bands(height: int, width: int, count: int) -> Tensor:
    """Numbers bands of equal width up to ½ cycle per pixel; the corners belong to the last one.

    Returns:
        Numbers of bands from 0 to `count` − 1, int64 in the order of `torch.fft.fft2`, (H, W).

    Raises:
        ValueError: If `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"'count' should be at least 1, got {count}.")
    share = 2 * radial_frequency(height, width) / min(height, width)  # of the highest on an axis
    # Edges are met by whole frequencies, whose quotients are rounded: 3/8 belongs to band 3 of 8.
    return (share * count + 1e-9).floor().to(torch.int64).clamp(max=count - 1)


def wave_numbers(size: int, step: int = 1, reach: int | None = None) -> list[int]:
    """The frequencies along an axis in ascending order, in cycles per image, 0 in the middle.

    Arguments:
        size: The number of pixels along the axis.
        step: Keeps multiples of it only.
        reach: Keeps those up to it only, of either sign.

    Example:
        >>> wave_numbers(6), wave_numbers(6, step=2), wave_numbers(5, reach=1)
        ([-3, -2, -1, 0, 1, 2], [-2, 0, 2], [-1, 0, 1])
    """
    if step < 1:
        raise ValueError(f"'step' should be at least 1, got {step}.")
    reach = size if reach is None else reach
    every = range(-(size // 2), (size + 1) // 2)
    return [number for number in every if number % step == 0 and abs(number) <= reach]


def waves(height: int, width: int, row: int, column: int) -> Tensor:
    """The two plane waves of a frequency, a quarter of a period apart, each of norm 1.

    √(2/HW) cos(2π (row y/H + column x/W) ± π/4).  Of a frequency that is its own opposite, such as
    0, the two are the same wave but for its sign.

    Arguments:
        height: The height H of images.
        width: The width W of images.
        row: The number of periods from top to bottom.
        column: The number of periods from left to right.

    Returns:
        The waves, float64, with shape (2, H, W).
    """
    # Whole turns are taken out in integers: waves of many periods are as exact as others.
    y = (torch.arange(height) * row % height).double() / height
    x = (torch.arange(width) * column % width).double() / width
    angles = 2 * math.pi * (y[:, None] + x)
    quadratures = torch.tensor([0.25, -0.25], dtype=torch.float64)[:, None, None] * math.pi
    return math.sqrt(2 / (height * width)) * (angles + quadratures).cos()


def _whole_frequencies(size: int) -> Tensor:
    """The frequencies 0, 1, ..., -2, -1 of `torch.fft.fftfreq`, in cycles per image."""
    return torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64).round()
