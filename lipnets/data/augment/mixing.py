"""Mixtures of two images and of their labels.

References:
    | mixup: Beyond Empirical Risk Minimization (Zhang et al., 2018)
    | https://arxiv.org/abs/1710.09412
    | CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features
    | (Yun et al., 2019) https://arxiv.org/abs/1905.04899

As in the code of both papers, a batch is mixed with a permutation of itself, by one weight.
"""

__all__ = ["cutmix", "mixup"]

import math

import numpy as np
import torch
from torch import Tensor

from ..labels import Labels, Mixed
from ._registry import Mixing, augmentations, check, to_device


@augmentations.register
def mixup(alpha: float = 1.0, p: float = 1.0) -> Mixing:
    """Takes means of two images, with weights w and 1 − w, where w is of the distribution β(α, α).

    Arguments:
        alpha: The number α, positive: the larger, the nearer are weights to ½.
        p: The probability with which a batch is mixed, in [0, 1].
    """
    _check(alpha, p)

    def mix(images: Tensor, labels: Labels, generator: torch.Generator) -> tuple[Tensor, Labels]:
        weight, order = _draw(alpha, p, len(images), generator)
        order = to_device(order, images)
        mixed = (weight * images + (1 - weight) * images[order]).clamp_(0, 1)
        return mixed, Mixed(labels, labels[order], weight)

    return Mixing(mix)


@augmentations.register
def cutmix(alpha: float = 1.0, p: float = 1.0) -> Mixing:
    """Puts a rectangle of another image into each, at the same random place in all of a batch.

    Its sides are those of the image times √(1 − w), where w is of the distribution β(α, α).  It may
    reach beyond the border: the weight of the label is the share of pixels that are left.

    Arguments:
        alpha: The number α, positive: the larger, the nearer are weights to ½.
        p: The probability with which a batch is mixed, in [0, 1].
    """
    _check(alpha, p)

    def mix(images: Tensor, labels: Labels, generator: torch.Generator) -> tuple[Tensor, Labels]:
        weight, order = _draw(alpha, p, len(images), generator)
        order = to_device(order, images)
        side = math.sqrt(1 - weight)
        rows, columns = (_interval(length, side, generator) for length in images.shape[2:])
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
        taken = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - taken / (images.shape[2] * images.shape[3])
        return mixed, Mixed(labels, labels[order], share)

    return Mixing(mix)


def _check(alpha: float, p: float) -> None:
    check(0 < alpha < math.inf, "alpha", "positive", alpha)
    check(0 <= p <= 1, "p", "in [0, 1]", p)


def _draw(alpha: float, p: float, count: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """The weight of a batch, 1 if it is not mixed, and a permutation."""
    chance = torch.rand((), generator=generator, dtype=torch.float64).item()
    # Of torch's distributions, β takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha)) if chance < p else 1.0
    return weight, torch.randperm(count, generator=generator)


def _interval(length: int, share: float, generator: torch.Generator) -> slice:
    """A share of a side about a random pixel, inside the image."""
    centre, size = int(torch.randint(length, (), generator=generator)), int(length * share)
    start = centre - size // 2
    return slice(max(start, 0), min(start + size, length))
