"""A network that no rule covers: it can be measured, and nothing is proved of it."""

__all__ = ["Uncertified"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..bounds import without_autocast
from ..metrics import correct


@dataclass(frozen=True, eq=False)
class Uncertified:
    """The certificate that every function has: its Lipschitz constant is at most ∞, radii are 0.

    Arguments:
        program: The network, in evaluation mode and in float64.
        num_classes: The number of logits.
        reason: Why there is no better one.
        arithmetic: That of the program.
        lipschitz: The bound, infinite.
    """

    program: nn.Module
    num_classes: int
    reason: str
    arithmetic: str = "float64"
    lipschitz: float = math.inf

    @property
    def vacuous(self) -> bool:
        """Whether there is a single class: no perturbation can change the prediction."""
        return self.num_classes == 1

    @torch.no_grad()
    def logits(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Runs the network.

        Arguments:
            images: The images, with shape (B, *S).
            batch_size: The number of images at a time.

        Returns:
            The logits, with shape (B, K), in float64.
        """
        tensors = [*self.program.parameters(), *self.program.buffers()]
        device = tensors[0].device if tensors else torch.device("cpu")
        with without_autocast(self.program):
            parts = [
                self.program(batch.to(device, torch.float64, copy=True))
                for batch in images.split(batch_size)
            ]
        return torch.cat(parts).cpu().double()

    def radii_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Radii that need no proof: 0, and negative where the prediction is wrong."""
        return torch.where(correct(logits, labels), 0.0, -1.0).double()
