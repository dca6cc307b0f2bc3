"""Augmentation: random changes of training images that keep their label.

An augmentation is a function of a batch of images and of a random generator.  It changes all
images at once, each in its own way, and keeps pixels in [0, 1].

References:
    | Improved Regularization of Convolutional Neural Networks with Cutout (DeVries & Taylor, 2017)
    | https://arxiv.org/abs/1708.04552
"""

__all__ = ["Augmentation", "affine", "augmentations", "build", "crop", "cutout", "flip", "shift"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..registry import Registry

Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # (B, C, H, W) -> (B, C, H, W)

augmentations: Registry[Augmentation] = Registry("augmentation")
names = augmentations.names


def build(specs: Sequence[str | Mapping[str, Any]]) -> Augmentation:
    """Builds a chain of augmentations.

    Arguments:
        specs: What to do, in this order: names, or names with their arguments, such as
            `{"name": "crop", "padding": 2}`.

    Raises:
        ValueError: If there is no augmentation of that name.
        TypeError: If it does not take one of the arguments, or if there is no name.

    Example:
        >>> augment = build(["flip", {"name": "crop", "padding": 2}])
        >>> augment(torch.rand(5, 3, 32, 32), torch.Generator()).shape
        torch.Size([5, 3, 32, 32])
    """
    chain = [_build_one(spec) for spec in specs]

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        for step in chain:
            images = step(images, generator)
        return images

    return augment


@augmentations.register
def crop(padding: int = 4, padding_mode: str = "constant") -> Augmentation:
    """Pads images on all sides, then crops them to their size at a random place.

    Arguments:
        padding: The number of pixels on each side, at least 0.
        padding_mode: What to pad with, as in `torch.nn.functional.pad`: `"constant"` is black.
    """
    _check(padding >= 0, "padding", "at least 0", padding)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = images.shape
        top, left = (
            torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
            .to(images.device)
            .unbind()
        )
        rows = top + torch.arange(height, device=images.device)  # (B, H)
        columns = left + torch.arange(width, device=images.device)  # (B, W)
        padded = F.pad(images, [padding] * 4, mode=padding_mode)  # (B, C, H + 2p, W + 2p)
        index = rows[:, None, :, None].expand(-1, channels, -1, width + 2 * padding)
        padded = padded.gather(2, index)  # (B, C, H, W + 2p)
        return padded.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))

    return augment


@augmentations.register
def shift(pixels: int = 1) -> Augmentation:
    """Moves images by a random whole number of pixels in both directions; what enters is black.

    Arguments:
        pixels: The largest move in each direction, at least 0.
    """
    return crop(padding=pixels)


@augmentations.register
def flip(p: float = 0.5) -> Augmentation:
    """Mirrors images, left to right.

    Arguments:
        p: The probability with which an image is mirrored, in [0, 1].
    """
    _check(0 <= p <= 1, "p", "in [0, 1]", p)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(len(images), generator=generator, dtype=torch.float64)
        mirrored = (draws < p).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)

    return augment


@augmentations.register
def cutout(size: int = 8, fill: float = 0.0) -> Augmentation:
    """Covers a square at a random place, which may reach beyond the border.

    Arguments:
        size: The side of the square, in pixels, at least 1.
        fill: The value that its pixels get, in [0, 1].
    """
    _check(size >= 1, "size", "at least 1", size)
    _check(0 <= fill <= 1, "fill", "in [0, 1]", fill)

    def covered(length: int, count: int, generator: torch.Generator) -> Tensor:  # (B, length)
        start = torch.randint(length, (count, 1), generator=generator) - size // 2
        offset = torch.arange(length) - start
        return (offset >= 0) & (offset < size)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        rows, columns = (covered(side, count, generator) for side in (height, width))
        square = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
        return images.masked_fill(square.to(images.device), fill)

    return augment


@augmentations.register
def affine(degrees: float = 10.0, scale: float = 0.1, shift: float = 0.0) -> Augmentation:
    """Turns, scales and moves images, by bilinear interpolation; what enters is black.

    Arguments:
        degrees: The largest turn, either way, in degrees.
        scale: The largest change of size: by factors in [1 - scale, 1 + scale], less than 1.
        shift: The largest move in each direction, in pixels, not only whole ones.
    """
    _check(degrees >= 0, "degrees", "at least 0", degrees)
    _check(0 <= scale < 1, "scale", "in [0, 1)", scale)
    _check(shift >= 0, "shift", "at least 0", shift)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        draws = 2 * torch.rand(4, len(images), generator=generator, dtype=torch.float64) - 1
        return _resample(
            images,
            angle=math.radians(degrees) * draws[0],
            zoom=1 + scale * draws[1],
            move=shift * draws[2:],
        )

    return augment


def _resample(images: Tensor, *, angle: Tensor, zoom: Tensor, move: Tensor) -> Tensor:
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
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)


def _build_one(spec: str | Mapping[str, Any]) -> Augmentation:
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in settings:
        raise TypeError(f"An augmentation should have a 'name', got {settings}.")
    return augmentations.build(settings.pop("name"), **settings)


def _check(holds: bool, name: str, law: str, value: float) -> None:
    if not holds:
        raise ValueError(f"'{name}' should be {law}, got {value}.")
