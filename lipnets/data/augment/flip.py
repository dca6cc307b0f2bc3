"""Mirror images."""

__all__ = ["flip"]

import torch
from torch import Tensor

from ._registry import Augmentation, augmentations, check, to_device


@augmentations.register
def flip(p: float = 0.5) -> Augmentation:
    """Mirrors images, left to right.

    Arguments:
        p: The probability with which an image is mirrored, in [0, 1].
    """
    check(0 <= p <= 1, "p", "in [0, 1]", p)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(len(images), generator=generator, dtype=torch.float64)
        mirrored = to_device(draws < p, images)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)

    return augment
