"""Augmentation: random changes of training images.

An augmentation is a function of a batch of images and of a random generator.  It changes all
images at once, each in its own way, where they are, and keeps pixels in [0, 1] and labels as they
are.  A `Mixing`, such as `mixup`, changes labels with the images.
"""

__all__ = [
    "Augmentation",
    "Mixing",
    "affine",
    "augmentations",
    "auto_augment",
    "build",
    "crop",
    "cutmix",
    "cutout",
    "flip",
    "mixup",
    "names",
    "rand_augment",
    "shift",
    "trivial_augment",
]

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..labels import Labels
from ._registry import Augmentation, Mixing, augmentations
from .affine import affine
from .crop import crop, shift
from .cutout import cutout
from .flip import flip
from .mixing import cutmix, mixup
from .policies import auto_augment, rand_augment, trivial_augment

names = augmentations.names


def build(specs: Sequence[str | Mapping[str, Any]]) -> Augmentation | Mixing:
    """Builds a chain of augmentations, which is a `Mixing` if one of them is.

    Arguments:
        specs: What to do, in this order: names, or names with their arguments, such as
            `{"name": "crop", "padding": 2}`.

    Raises:
        ValueError: If there is no augmentation of that name.
        TypeError: If it does not take one of the arguments, or if there is no name.

    Example:
        >>> augment = build(["flip", {"name": "crop", "padding": 2}])
        >>> augment(torch.rand(5, 3, 32, 32), torch.Generator()).shape
        torch.Size([5, 3, 32, 32])
    """
    steps = [_build_one(spec) for spec in specs]
    if any(isinstance(step, Mixing) for step in steps):

        def mix(
            images: Tensor, labels: Labels, generator: torch.Generator
        ) -> tuple[Tensor, Labels]:
            for step in steps:
                if isinstance(step, Mixing):
                    images, labels = step(images, labels, generator)
                else:
                    images = step(images, generator)
            return images, labels

        return Mixing(mix)

    plain = [step for step in steps if not isinstance(step, Mixing)]

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        for step in plain:
            images = step(images, generator)
        return images

    return augment


def _build_one(spec: str | Mapping[str, Any]) -> Augmentation | Mixing:
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in settings:
        raise TypeError(f"An augmentation should have a 'name', got {settings}.")
    return augmentations.build(settings.pop("name"), **settings)
