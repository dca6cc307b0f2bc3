"""Clouds by midpoint displacement: the diamond-square algorithm on a torus.

References:
    | Computer rendering of stochastic models (Fournier, Fussell & Carpenter, 1982)
    | https://doi.org/10.1145/358523.358553
"""

__all__ = ["plasma"]

import torch
from torch import Tensor

from ._draws import uniform
from ._registry import Generators


def plasma(
    generators: Generators, decay: float, shape: tuple[int, int], like: Tensor, side: int = 2
) -> Tensor:
    """Clouds with values from 0 to 1, of which the upper left corner is returned.

    The first displacement is uniform in ±1, and the next, at half the step, in ±1/decay², ...

    Arguments:
        generators: The sources of randomness, one for each of the B clouds.
        decay: The root of the factor by which displacements get smaller.
        shape: The height and the width of what is returned.
        like: A tensor of the dtype and device to return.
        side: The least side of the clouds, a power of 2; more if the shape needs it.

    Returns:
        Clouds, with shape (B, H, W).
    """
    while side < max(shape):
        side *= 2
    draws = uniform(generators, (side**2 - 1,), -1, 1, like)  # one for each pixel but the first
    heights = like.new_zeros(len(generators), side, side)
    step, size, used = side, 1.0, 0
    while step >= 2:
        half, count = step // 2, (side // step) ** 2
        noise = size * draws[:, used : used + 3 * count]
        noise = noise.unflatten(1, (3, side // step, side // step))
        corners = heights[:, ::step, ::step].clone()
        centres = _around(_around(corners, 1, -1), 2, -1) / 4 + noise[:, 0]
        heights[:, half::step, half::step] = centres
        # Midpoints of the upper and the left sides: between two corners and two centres.
        upper = (_around(corners, 2, -1) + _around(centres, 1, 1)) / 4 + noise[:, 1]
        left = (_around(corners, 1, -1) + _around(centres, 2, 1)) / 4 + noise[:, 2]
        heights[:, ::step, half::step] = upper
        heights[:, half::step, ::step] = left
        used += 3 * count
        step, size = half, size / decay**2
    low, high = heights.amin(dim=(1, 2), keepdim=True), heights.amax(dim=(1, 2), keepdim=True)
    return ((heights - low) / (high - low))[:, : shape[0], : shape[1]]


def _around(grid: Tensor, dim: int, shift: int) -> Tensor:
    """Sums of neighbours along one axis."""
    return grid + torch.roll(grid, shift, dims=dim)
