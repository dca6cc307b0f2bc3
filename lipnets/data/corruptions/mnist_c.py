"""Corruptions of digits: the fifteen of MNIST-C, each at its one severity, and none at all.

They are for grey images; constants are those for images of 28 pixels, which MNIST-C has.  Borders,
strokes and stripes of other sizes are in proportion.  As in `lipnets.data.corruptions`, a corrupted
image depends on the image, the corruption, its index and a seed, and on nothing else.

They differ from the published arrays by the random draws, and by the truncation of those to 8 bits.

References:
    | MNIST-C: A Robustness Benchmark for Computer Vision (Mu & Gilmer, 2019), and its code
    | https://arxiv.org/abs/1906.02337
"""

__all__ = ["MNIST_C", "corrupt", "digits", "names"]

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ...registry import Registry
from ._corrupting import check, corrupted
from ._draws import integers, normal, signs, uniform
from ._edges import canny
from ._filters import blur_matrix, sample, separable
from ._plasma import plasma
from ._registry import Generators
from .blur import streak
from .color import brightness
from .glass import through_glass
from .noise import impulse_noise, shot_noise
from .spatter import muddy
from .weather import veil

digits: Registry[Tensor] = Registry("corruption of MNIST-C")


def corrupt(
    images: Tensor,
    name: str,
    indices: Tensor | Sequence[int],
    seed: int = 0,
    *,
    quantize: Literal["floor"] | None = None,
) -> Tensor:
    """Corrupts grey images as MNIST-C does.

    Arguments:
        images: The images in [0, 1], with shape (B, 1, H, W).
        name: The corruption, one of `MNIST_C`.
        indices: The index of each image in its data set, with shape (B,).
        seed: Which draw of the noise.
        quantize: `"floor"` for the next lower multiples of 1/255, as published arrays have them.

    Returns:
        Images in [0, 1], with shape (B, 1, H, W) and the same dtype; computed in float64.

    Raises:
        ValueError: If there is no such corruption, or if shapes do not fit.
    """
    law = digits[name]
    check(images, indices, quantize)
    if images.shape[1] != 1:
        raise ValueError(f"MNIST-C is for images with 1 channel, got {images.shape[1]}.")
    return corrupted(law, images, (seed, f"mnist_c/{name}", 0), indices, quantize)


@digits.register
def identity(images: Tensor, generators: Generators) -> Tensor:
    """Nothing."""
    return images


digits.add("shot_noise", lambda images, generators: shot_noise(images, 3, generators))
digits.add("impulse_noise", lambda images, generators: impulse_noise(images, 0.17, generators))
digits.add("brightness", lambda images, generators: brightness(images, 0.5, generators))


@digits.register
def glass_blur(images: Tensor, generators: Generators) -> Tensor:
    """Two rounds in which every other pixel is exchanged, between blurs of σ = 0.7."""
    draws = (2, *images.shape[2:])
    moves = integers(generators, (*draws, 2), -1, 1) * integers(generators, (*draws, 1), 0, 2)
    return through_glass(images, 0.7, moves, copies=False)


@digits.register
def motion_blur(images: Tensor, generators: Generators) -> Tensor:
    """A streak of radius 10 with σ = 3, within 45° of the rows."""
    return streak(images, 10, 3.0, uniform(generators, (), -45, 45, images))


@digits.register
def shear(images: Tensor, generators: Generators) -> Tensor:
    """Shears by ±0.4 rad, as scikit-image does: x sees x − y sin s, and y sees y cos s."""
    angles = 0.4 * signs(generators, ()).to(images)
    zero, one = torch.zeros_like(angles), torch.ones_like(angles)
    return _mapped(images, one, -angles.sin(), zero, angles.cos())


@digits.register
def scale(images: Tensor, generators: Generators) -> Tensor:
    """Shrinks to 70 %."""
    zero = images.new_zeros(len(images))
    return _mapped(images, zero + 1 / 0.7, zero, zero, zero + 1 / 0.7)


@digits.register
def rotate(images: Tensor, generators: Generators) -> Tensor:
    """Rotates by ±0.4 rad."""
    angles = 0.4 * signs(generators, ()).to(images)
    return _mapped(images, angles.cos(), -angles.sin(), angles.sin(), angles.cos())


@digits.register
def translate(images: Tensor, generators: Generators) -> Tensor:
    """Moves by 3 pixels along both axes, to either side."""
    right, down = (3 * signs(generators, (2,)).to(images)).unbind(dim=1)
    y, x = _grid(images)
    return sample(images, y + down[:, None, None], x + right[:, None, None], "zero")


@digits.register
def stripe(images: Tensor, generators: Generators) -> Tensor:
    """Inverts the first quarter of the columns and the last."""
    quarter = images.shape[3] // 4
    column = torch.arange(images.shape[3], device=images.device)
    outer = (column < quarter) | (column >= images.shape[3] - quarter)
    return torch.where(outer, 1 - images, images)


@digits.register
def fog(images: Tensor, generators: Generators) -> Tensor:
    """A corner of clouds that are 256 pixels wide, with weight 3 and decay 1.4."""
    height, width = images.shape[2:]
    return veil(images, 3.0, plasma(generators, 1.4, (height, width), images, side=256))


