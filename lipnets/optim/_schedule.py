"""The schedule of the learning rate."""

__all__ = ["create_scheduler"]

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def create_scheduler(optimizer: Optimizer, steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Builds a cosine schedule with a linear warm-up, to be stepped after every optimization step.

    With w warm-up steps of n, step i (from 0) is taken at the peak rate times (i + 1) / (w + 1)
    while i < w, and times ½ (1 + cos π (i − w) / (n − w)) afterwards: never at rate 0.

    Arguments:
        optimizer: The optimizer, at its peak learning rate.
        steps: The number n of all steps.
        warmup_steps: The number w of steps before the peak.

    Raises:
        ValueError: If the warm-up leaves no step.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"'warmup_steps' should be in [0, {steps}), got {warmup_steps}.")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        passed = (step - warmup_steps) / (steps - warmup_steps)
        return (1 + math.cos(math.pi * min(passed, 1.0))) / 2

    return LambdaLR(optimizer, factor)
