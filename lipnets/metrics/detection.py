"""How well a score tells known images from unknown ones.

The score is high for known images, which are the positives, in-distribution.  AUROC is the chance that a known image
has a higher score than an unknown one, ties counted as ½ (Mann and Whitney).  FPR95 is the share of
unknown images at or above the largest threshold that 95 % of the known ones reach: no threshold is
interpolated, and none that fewer reach is taken.
"""

__all__ = ["Separation", "separation"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_A_TIME = 2**22  # numbers of resamples that are held at once


@dataclass(frozen=True)
class Separation:
    """How well a score tells known images from unknown ones, with bootstrap intervals.

    Arguments:
        auroc: The area under the curve of hits against false alarms.
        auroc_ends: The ends of its interval.
        fpr: The share of unknown images that pass for known ones, where `level` of these do.
        fpr_ends: The ends of its interval.
    """

    auroc: float
    auroc_ends: tuple[float, float]
    fpr: float
    fpr_ends: tuple[float, float]


def separation(
    known: Tensor,
    unknown: Tensor,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Separation:
    """Measures how well a score tells known images from unknown ones.

    Both sides are resampled for the intervals.

    Arguments:
        known: Scores of known images, high where they seem known, with shape (N,).
        unknown: Scores of unknown images, with shape (M,).
        level: The share of known images that has to pass.
        resamples: The number of bootstrap samples.
        alpha: The probability of missing, split between both sides.
        seed: Which draw.

    Raises:
        ValueError: If there are no scores on one side, or one is not finite.
    """
    for name, scores in (("known", known), ("unknown", unknown)):
        if scores.ndim != 1 or len(scores) == 0:
            raise ValueError(f"There should be scores of {name} images, got {scores.shape}.")
        if not scores.isfinite().all():
            index = int((~scores.isfinite()).nonzero()[0])
            raise ValueError(
                f"Scores should be finite, got {scores[index]} of {name} image {index}."
            )
    both = torch.cat([known.detach().cpu().double(), unknown.detach().cpu().double()])
    values, places = both.unique(return_inverse=True)
    sides = places[: len(known)], places[len(known) :]
    whole = [torch.bincount(side, minlength=len(values))[None] for side in sides]
    auroc, fpr = (float(each) for each in _measure(whole[0], whole[1], level))

    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _AT_A_TIME // (len(values) + len(both)))
    found: list[tuple[Tensor, Tensor]] = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = [_resampled(side, len(values), size, generator) for side in sides]
        found.append(_measure(drawn[0], drawn[1], level))
    ends = torch.tensor([alpha / 2, 1 - alpha / 2], dtype=torch.float64)
    intervals: list[tuple[float, float]] = []
    for column in zip(*found, strict=True):
        low, high = torch.cat(column).quantile(ends).tolist()
        intervals.append((low, high))
    return Separation(auroc, intervals[0], fpr, intervals[1])


def _resampled(places: Tensor, values: int, size: int, generator: torch.Generator) -> Tensor:
    """How often each value is drawn in bootstrap samples, with shape (`size`, `values`)."""
    drawn = torch.randint(len(places), (size, len(places)), generator=generator)
    counts = torch.zeros(size, values, dtype=torch.int64)
    return counts.scatter_add_(1, places[drawn], torch.ones_like(drawn))


def _measure(known: Tensor, unknown: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """AUROC and FPR of counts of ascending values, each with shape (R, V)."""
    total, others = known.sum(dim=1), unknown.sum(dim=1)
    below = 2 * unknown.cumsum(dim=1) - unknown  # twice the unknown ones below, and ties once
    auroc = (known * below).sum(dim=1).double() / (2 * total * others)
    passing = known.flip(1).cumsum(dim=1)  # known images at or above a value, from the top
    alarms = unknown.flip(1).cumsum(dim=1)
    needed = math.ceil(level * int(total[0]) - 1e-9)
    threshold = (passing >= needed).int().argmax(dim=1, keepdim=True)  # the first from the top
    fpr = alarms.gather(1, threshold)[:, 0].double() / others
    return auroc, fpr
