"""Accuracy, certified accuracy and margins, over training."""

__all__ = ["certified"]

from collections.abc import Iterator

import torch
from torch import Tensor

from ..data import Split
from ..metrics import accuracy, certified_accuracy, margins
from ..records import Record
from ..training import Step
from ._registry import Recorder, registry

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@registry.register
def certified(
    split: Split, prefix: str = "test", radius: float = 36 / 255, limit: int = 1000
) -> Recorder:
    """Builds the recorder of what the network, as certified, makes of some images.

    With the prefix P, it yields `P/accuracy`, `P/certified_accuracy` at a radius, the quantiles of
    the margins in `P/margin`, and of the radii in `P/radius`.  The margin is the logit of the label
    minus the largest other, negative where the prediction is wrong, as is the radius.

    Arguments:
        split: The images and their labels.
        prefix: What the names of records start with.
        radius: The radius, ℓ2 in pixels of [0, 1].
        limit: The largest number of images; the first ones are taken.
    """
    split = split[:limit]
    labels, count = split.labels.cpu(), len(split)

    def record(step: Step) -> Iterator[Record]:
        when = {"step": step.index, "epoch": step.epoch}
        logits = step.certificate.logits(split.images)
        radii = step.certificate.radii_of(logits, labels)
        clean, safe = accuracy(logits, labels), certified_accuracy(radii, radius)
        at = {"radius": radius}
        yield Record(f"{prefix}/accuracy", clean, "fraction", count, **when)
        yield Record(f"{prefix}/certified_accuracy", safe, "fraction", count, details=at, **when)

        values = {"margin": (margins(logits, labels), "logits"), "radius": (radii, "l2 pixels")}
        for name, (numbers, unit) in values.items():
            for level, value in zip(_LEVELS, _quantiles(numbers), strict=True):
                details = {"quantile": level}
                yield Record(f"{prefix}/{name}", value, unit, count, details=details, **when)

    return record


def _quantiles(numbers: Tensor) -> list[float]:
    levels = torch.tensor(_LEVELS, dtype=numbers.dtype)
    return numbers.quantile(levels, interpolation="nearest").tolist()
