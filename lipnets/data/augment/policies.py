"""Augmentations that draw an operation and its strength for every image.

References:
    | AutoAugment: Learning Augmentation Policies from Data (Cubuk et al., 2019)
    | https://arxiv.org/abs/1805.09501, table 7: the policy of CIFAR-10
    | RandAugment: Practical Automated Data Augmentation with a Reduced Search Space
    | (Cubuk et al., 2020) https://arxiv.org/abs/1909.13719
    | TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation (Müller & Hutter, 2021)
    | https://arxiv.org/abs/2103.10158

Ranges of strengths are those of torchvision.  What differs: values are not rounded to bytes between
operations, and no translation is longer than a side.
"""

__all__ = ["auto_augment", "rand_augment", "trivial_augment"]

import torch
from torch import Tensor

from ._registry import Augmentation, augmentations, check
from .operations import OPERATIONS, apply

_NAMES = tuple(OPERATIONS)
_SIGNED = _NAMES[1:10]  # from `shear_x` to `sharpness`: either way
_DRAWN = _NAMES[:-1]  # RandAugment and TrivialAugment do not invert


@augmentations.register
def trivial_augment(strength: float = 1.0) -> Augmentation:
    """Does one operation of 14 to every image, with a strength of 31, all as likely (TrivialAugment).

    Arguments:
        strength: The share of the ranges that strengths are drawn from, in [0, 1].
    """
    check(0 <= strength <= 1, "strength", "in [0, 1]", strength)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        choice = torch.randint(len(_DRAWN), (len(images),), generator=generator)
        level = torch.randint(31, (len(images),), generator=generator) / 30 * strength
        return _apply(images, choice, level, generator, wide=True)

    return augment


@augmentations.register
def rand_augment(num_ops: int = 2, magnitude: float = 9.0) -> Augmentation:
    """Does some operations of 14 to every image, one after the other, with one strength.

    Arguments:
        num_ops: The number of operations, at least 1.
        magnitude: The strength, in [0, 30].
    """
    check(num_ops >= 1, "num_ops", "at least 1", num_ops)
    check(0 <= magnitude <= 30, "magnitude", "in [0, 30]", magnitude)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        for _ in range(num_ops):
            choice = torch.randint(len(_DRAWN), (len(images),), generator=generator)
            level = torch.full((len(images),), magnitude / 30)
            images = _apply(images, choice, level, generator, wide=False)
        return images

    return augment


# Two operations, each with its probability in tenths and its strength in ninths.
_CIFAR10 = """
invert 1 0 contrast 2 6, rotate 7 2 translate_x 3 9, sharpness 8 1 sharpness 9 3,
shear_y 5 8 translate_y 7 9, auto_contrast 5 0 equalize 9 0, shear_y 2 7 posterize 3 7,
color 4 3 brightness 6 7, sharpness 3 9 brightness 7 9, equalize 6 0 equalize 5 0,
contrast 6 7 sharpness 6 5, color 7 7 translate_x 5 8, equalize 3 0 auto_contrast 4 0,
translate_y 4 3 sharpness 2 6, brightness 9 6 color 2 8, solarize 5 2 invert 0 0,
equalize 2 0 auto_contrast 6 0, equalize 2 0 equalize 6 0, color 9 9 equalize 6 0,
auto_contrast 8 0 solarize 2 8, brightness 1 3 color 7 0, solarize 4 5 auto_contrast 9 0,
translate_y 9 9 translate_y 7 9, auto_contrast 9 0 solarize 8 3, equalize 8 0 invert 1 0,
translate_y 7 9 auto_contrast 9 0
"""


@augmentations.register
def auto_augment() -> Augmentation:
    """Draws for every image one of the 25 pairs of operations that AutoAugment found for CIFAR-10."""
    rows = [policy.split() for policy in _CIFAR10.split(",")]
    pairs = [[row[:3], row[3:]] for row in rows]
    choices = torch.tensor([[_NAMES.index(each[0]) for each in pair] for pair in pairs])  # (25, 2)
    chances = torch.tensor([[int(each[1]) for each in pair] for pair in pairs]) / 10
    levels = torch.tensor([[int(each[2]) for each in pair] for pair in pairs]) / 9

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        policy = torch.randint(len(rows), (len(images),), generator=generator)
        for turn in range(2):
            does = torch.rand(len(images), generator=generator) < chances[policy, turn]
            choice = choices[policy, turn] * does  # 0 is the identity
            images = _apply(images, choice, levels[policy, turn], generator, wide=False)
        return images

    return augment


def _apply(
    images: Tensor, choice: Tensor, level: Tensor, generator: torch.Generator, *, wide: bool
) -> Tensor:
    """Does the operations chosen, with strengths at a share `level` of their ranges."""
    height, width = images.shape[2:]
    ranges = {
        "shear_x": 0.99 if wide else 0.3,
        "shear_y": 0.99 if wide else 0.3,
        "translate_x": min(32, width) if wide else width * 150 / 331,
        "translate_y": min(32, height) if wide else height * 150 / 331,
        "rotate": 135 if wide else 30,
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.99 if wide else 0.9),
    }
    sign = 1 - 2 * torch.randint(2, (len(images),), generator=generator)
    strength = torch.zeros(len(images), dtype=torch.float64)
    for position, name in enumerate(_NAMES):
        own = choice == position
        if name in _SIGNED:
            value = sign * level * ranges[name]
            value = value.trunc() if name.startswith("translate") else value
        else:  # bits that stay, or brightness from which on values are inverted
            value = 8 - level * (6 if wide else 4) if name == "posterize" else 1 - level
        strength = torch.where(own, value.double(), strength)
    return apply(images, _NAMES, choice, strength)
