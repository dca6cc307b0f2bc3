"""Squares that are covered.

References:
    | Improved Regularization of Convolutional Neural Networks with Cutout (DeVries & Taylor, 2017)
    | https://arxiv.org/abs/1708.04552
"""

__all__ = ["cutout"]

import torch
from torch import Tensor

from ._registry import Augmentation, augmentations, check, to_device


@augmentations.register
def cutout(size: int = 8, fill: float = 0.0) -> Augmentation:
    """Covers a square at a random place, which may reach beyond the border.

    Arguments:
        size: The side of the square, in pixels, at least 1.
        fill: The value that its pixels get, in [0, 1].
    """
    check(size >= 1, "size", "at least 1", size)
    check(0 <= fill <= 1, "fill", "in [0, 1]", fill)

    def covered(length: int, count: int, generator: torch.Generator) -> Tensor:  # (B, length)
        start = torch.randint(length, (count, 1), generator=generator) - size // 2
        offset = torch.arange(length) - start
        return (offset >= 0) & (offset < size)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        rows, columns = (
            to_device(covered(side, count, generator), images) for side in (height, width)
        )
        square = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
        return images.masked_fill(square, fill)

    return augment
