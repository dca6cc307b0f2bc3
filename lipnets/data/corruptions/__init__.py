"""Corruptions of images: what cameras and the weather do to them, in five severities.

Constants are those of CIFAR-10-C, made for images of 32 pixels; images may be grey or coloured,
and of any size.  A corrupted image depends on the image, the corruption, the severity, its index
and a seed, and on nothing else: not on batches, their order, the device or what ran before.

They differ from the published arrays of CIFAR-10-C by the random draws, and by the truncation of
those to 8 bits: less than 1/255.

References:
    | Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
      (Hendrycks & Dietterich, 2019)
    | https://arxiv.org/abs/1903.12261
"""

__all__ = ["applicable", "corrupt", "corruptions", "names"]

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from . import blur, color, noise, pixelate
from ._registry import corruptions

names = corruptions.names

_COLOR_ONLY = ("saturate",)


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    indices: Tensor | Sequence[int],
    seed: int = 0,
) -> Tensor:
    """Corrupts images.

    Arguments:
        images: The images in [0, 1], with shape (B, C, H, W).
        name: The corruption, one of `names()`.
        severity: How much, from 1 to 5.
        indices: The index of each image in its data set, with shape (B,).
        seed: Which draw of the noise.

    Returns:
        Images in [0, 1], with shape (B, C, H, W).

    Raises:
        ValueError: If there is no such corruption or severity, if shapes do not fit, or if images
            of this many channels cannot be corrupted so.
    """
    function = corruptions[name]
    if severity not in range(1, 6):
        raise ValueError(f"'severity' should be 1, 2, 3, 4 or 5, got {severity}.")
    if images.ndim != 4 or len(indices) != len(images):
        raise ValueError(
            "'images' should have shape (B, C, H, W) and 'indices' shape (B,), got "
            f"{tuple(images.shape)} and ({len(indices)},)."
        )
    if len(images) == 0:
        return images.clone()
    numbers = indices.tolist() if isinstance(indices, Tensor) else indices
    generators = [_generator(seed, name, severity, int(index)) for index in numbers]
    return function(images, severity, generators).clamp(0, 1)


def applicable(in_chans: int) -> list[str]:
    """Names of the corruptions for images of so many channels: some are for colours only."""
    return [name for name in names() if in_chans == 3 or name not in _COLOR_ONLY]


def _generator(seed: int, name: str, severity: int, index: int) -> torch.Generator:
    """The source of randomness of one image."""
    key = f"{seed}|{name}|{severity}|{index}".encode()
    number = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(number)
