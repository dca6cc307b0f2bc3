"""Blur, by small kernels."""

__all__ = ["defocus_blur", "gaussian_blur"]

import torch
from torch import Tensor
from torch.nn import functional as F

from ._registry import Generators, corruptions


@corruptions.register
def gaussian_blur(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """A normal kernel, cut off at 4σ; pixels of the border are repeated beyond it."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    reach = int(4 * sigma + 0.5)
    taps = _normal_taps(sigma, reach)
    padded = F.pad(images, [reach] * 4, mode="replicate")
    return _correlate(padded, torch.outer(taps, taps))


@corruptions.register
def defocus_blur(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """A disk of radius r, smoothed by a normal kernel of 3 x 3; the border is a mirror.

    Up to severity 3 the disk is a single pixel, so that only the smoothing is left.
    """
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    offsets = torch.arange(-1, 2, dtype=torch.float64)  # no disk reaches farther
    disk = (offsets.square()[:, None] + offsets.square() <= radius**2).double()
    taps = _normal_taps(sigma, reach=1)
    kernel = F.conv_transpose2d(
        (disk / disk.sum())[None, None], torch.outer(taps, taps)[None, None]
    )
    return _correlate(_mirror(images, reach=2), kernel[0, 0])  # (5, 5)


def _normal_taps(sigma: float, reach: int) -> Tensor:
    """The density of a normal variable at -reach, ..., reach, with sum 1."""
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    return taps / taps.sum()


def _mirror(images: Tensor, reach: int) -> Tensor:
    """Pads images by mirrors at the centres of border pixels, however small images are."""
    rows, columns = (_mirrored(size, reach).to(images.device) for size in images.shape[2:])
    return images[:, :, rows[:, None], columns]


def _mirrored(size: int, reach: int) -> Tensor:
    """The pixels seen at -reach, ..., size + reach - 1."""
    period = max(2 * (size - 1), 1)
    places = torch.arange(-reach, size + reach).remainder(period)
    return torch.minimum(places, period - places) % size


def _correlate(images: Tensor, kernel: Tensor) -> Tensor:
    """Applies a symmetric kernel to every channel, without padding."""
    channels = images.shape[1]
    weight = kernel.to(images).expand(channels, 1, -1, -1)
    return F.conv2d(images, weight, groups=channels)
