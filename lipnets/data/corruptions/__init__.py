"""Corruptions of images: what cameras and the weather do to them, in five severities.

Constants are those of CIFAR-10-C, made for images of 32 pixels; images may be grey or coloured,
and of any size.  A corrupted image depends on the image, the corruption, the severity, its index
and a seed, and on nothing else: not on batches, their order, the device or what ran before.

They differ from the published arrays of CIFAR-10-C by the random draws, and by the truncation of
those to 8 bits, less than 1/255, unless `quantize="floor"`.  The photographs of `frost` are not
here: `frost_proc` is a procedural stand-in, another corruption.  `mnist_c` has those of MNIST-C.

References:
    | Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
      (Hendrycks & Dietterich, 2019)
    | https://arxiv.org/abs/1903.12261
"""

__all__ = [
    "CONSTANTS",
    "EXTRA",
    "FAMILIES",
    "MAIN",
    "STAND_INS",
    "applicable",
    "corrupt",
    "corruptions",
    "family",
    "mnist_c",
    "names",
]

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from . import (
    blur,
    color,
    elastic,
    glass,
    jpeg,
    mnist_c,
    noise,
    pixelate,
    spatter,
    weather,
)
from ._constants import CONSTANTS, EXTRA, FAMILIES, MAIN, STAND_INS
from ._corrupting import check, corrupted
from ._registry import corruptions

names = corruptions.names

_COLOR_ONLY = ("saturate",)


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    indices: Tensor | Sequence[int],
    seed: int = 0,
    *,
    quantize: Literal["floor"] | None = None,
) -> Tensor:
    """Corrupts images.

    Arguments:
        images: The images in [0, 1], with shape (B, C, H, W).
        name: The corruption, one of `names()`.
        severity: How much, from 1 to 5.
        indices: The index of each image in its data set, with shape (B,).
        seed: Which draw of the noise.
        quantize: `"floor"` for the next lower multiples of 1/255, as published arrays have them.

    Returns:
        Images in [0, 1], with shape (B, C, H, W) and the same dtype; computed in float64.

    Raises:
        ValueError: If there is no such corruption or severity, if shapes do not fit, or if images
            of this many channels cannot be corrupted so.
    """
    law = corruptions[name]
    if severity not in range(1, 6):
        raise ValueError(f"'severity' should be 1, 2, 3, 4 or 5, got {severity}.")
    check(images, indices, quantize)
    constants = CONSTANTS[name][severity - 1]
    return corrupted(
        lambda exact, generators: law(exact, constants, generators),
        images,
        (seed, name, severity),
        indices,
        quantize,
    )


def applicable(in_chans: int) -> list[str]:
    """Names of the corruptions for images of so many channels: some are for colours only."""
    return [name for name in names() if in_chans == 3 or name not in _COLOR_ONLY]


def family(name: str) -> str:
    """The family of a corruption: noise, blur, weather or digital; extra; or what it stands in for.

    Example:
        >>> family("fog"), family("spatter"), family("frost_proc")
        ('weather', 'extra', 'stand-in')
    """
    for each, members in FAMILIES.items():
        if name in members:
            return each
    return "stand-in" if name in STAND_INS.values() else "extra"
