"""From a law of corruption to corrupted images."""

__all__ = ["Law", "check", "corrupted"]

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._draws import generators_of
from ._filters import floor_levels
from ._registry import Generators

Law = Callable[[Tensor, Generators], Tensor]


def check(images: Tensor, indices: Tensor | Sequence[int], quantize: str | None) -> None:
    """Refuses what does not fit.

    Raises:
        ValueError: If it does not.
    """
    if images.ndim != 4 or len(indices) != len(images):
        raise ValueError(
            "'images' should have shape (B, C, H, W) and 'indices' shape (B,), got "
            f"{tuple(images.shape)} and ({len(indices)},)."
        )
    if quantize not in (None, "floor"):
        raise ValueError(f"'quantize' should be 'floor' or None, got '{quantize}'.")


@torch.no_grad()
def corrupted(
    law: Law,
    images: Tensor,
    key: tuple[int, str, int],
    indices: Tensor | Sequence[int],
    quantize: str | None,
) -> Tensor:
    """Applies a law in float64, clips what comes out, and cuts it to bytes if need be.

    Arguments:
        law: What is done to images.
        images: The images, with shape (B, C, H, W).
        key: The seed, the name and the severity, of which and the index random draws are made.
        indices: The index of each image in its data set, with shape (B,).
        quantize: `"floor"` for multiples of 1/255.
    """
    if len(images) == 0:
        return images.clone()
    changed = law(images.double(), generators_of(*key, indices)).clamp(0, 1)
    if quantize == "floor":
        changed = floor_levels(changed) / 255
    return changed.to(images)
