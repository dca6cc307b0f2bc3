"""What studies of the stochastic theory share: how they train, and the sums of what is predicted."""

__all__ = ["TERMS", "every_step", "orders"]

from collections.abc import Sequence
from typing import Any

TERMS = ("drift", "noise_curvature", "ito", "deterministic")  # of the mean of a step
_ALL = 10**9  # examples: all there are, as theory has the gradient of the loss itself


def every_step(steps: int) -> dict[str, Any]:
    """Changes of a config: each step is predicted, from all images, and then entered.

    Arguments:
        steps: The number of optimization steps.
    """
    return {
        "data.replacement": True,  # as theory has it: batches that know nothing of each other
        "schedule.max_steps": steps,
        "record.ledger": {"every": 1},
        "record.drivers": {"every": 1, "examples": _ALL},
    }


def orders(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Changes that are repeated with the images in another order, and nothing else."""
    return [{"data.order_seed": seed} for seed in seeds]
