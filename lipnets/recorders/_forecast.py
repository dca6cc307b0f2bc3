"""What was said that a step of SGD would do to a norm, and what it did."""

__all__ = ["Forecast", "is_plain_sgd", "lr_of"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Optimizer

from ..records import Record


@dataclass(frozen=True)
class Forecast:
    """What was said of one norm: of a layer at a place, or of the network.

    Arguments:
        kind: The details of its records that name it.
        place: The place.
        before: log σ₁ before the step.
        mean: The mean of its change.
        variance: The variance of what is seen less what was said.
        valid: Whether the formulas hold.
    """

    kind: dict[str, str]
    place: int
    before: float
    mean: float
    variance: float
    valid: bool

    def compared(self, now: float, when: dict[str, Any]) -> Iterator[Record]:
        """The record `driver/z` of log σ₁ after the step, unless the formulas gave no numbers."""
        observed = now - self.before
        if not self.variance > 0 or not all(
            map(math.isfinite, (observed, self.mean, self.variance))
        ):
            return
        z = (observed - self.mean) / math.sqrt(self.variance)
        details = {**self.kind, "observed": observed, "predicted": self.mean, "valid": self.valid}
        yield Record("driver/z", z, "1", details=details, **when)


def is_plain_sgd(optimizer: Optimizer) -> bool:
    """Whether a step is the gradient times the learning rate."""
    return type(optimizer) is SGD and not any(
        group["momentum"] or group["weight_decay"] or group["maximize"] or "lookahead_step" in group
        for group in optimizer.param_groups
    )


def lr_of(optimizer: Optimizer, parameter: nn.Parameter) -> float:
    """The learning rate of the next step of a parameter; 0 if the optimizer does not change it."""
    for group in optimizer.param_groups:
        if any(each is parameter for each in group["params"]):
            return float(group["lr"])
    return 0.0
