"""What JPEG files lose: cosine coefficients of 8 × 8 pixels, rounded to multiples.

Follows the arithmetic of files with 4:2:0 subsampling, which Pillow writes by default: colours are
rounded to bytes, chroma is halved by means of 2 × 2 pixels, and doubled by triangles.  Transforms
are exact here, where libraries compute with integers.

References:
    | The JPEG still picture compression standard (Wallace, 1992); tables of ISO/IEC 10918-1, annex K
    | https://doi.org/10.1109/30.125072
"""

__all__ = ["jpeg_compression"]

import math

import torch
from einops import rearrange
from torch import Tensor

from ._filters import luma, settle
from ._registry import Generators, corruptions

_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@corruptions.register
def jpeg_compression(images: Tensor, quality: int, generators: Generators) -> Tensor:
    """Writes images as JPEG files of a quality from 1 to 100, and reads them.

    Images without three channels are written channel by channel, in grey.
    """
    height, width = images.shape[2:]
    levels = _whole(images * 255)
    if images.shape[1] != 3:
        return _coded(levels, _steps(_LUMA_STEPS, quality))[:, :, :height, :width] / 255
    light = _whole(luma(levels))
    red, _, blue = levels.split(1, dim=1)
    exact = luma(levels)
    chroma = torch.cat([(blue - exact) / 1.772, (red - exact) / 1.402], dim=1) + 128
    light = _coded(light, _steps(_LUMA_STEPS, quality))[:, :, :height, :width]
    small = _coded(_halved(_whole(chroma)), _steps(_CHROMA_STEPS, quality))
    small = small[:, :, : math.ceil(height / 2), : math.ceil(width / 2)]
    blue, red = (_doubled(small)[:, :, :height, :width] - 128).split(1, dim=1)
    green = -(0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
    return _whole(light + torch.cat([1.402 * red, green, 1.772 * blue], dim=1)).clamp(0, 255) / 255


def _whole(values: Tensor) -> Tensor:
    """The nearest whole numbers, halves rounded up."""
    return (settle(values) + 0.5).floor()


def _steps(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """The steps of coefficients at a quality, with shape (8, 8): those of the table at 50."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(table) * scale + 50) // 100).clamp(1, 255)


def _coded(levels: Tensor, steps: Tensor) -> Tensor:
    """Codes and decodes a plane of bytes, made up to multiples of 8 by its last rows and columns."""
    height, width = levels.shape[2:]
    rows = torch.arange(8 * math.ceil(height / 8), device=levels.device).clamp(max=height - 1)
    columns = torch.arange(8 * math.ceil(width / 8), device=levels.device).clamp(max=width - 1)
    blocks = rearrange(
        levels[:, :, rows[:, None], columns], "b c (h i) (w j) -> b c h w i j", i=8, j=8
    )
    basis, steps = _cosines().to(levels), steps.to(levels)
    scaled = settle(basis @ (blocks - 128) @ basis.T / steps)
    kept = scaled.sign() * (scaled.abs() + 0.5).floor() * steps  # halves are rounded outwards
    decoded = _whole(basis.T @ kept @ basis + 128).clamp(0, 255)
    return rearrange(decoded, "b c h w i j -> b c (h i) (w j)")


def _cosines() -> Tensor:
    """The orthogonal matrix of the cosine transform, with shape (8, 8): rows are frequencies."""
    frequency, place = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8)
    matrix = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _halved(planes: Tensor) -> Tensor:
    """Means of 2 × 2 bytes, in bytes: halves are rounded down and up in turn, column by column.

    Columns are made up to multiples of 16 with the last one, and rows to multiples of 2.
    """
    height, width = planes.shape[2:]
    rows = torch.arange(2 * math.ceil(height / 2), device=planes.device).clamp(max=height - 1)
    columns = torch.arange(16 * math.ceil(width / 16), device=planes.device).clamp(max=width - 1)
    sums = rearrange(
        planes[:, :, rows[:, None], columns], "b c (h i) (w j) -> b c h w i j", i=2, j=2
    ).sum(dim=(4, 5))
    bias = 1 + torch.arange(sums.shape[3], device=planes.device) % 2
    return ((sums + bias) / 4).floor()


def _doubled(planes: Tensor) -> Tensor:
    """Between two pixels, three parts of the nearer and one of the other, first down and then right."""
    height, width = planes.shape[2:]
    tall = _triangles(height).to(planes) @ planes  # in quarters
    wide = tall @ _triangles(width).to(planes).T  # in sixteenths
    bias = 8 - torch.arange(2 * width, device=planes.device) % 2
    return ((wide + bias) / 16).floor()


def _triangles(size: int) -> Tensor:
    """Four times the matrix that doubles one axis, with shape (2 size, size)."""
    line = torch.arange(2 * size)
    nearer = line // 2
    other = (nearer + 2 * (line % 2) - 1).clamp(0, size - 1)
    matrix = torch.zeros(2 * size, size, dtype=torch.float64)
    matrix = matrix.index_put((line, nearer), torch.tensor(3.0).double(), accumulate=True)
    return matrix.index_put((line, other), torch.tensor(1.0).double(), accumulate=True)
