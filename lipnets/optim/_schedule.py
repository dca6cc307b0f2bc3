"""The schedule of the learning rate.

References:
    | Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates
    | (Smith & Topin, 2018) https://arxiv.org/abs/1708.07120, with torch's numbers for `one_cycle`
"""

__all__ = ["Schedule", "create_scheduler"]

import math
from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine", "linear", "one_cycle", "step"]


def create_scheduler(
    optimizer: Optimizer,
    steps: int,
    warmup_steps: int = 0,
    *,
    name: Schedule = "cosine",
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> LambdaLR:
    """Builds a schedule with a warm-up, to be stepped after every optimization step.

    With w warm-up steps of n, step i (from 0) is taken at the peak rate times (i + 1) / (w + 1)
    while i < w, and with q = (i − w) / (n − w) afterwards times

    - `cosine`: ½ (1 + cos π q), never 0
    - `linear`: 1 − q, never 0
    - `constant`: 1
    - `step`: γ to the power of the number of milestones that are at most i
    - `one_cycle`: as cosine, but from 1/25 to 1 in the warm-up, and down to 4e-6, by half a
      wave of a cosine each; momentum is left as it is, which the paper cycles as well

    Arguments:
        optimizer: The optimizer, at its peak learning rate.
        steps: The number n of all steps.
        warmup_steps: The number w of steps before the peak.
        name: The shape of the schedule.
        milestones: The steps of `step`.
        gamma: Their factor γ.

    Raises:
        ValueError: If the warm-up leaves no step, or there is no schedule of that name.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"'warmup_steps' should be in [0, {steps}), got {warmup_steps}.")
    if name not in ("constant", "cosine", "linear", "one_cycle", "step"):
        raise ValueError(
            f"No schedule is called '{name}': it has constant, cosine, linear, one_cycle, step."
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            if name == "one_cycle":
                return 1 - (1 - 1 / 25) * _half_wave(step / warmup_steps)
            return (step + 1) / (warmup_steps + 1)
        passed = min((step - warmup_steps) / (steps - warmup_steps), 1.0)
        if name == "one_cycle":
            return 4e-6 + (1 - 4e-6) * _half_wave(passed)
        if name == "step":
            return gamma ** sum(milestone <= step for milestone in milestones)
        return {"constant": 1.0, "cosine": _half_wave(passed), "linear": 1 - passed}[name]

    return LambdaLR(optimizer, factor)


def _half_wave(passed: float) -> float:
    """From 1 to 0."""
    return (1 + math.cos(math.pi * passed)) / 2
