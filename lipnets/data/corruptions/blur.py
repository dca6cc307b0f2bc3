"""Blur: kernels of fixed shape, of a random direction, and zooms."""

__all__ = ["defocus_blur", "gaussian_blur", "motion_blur", "streak", "zoom_blur"]

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ._draws import uniform
from ._filters import blur_matrix, correlate, normal_taps, places, separable, zoom_matrix
from ._registry import Generators, corruptions


@corruptions.register
def gaussian_blur(images: Tensor, sigma: float, generators: Generators) -> Tensor:
    """A normal kernel, cut off at 4σ; pixels of the border are repeated beyond it."""
    rows, columns = (blur_matrix(size, sigma, "edge") for size in images.shape[2:])
    return separable(images, rows, columns)


@corruptions.register
def defocus_blur(images: Tensor, constants: tuple[float, float], generators: Generators) -> Tensor:
    """A disk of radius r, smoothed by a normal kernel of 3 x 3; the border is a mirror.

    Up to severity 3 the disk is a single pixel, so that only the smoothing is left.
    """
    radius, sigma = constants
    reach = int(radius)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disk = (offsets.square()[:, None] + offsets.square() <= radius**2).double()
    taps = normal_taps(sigma, reach=1)
    kernel = F.conv_transpose2d(
        (disk / disk.sum())[None, None], torch.outer(taps, taps)[None, None]
    )
    return correlate(images, kernel[0, 0], "mirror")


@corruptions.register
def motion_blur(images: Tensor, constants: tuple[float, float], generators: Generators) -> Tensor:
    """A streak in a direction within 45° of the rows, drawn for each image."""
    radius, sigma = constants
    degrees = uniform(generators, (), -45, 45, images)
    return streak(images, radius, sigma, degrees)


def streak(images: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """The motion blur of ImageMagick: half of a normal kernel, along a line to one side.

    Taps at i = 0, ..., 2⌈r⌉ are in proportion to exp(−i²/2σ²), each at the pixel that is nearest to
    i steps in the direction; pixels of the border are repeated beyond it.

    Arguments:
        images: The images, with shape (B, C, H, W).
        radius: The radius r, in pixels.
        sigma: The σ of the kernel, in pixels.
        degrees: The direction of each image, from the rows on downwards, with shape (B,).
    """
    height, width = images.shape[2:]
    steps = torch.arange(2 * math.ceil(radius) + 1, dtype=torch.float64, device=images.device)
    weights = torch.exp(-steps.square() / (2 * sigma**2))
    weights = weights / weights.sum()
    angle = torch.deg2rad(degrees)[:, None]
    flat, blurred = images.flatten(2), torch.zeros_like(images)
    # The nearest whole number, a half being rounded down.
    down, right = ((steps * part - 0.5).ceil().long() for part in (angle.sin(), angle.cos()))
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    for step, weight in enumerate(weights):
        y = places(rows + down[:, step, None], height, "edge")  # (B, H)
        x = places(columns + right[:, step, None], width, "edge")  # (B, W)
        index = (y[:, :, None] * width + x[:, None]).flatten(1)[:, None]
        pixels = flat.gather(2, index.expand_as(flat))
        blurred += weight.to(images) * pixels.view_as(images)
    return blurred


@corruptions.register
def zoom_blur(images: Tensor, zooms: int, generators: Generators) -> Tensor:
    """The mean of an image and of itself at the zooms 1, 1.01, 1.02, ...: x counts twice."""
    total = images.clone()
    for percent in range(zooms):
        rows, columns = (zoom_matrix(size, 1 + percent / 100) for size in images.shape[2:])
        total += separable(images, rows, columns)
    return total / (zooms + 1)
