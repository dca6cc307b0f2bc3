"""Filters along rows and columns, and images seen at other places: the borders are the matter.

Beyond the border lies one of: `"edge"`, the last pixel again; `"mirror"`, a mirror at the centre of
the last pixel, d c b | a b c d | c b a; `"double"`, a mirror at its far side, c b a | a b c d | d c b;
or `"zero"`, nothing.
"""

__all__ = [
    "blur_matrix",
    "correlate",
    "floor_levels",
    "luma",
    "normal_taps",
    "places",
    "sample",
    "separable",
    "settle",
    "zoom_matrix",
]

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Border = Literal["edge", "mirror", "double", "zero"]

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def luma(images: Tensor) -> Tensor:
    """How light pixels are, with shape (B, 1, H, W): the mean, unless there are three channels."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def floor_levels(images: Tensor) -> Tensor:
    """Grey levels 0, ..., 255 below values in [0, 1], as whole numbers of the same dtype.

    What a value lacks of a level by less than a ten-thousandth is rounding: 1 − k/255 gives 255 − k.
    """
    return (images * 255 + 1e-4).floor()


def settle(values: Tensor) -> Tensor:
    """Rounds to multiples of 2⁻³⁰, so that what is a tie in real numbers is one in floating point.

    How ties are broken would depend else on the order of a sum, which depends on the batch.
    """
    return (values * 2**30).round() / 2**30


def normal_taps(sigma: float, reach: int) -> Tensor:
    """The density of a normal variable at -reach, ..., reach, with sum 1."""
    if sigma == 0:
        return (torch.arange(-reach, reach + 1) == 0).double()
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    return taps / taps.sum()


def blur_matrix(size: int, sigma: float, border: Border, truncate: float = 4.0) -> Tensor:
    """The matrix of a normal kernel along one axis, cut off at `truncate` σ, with shape (size, size)."""
    reach = int(truncate * sigma + 0.5)
    seen = places(torch.arange(-reach, size + reach), size, border)
    rows = (torch.arange(size)[:, None] + torch.arange(2 * reach + 1)).flatten()
    taps = normal_taps(sigma, reach).repeat(size)
    columns = seen[rows]
    inside = columns >= 0
    matrix = torch.zeros(size, size, dtype=torch.float64)
    at = (torch.arange(size).repeat_interleave(2 * reach + 1)[inside], columns[inside])
    return matrix.index_put(at, taps[inside], accumulate=True)


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Applies a matrix along each axis: rows (H′, H) and columns (W′, W)."""
    return rows.to(images) @ images @ columns.to(images).T


def places(index: Tensor, size: int, border: Border) -> Tensor:
    """The pixels that are seen at places which may lie beyond the border; −1 where nothing is."""
    if border == "zero":
        return torch.where((index >= 0) & (index < size), index, -1)
    if border == "edge":
        return index.clamp(0, size - 1)
    if border == "mirror":
        period = max(2 * (size - 1), 1)
        folded = index.remainder(period)
        return torch.minimum(folded, period - folded) % size
    folded = index.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded)


def sample(images: Tensor, y: Tensor, x: Tensor, border: Border) -> Tensor:
    """Sees images at other places, between pixels by linear interpolation.

    Arguments:
        images: The images, with shape (B, C, H, W).
        y: Rows, with shape (B, h, w).
        x: Columns, with shape (B, h, w).
        border: What lies beyond the border.

    Returns:
        Images with shape (B, C, h, w).
    """
    height, width = images.shape[2:]
    top, left = y.floor(), x.floor()
    down, right = (y - top)[:, None], (x - left)[:, None]
    flat = images.flatten(2)
    seen = torch.zeros((), dtype=images.dtype, device=images.device)
    for i, weight_y in ((0, 1 - down), (1, down)):
        for j, weight_x in ((0, 1 - right), (1, right)):
            rows = places(top.long() + i, height, border)
            columns = places(left.long() + j, width, border)
            inside = ((rows >= 0) & (columns >= 0)).to(images)[:, None]
            index = (rows.clamp(min=0) * width + columns.clamp(min=0)).flatten(1)
            pixels = flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))
            pixels = pixels.unflatten(2, tuple(y.shape[1:]))
            seen = seen + weight_y * weight_x * inside * pixels
    return seen


def correlate(images: Tensor, kernel: Tensor, border: Border) -> Tensor:
    """Applies a kernel of odd sides to every channel: the sum of k[i, j] x[· + i, · + j]."""
    reach = [side // 2 for side in kernel.shape]
    rows, columns = (
        places(torch.arange(-r, size + r), size, border).to(images.device)
        for r, size in zip(reach, images.shape[2:], strict=True)
    )
    padded = images[:, :, rows[:, None].clamp(min=0), columns.clamp(min=0)]
    if border == "zero":
        padded = padded * ((rows[:, None] >= 0) & (columns >= 0)).to(images)
    channels = images.shape[1]
    weight = kernel.to(images).expand(channels, 1, -1, -1)
    return F.conv2d(padded, weight, groups=channels)


def zoom_matrix(size: int, factor: float) -> Tensor:
    """The matrix that zooms into the middle along one axis, linearly, with shape (size, size).

    The middle ⌈size/factor⌉ pixels are stretched to round(⌈size/factor⌉ · factor), ends on ends, and
    the middle `size` of these are kept.
    """
    cropped = math.ceil(size / factor)
    stretched = round(cropped * factor)
    begin, trim = (size - cropped) // 2, (stretched - size) // 2
    step = (cropped - 1) / max(stretched - 1, 1)
    at = (torch.arange(size, dtype=torch.float64) + trim) * step  # (size,)
    low = at.floor().long().clamp(max=cropped - 1)
    high = (low + 1).clamp(max=cropped - 1)
    share = at - low
    matrix = torch.zeros(size, size, dtype=torch.float64)
    line = torch.arange(size)
    matrix = matrix.index_put((line, begin + low), 1 - share, accumulate=True)
    return matrix.index_put((line, begin + high), share, accumulate=True)
