"""A test split for data sets that have none."""

__all__ = ["hold_out_third"]

import numpy as np
import torch

from .dataset import Split


def hold_out_third(split: Split, seed: int = 0) -> tuple[Split, Split]:
    """Splits examples in two thirds to train on and one third to test on, class by class.

    Of the n examples of a class, ⌊n/3⌋ or ⌈n/3⌉ are held out, and of all N examples, as many as
    the integer nearest to N/3.  The order of examples is kept.

    Arguments:
        split: The examples, at least 3.
        seed: Which split: it is the same on every machine.

    Raises:
        ValueError: If there are fewer than 3 examples.
    """
    if len(split) < 3:
        raise ValueError(
            f"There should be 3 examples or more to hold out a third, got {len(split)}."
        )
    # The stream of RandomState is frozen (NEP 19), those of torch and default_rng are not.
    shuffled = np.random.RandomState(seed).permutation(len(split))
    by_class = shuffled[np.argsort(split.labels.numpy()[shuffled], kind="stable")]
    held_out = torch.zeros(len(split), dtype=torch.bool)
    held_out[torch.from_numpy(by_class[1::3].copy())] = True
    return split[~held_out], split[held_out]