@digits.register
def spatter(images: Tensor, generators: Generators) -> Tensor:
    """Mud, of a level of 63."""
    drops = 0.65 + 0.3 * normal(generators, (1, *images.shape[2:]), images)
    rows, columns = (blur_matrix(size, 1.0, "edge") for size in images.shape[2:])
    drops = separable(drops, rows, columns)
    return muddy(images, drops > 0.65, 1.5, images.new_tensor(63 / 255))


@digits.register
def dotted_line(images: Tensor, generators: Generators) -> Tensor:
    """A line from the left to the right, two columns of every four."""
    height, width = images.shape[2:]
    rows = integers(generators, (2,), 0, max(height - 1, 1))
    begin, end = (
        torch.stack([torch.full((len(images),), column), row], dim=1)
        for column, row in zip((0, width - 1), rows.unbind(dim=1), strict=True)
    )
    line = _stroke(images, begin, end)
    dots = torch.arange(width, device=images.device) // 2 % 2 == 1
    return images + line * dots


@digits.register
def zigzag(images: Tensor, generators: Generators) -> Tensor:
    """A line that goes up and down by 2 pixels, from column 2 to the third from the right."""
    height, width = images.shape[2:]
    starts = integers(generators, (), 0, max(height - 1, 1)).tolist()
    rises = integers(generators, (), -5, 5).tolist()
    paths = [_path(width, *each) for each in zip(starts, rises, strict=True)]
    longest = max(len(path) for path in paths)
    # A path that ends early stays where it ends, and draws no more.
    corners = torch.tensor([path + path[-1:] * (longest - len(path)) for path in paths])
    drawn = images
    for begin, end in pairwise(corners.unbind(dim=1)):  # (B, 2)
        drawn = (drawn + _stroke(images, begin, end)).clamp(0, 1)
    return drawn


@digits.register
def canny_edges(images: Tensor, generators: Generators) -> Tensor:
    """The edges of the image after a blur of σ = 1, which sees nothing beyond the border."""
    rows, columns = (blur_matrix(size, 1.0, "zero") for size in images.shape[2:])
    rows, columns = (each / each.sum(dim=1, keepdim=True) for each in (rows, columns))
    blurred = separable(images, rows, columns)
    return canny(blurred, 0.1, 0.2, border="double").to(images)


MNIST_C: tuple[str, ...] = (
    "identity",
    *("shot_noise", "impulse_noise", "glass_blur", "motion_blur"),
    *("shear", "scale", "rotate", "brightness", "translate", "stripe", "fog", "spatter"),
    *("dotted_line", "zigzag", "canny_edges"),
)
names = digits.names


def _mapped(images: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """Pixels at p from the middle become what lies at Ap, for a matrix of each image."""
    y, x = _grid(images)
    middle_y, middle_x = ((size - 1) / 2 for size in images.shape[2:])
    down, right = y - middle_y, x - middle_x
    xx, xy, yx, yy = (each[:, None, None] for each in (xx, xy, yx, yy))
    at_y, at_x = yx * right + yy * down + middle_y, xx * right + xy * down + middle_x
    return sample(images, at_y, at_x, "zero")


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    y, x = (torch.arange(size, device=images.device).to(images) for size in images.shape[2:])
    return y[:, None].expand(len(y), len(x)), x.expand(len(y), len(x))


def _path(width: int, start: int, rise: int) -> list[tuple[float, float]]:
    """The corners of a zigzag, as columns and rows: 2 to either side of a line, every 4 pixels."""
    begin, end = 2, max(width - 3, 3)
    angle = math.atan(rise / (end - begin))
    length = (end - begin) / math.cos(angle)
    corners = [(0.0, 0.0)]
    for i in range(int((length - 2) // 4) + 1):
        corners.append((4.0 * i + 2, 2.0 * (-1) ** i))
    last, whole = corners[-1][1], 4 * (length // 4)
    if length > max(whole, corners[-1][0]):
        corners.append((length, last / (2 * (length - whole))))
    sine, cosine = math.sin(angle), math.cos(angle)
    return [(begin + x * cosine - y * sine, start + x * sine + y * cosine) for x, y in corners]


def _stroke(images: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """A line of each image, 1 + log(1 − d/2.3) bright at the vertical distance d, cut to [0, 1].

    It goes from column ⌊x₀⌋ to the one before ⌈x₁⌉; where x₁ = x₀, there is none.

    Arguments:
        images: The images, with shape (B, 1, H, W).
        begin: Columns x₀ and rows y₀, with shape (B, 2).
        end: Columns x₁ and rows y₁, with shape (B, 2).
    """
    x0, y0 = begin.to(images)[:, :, None, None].unbind(dim=1)
    x1, y1 = end.to(images)[:, :, None, None].unbind(dim=1)
    y, x = _grid(images)
    run = x1 - x0
    heights = y0 + (y1 - y0) / torch.where(run == 0, 1, run) * (x - x0)
    light = 1 + (1 - (y - heights).abs().clamp(max=2.299) / 2.3).log()
    there = (x >= x0.floor()) & (x < x1.ceil()) & (run > 0)
    return (light.clamp(0, 1) * there)[:, None]
