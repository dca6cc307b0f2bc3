"""Moves of images by whole pixels."""

__all__ = ["crop", "shift"]

import torch
from torch import Tensor
from torch.nn import functional as F

from ._registry import Augmentation, augmentations, check, to_device


@augmentations.register
def crop(padding: int = 4, padding_mode: str = "constant") -> Augmentation:
    """Pads images on all sides, then crops them to their size at a random place.

    Arguments:
        padding: The number of pixels on each side, at least 0.
        padding_mode: What to pad with, as in `torch.nn.functional.pad`: `"constant"` is black.
    """
    check(padding >= 0, "padding", "at least 0", padding)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        count, channels, height, width = images.shape
        draws = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
        top, left = to_device(draws, images).unbind()
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
