"""What an augmentation is, and the table of them; their modules add to it."""

__all__ = ["Augmentation", "Mixing", "augmentations", "check", "to_device"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...registry import Registry
from ..labels import Labels

Augmentation = Callable[[Tensor, torch.Generator], Tensor]  # (B, C, H, W) -> (B, C, H, W)


@dataclass(frozen=True)
class Mixing:
    """An augmentation that changes labels with the images.

    Arguments:
        mix: Takes images (B, C, H, W), labels (B,) and a generator, and returns both anew.
    """

    mix: Callable[[Tensor, Labels, torch.Generator], tuple[Tensor, Labels]]

    def __call__(
        self, images: Tensor, labels: Labels, generator: torch.Generator
    ) -> tuple[Tensor, Labels]:
        return self.mix(images, labels, generator)


augmentations: Registry[Augmentation | Mixing] = Registry("augmentation")


def check(holds: bool, name: str, law: str, value: float) -> None:
    """Refuses an argument.

    Raises:
        ValueError: If the law does not hold.
    """
    if not holds:
        raise ValueError(f"'{name}' should be {law}, got {value}.")


def to_device(draws: Tensor, images: Tensor) -> Tensor:
    """What was drawn on the CPU, where images are: the CPU does not wait for it to arrive."""
    return draws.to(images.device, non_blocking=True)
