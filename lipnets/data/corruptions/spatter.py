"""Drops of water, or mud, on the lens."""

__all__ = ["muddy", "spatter"]

import torch
from torch import Tensor

from ._draws import normal
from ._edges import canny, distances
from ._filters import blur_matrix, correlate, floor_levels, luma, separable
from ._registry import Generators, corruptions

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
_RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))  # light falls on drops from the upper left


@corruptions.register
def spatter(images: Tensor, constants: tuple[float, ...], generators: Generators) -> Tensor:
    """Drops, where blurred normal noise is above a threshold: water shines, mud hides.

    Water is added in proportion to the noise and to a relief of the distance to the edges of drops,
    mud replaces the image.  OpenCV's edges and distances, of which the published arrays are made,
    are approximate; these differ from them a little.
    """
    mean, deviation, sigma, threshold, strength, mud = constants
    drops = mean + deviation * normal(generators, (1, *images.shape[2:]), images)
    rows, columns = (blur_matrix(size, sigma, "edge") for size in images.shape[2:])
    drops = separable(drops, rows, columns)
    drops = torch.where(drops < threshold, 0, drops)
    if mud:
        return muddy(images, drops > threshold, strength, _of_channels(images, _MUD))
    levels = floor_levels(drops.clamp(0, 1))
    shine = levels * _relief(levels)
    most = shine.amax(dim=(2, 3), keepdim=True)
    shine = strength * shine / torch.where(most == 0, 1, most)
    return images + shine * _of_channels(images, _WATER)


def muddy(images: Tensor, drops: Tensor, sigma: float, color: Tensor) -> Tensor:
    """Hides images behind drops of a colour, their borders blurred: whatever is less than 0.8 of mud
    is none.
    """
    rows, columns = (blur_matrix(size, sigma, "edge") for size in images.shape[2:])
    cover = separable(drops.to(images), rows, columns)
    cover = torch.where(cover < 0.8, 0, cover)
    return images * (1 - cover) + color * cover


def _relief(levels: Tensor) -> Tensor:
    """The distance to the edges of drops as heights that are lit, in grey levels."""
    mean = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    far = distances(canny(levels, 50, 150, border="edge", absolute=True), most=20).to(levels)
    heights = _equalized((correlate(far, mean, "mirror") + 1e-6).floor())
    lit = correlate(heights, torch.tensor(_RELIEF).double(), "mirror").round().clamp(0, 255)
    return (correlate(lit, mean, "mirror") + 0.5 - 1e-6).floor()


def _equalized(levels: Tensor) -> Tensor:
    """Spreads whole numbers in [0, 255] by their ranks: the least becomes 0, the largest 255.

    An image of one level stays as it is.
    """
    index = levels.flatten(1).long()
    counts = levels.new_zeros(len(levels), 256).scatter_add(
        1, index, levels.new_ones(()).expand_as(index)
    )
    below = counts.cumsum(dim=1)
    least = counts.gather(1, index.amin(dim=1, keepdim=True))
    others = index.shape[1] - least
    ranks = ((below - least) * (255 / torch.where(others == 0, 1, others))).round()
    spread = ranks.gather(1, index).view_as(levels)
    return torch.where((others == 0)[:, :, None, None], levels, spread)


def _of_channels(images: Tensor, color: tuple[float, float, float]) -> Tensor:
    """A colour in the channels of images: what it has of light, unless there are three."""
    rgb = images.new_tensor(color).reshape(1, 3, 1, 1)
    return rgb if images.shape[1] == 3 else luma(rgb)
