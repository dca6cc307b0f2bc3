"""Sizes of images as plain numbers."""

__all__ = ["known_size"]

from operator import index

from torch import Tensor


def known_size(x: Tensor) -> tuple[int, int]:
    """Height and width of images.

    Numbers where `torch.compile` would go on with symbols: what is computed from them once, outside
    of the graph, needs their values.
    """
    return index(x.shape[-2]), index(x.shape[-1])
