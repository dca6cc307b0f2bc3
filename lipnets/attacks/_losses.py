"""What attacks maximize: positive, or larger than any value of a right prediction, where it is wrong.

All are functions of logits (B, K), labels (B,) and target classes (B,), which only targeted ones read,
and give one number an image.
"""

__all__ = ["LOSSES", "Loss", "losses_for"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-12  # in units of the median margin: keeps quotients of ties finite


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The largest logit of another class, less that of the label."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(dim=1) - _at(logits, labels)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The logit of the target, less that of the label."""
    return _at(logits, targets) - _at(logits, labels)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The margin over the lead of the largest logit before the third."""
    top = logits.topk(3, dim=1).values
    return margin(logits, labels, targets) / (top[:, 0] - top[:, 2]).clamp_min(_TINY)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted margin over the lead of the largest logit before the mean of the third and fourth."""
    top = logits.topk(4, dim=1).values
    lead = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return targeted_margin(logits, labels, targets) / lead.clamp_min(_TINY)


@dataclass(frozen=True)
class Loss:
    """A loss, and where it can be used.

    Arguments:
        value: The function.
        targeted: Whether it is of one class beside the label.
        classes: The number of classes that it needs.
    """

    value: Callable[[Tensor, Tensor, Tensor], Tensor]
    targeted: bool
    classes: int


LOSSES = {
    "ce": Loss(cross_entropy, False, 2),
    "margin": Loss(margin, False, 2),
    "dlr": Loss(dlr, False, 3),
    "targeted_margin": Loss(targeted_margin, True, 2),
    "targeted_dlr": Loss(targeted_dlr, True, 4),
}


def losses_for(num_classes: int) -> tuple[str, ...]:
    """The losses of a thorough attack: quick ones first, and none that needs more classes.

    Example:
        >>> losses_for(10), losses_for(3), losses_for(2), losses_for(1)
        (('margin', 'ce', 'targeted_dlr'), ('margin', 'ce', 'targeted_margin'), ('margin', 'ce'), ())
    """
    if num_classes < 2:
        return ()
    last = {2: (), 3: ("targeted_margin",)}.get(num_classes, ("targeted_dlr",))
    return ("margin", "ce", *last)


def _at(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)
