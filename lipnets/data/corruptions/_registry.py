"""The table of corruptions; their modules add to it."""

__all__ = ["Generators", "corruptions"]

from collections.abc import Sequence

import torch
from torch import Tensor

from ...registry import Registry

Generators = Sequence[torch.Generator]  # one for each image, on the CPU

corruptions: Registry[Tensor] = Registry("corruption")
