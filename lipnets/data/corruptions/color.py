"""Light and colour: pixels change one by one.

The space is HSV: the value V of a pixel is its largest channel, the saturation S = (V - min)/V.
At a given hue and value, channels are affine in S, and at a given hue and saturation they are
proportional to V: hues need not be computed.
"""

__all__ = ["brightness", "contrast", "saturate"]

import torch
from torch import Tensor

from ._registry import Generators, corruptions


@corruptions.register
def brightness(images: Tensor, gain: float, generators: Generators) -> Tensor:
    """More light: V + c, at the same hue and saturation."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + gain).clamp(max=1)
    black = value == 0  # black is grey: its saturation is 0
    return torch.where(black, brighter, images * (brighter / torch.where(black, 1, value)))


@corruptions.register
def contrast(images: Tensor, factor: float, generators: Generators) -> Tensor:
    """Less contrast: (x - μ)c + μ, where μ is the mean of a channel."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * factor + mean


@corruptions.register
def saturate(images: Tensor, constants: tuple[float, float], generators: Generators) -> Tensor:
    """Paler or stronger colours: aS + b, at the same hue and value.

    Grey has the hue of red, as in the reference code: at severities 4 and 5 it turns red.

    Raises:
        ValueError: If images do not have 3 channels.
    """
    if images.shape[1] != 3:
        raise ValueError(f"'saturate' is for images with 3 channels, got {images.shape[1]}.")
    factor, offset = constants
    value = images.amax(dim=1, keepdim=True)
    spread = value - images.amin(dim=1, keepdim=True)  # VS
    grey = spread == 0
    # A channel is V(1 - Sk), where k in [0, 1] depends on the hue alone: (0, 1, 1) for red.
    red = torch.tensor([0, 1, 1], device=images.device).to(images).reshape(1, 3, 1, 1)
    hue = torch.where(grey, red, (value - images) / torch.where(grey, 1, spread))
    saturation = spread / torch.where(value == 0, 1, value)
    return value * (1 - (factor * saturation + offset).clamp(0, 1) * hue)
