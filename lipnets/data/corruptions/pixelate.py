"""Fewer pixels."""

__all__ = ["pixelate"]

import torch
from torch import Tensor

from ._registry import Generators, corruptions


@corruptions.register
def pixelate(images: Tensor, factor: float, generators: Generators) -> Tensor:
    """Scales images down to c times their size, and up again, as Pillow does with `BOX`.

    Pillow rounds to whole grey levels after each of four passes; this does not.
    """
    rows, columns = (_down_and_up(size, factor).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _down_and_up(size: int, factor: float) -> Tensor:
    """The matrix of both passes along one axis, with shape (size, size)."""
    small = max(int(size * factor), 1)
    return _box(small, size) @ _box(size, small)


def _box(old: int, new: int) -> Tensor:
    """The matrix of a box filter that takes `old` pixels to `new`, with shape (new, old).

    A new pixel is the mean of the old ones whose centres it covers, as large as itself or as an
    old one, whichever is larger.
    """
    scale = old / new
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    distance = torch.arange(old, dtype=torch.float64) + 0.5 - centres[:, None]  # (new, old)
    half = max(scale, 1.0) / 2
    covered = ((distance > -half) & (distance <= half)).double()
    return covered / covered.sum(dim=1, keepdim=True)
