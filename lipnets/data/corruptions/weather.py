"""Fog, snow, and a stand-in for frost."""

__all__ = ["fog", "frost_proc", "snow", "veil"]

import torch
from torch import Tensor

from ._draws import normal, uniform
from ._filters import floor_levels, luma, separable, zoom_matrix
from ._plasma import plasma
from ._registry import Generators, corruptions
from .blur import streak

_ICE = (0.86, 0.93, 1.0)  # the colour of ice, in red, green and blue


@corruptions.register
def fog(images: Tensor, constants: tuple[float, float], generators: Generators) -> Tensor:
    """Clouds between the image and the camera, see `veil`."""
    weight, decay = constants
    clouds = plasma(generators, decay, _size(images), images)
    return veil(images, weight, clouds)


def veil(images: Tensor, weight: float, clouds: Tensor) -> Tensor:
    """(x + c·clouds) m / (m + c), where m is the largest value of the image."""
    most = images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + weight * clouds[:, None]) * (most / (most + weight))


@corruptions.register
def frost_proc(images: Tensor, constants: tuple[float, float], generators: Generators) -> Tensor:
    """Ice on the pane: ax + b·ice, with a procedural texture.

    The frost of CIFAR-10-C takes photographs, which are not here: this is another corruption, with
    its weights.  Ice is bright where two clouds are equally high, along ridges.
    """
    of_image, of_ice = constants
    first = plasma(generators, 1.75, _size(images), images)
    second = plasma(generators, 1.75, _size(images), images)
    ridges = 1 - (first - second).abs()
    ice = ridges.square()[:, None].expand(-1, images.shape[1], -1, -1)
    if images.shape[1] == 3:
        ice = ice * images.new_tensor(_ICE).reshape(1, 3, 1, 1)
    return of_image * images + of_ice * ice


@corruptions.register
def snow(images: Tensor, constants: tuple[float, ...], generators: Generators) -> Tensor:
    """Flakes that fall, twice, and an image that is paler.

    Flakes are what of normal noise, zoomed in, is above a threshold; they fall in a streak within
    45° of the columns, and the same flakes fall on the image turned by half a turn.
    """
    mean, sigma, zoom, threshold, radius, length, kept = constants
    height, width = images.shape[2:]
    flakes = mean + sigma * normal(generators, (1, height, width), images)
    flakes = separable(flakes, *(zoom_matrix(size, zoom) for size in (height, width)))
    flakes = torch.where(flakes < threshold, 0, flakes).clamp(0, 1)
    degrees = uniform(generators, (), -135, -45, images)
    flakes = streak(floor_levels(flakes) / 255, radius, length, degrees)
    pale = torch.maximum(images, 1.5 * luma(images) + 0.5)
    return kept * images + (1 - kept) * pale + flakes + flakes.flip(2, 3)


def _size(images: Tensor) -> tuple[int, int]:
    height, width = images.shape[2:]
    return height, width
