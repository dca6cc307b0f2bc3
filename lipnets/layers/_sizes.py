"""Sizes of images and of windows as plain numbers."""

__all__ = ["known_size", "pair"]

from collections.abc import Sequence
from operator import index

from torch import Tensor


def known_size(x: Tensor) -> tuple[int, int]:
    """Height and width of images.

    Numbers where `torch.compile` would go on with symbols: what is computed from them once, outside
    of the graph, needs their values.
    """
    return index(x.shape[-2]), index(x.shape[-1])


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """A number for each of two axes, from one for both or from two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
