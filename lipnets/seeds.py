"""Seeds that follow from a seed and a place: randomness without a state that could be lost."""

__all__ = ["derived_seed"]

import hashlib


def derived_seed(seed: int, *place: str | int) -> int:
    """A seed for one place of an experiment, such as a step or an epoch.

    What is drawn there is a function of the seed and the place alone: a training that was interrupted
    needs to know nothing else to go on to the same bits.

    Arguments:
        seed: The seed of the experiment.
        place: What tells the place from others, such as `("order", 3)`.

    Returns:
        An integer in [0, 2⁶³), the first bits of a hash.

    Example:
        >>> derived_seed(0, "order", 3) == derived_seed(0, "order", 3)
        True
        >>> derived_seed(0, "order", 3) == derived_seed(0, "order", 4)
        False
    """
    text = "\0".join(map(repr, (seed, *place)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
