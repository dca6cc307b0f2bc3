"""Radial frequencies of images, and the filters that keep low or high ones.

The frequency of the Fourier coefficient (f_y, f_x) of an image is
ρ = √((f_y/H)² + (f_x/W)²) · min(H, W), in cycles per image: the same distance on a square image
as on a longer one, and at most min(H, W)/2 along an axis.  Only the corners lie beyond.
"""

__all__ = ["high_pass", "low_pass", "radial_frequency", "rings"]

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


def _whole_frequencies(size: int) -> Tensor:
    """The frequencies 0, 1, ..., -2, -1 of `torch.fft.fftfreq`, in cycles per image."""
    return torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64).round()
