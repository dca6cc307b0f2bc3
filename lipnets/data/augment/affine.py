"""Turns, changes of size and moves, by bilinear interpolation."""

__all__ = ["affine", "resample"]

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ._registry import Augmentation, augmentations, check, to_device


@augmentations.register
def affine(degrees: float = 10.0, scale: float = 0.1, shift: float = 0.0) -> Augmentation:
    """Turns, scales and moves images, by bilinear interpolation; what enters is black.

    Arguments:
        degrees: The largest turn, either way, in degrees.
        scale: The largest change of size: by factors in [1 - scale, 1 + scale], less than 1.
        shift: The largest move in each direction, in pixels, not only whole ones.
    """
    check(degrees >= 0, "degrees", "at least 0", degrees)
    check(0 <= scale < 1, "scale", "in [0, 1)", scale)
    check(shift >= 0, "shift", "at least 0", shift)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        draws = 2 * torch.rand(4, len(images), generator=generator, dtype=torch.float64) - 1
        return resample(
            images,
            angle=math.radians(degrees) * draws[0],
            zoom=1 + scale * draws[1],
            move=shift * draws[2:],
        )

    return augment


def resample(images: Tensor, *, angle: Tensor, zoom: Tensor, move: Tensor) -> Tensor:
    """Turns images about their centre, scales them, and moves them.

    Arguments:
        images: The images, with shape (B, C, H, W).
        angle: Turns, from the axis of columns to that of rows, in radians, with shape (B,).
        zoom: Factors of size, with shape (B,).
        move: Moves to the right and down, in pixels, with shape (2, B).
    """
    height, width = images.shape[2:]
    # A pixel p of the result shows the point R(p - move)/zoom of the image, where R turns back.
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    right, down = move
    # Coordinates of grids run from -1 to 1 along either side, hence the ratios of sides.
    from_x = [cos, sin * height / width, -2 * (cos * right + sin * down) / width]
    from_y = [-sin * width / height, cos, -2 * (cos * down - sin * right) / height]
    matrix = torch.stack([torch.stack(from_x, dim=1), torch.stack(from_y, dim=1)], dim=1)
    grid = F.affine_grid(
        to_device(matrix.to(images.dtype), images), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
