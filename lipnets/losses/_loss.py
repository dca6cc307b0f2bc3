"""What a loss is, and what all of them check."""

__all__ = ["Loss", "in_logits", "needing_slopes", "with_slope_penalty"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A function of logits and labels, and of slopes if it needs them.

    Logits in half precision are computed with in float32.

    Arguments:
        function: Takes logits (B, K), labels (B,) and slopes (K, K), which it ignores unless it needs
            them; returns a scalar.
        needs_slopes: Whether it needs slopes: estimates of the Lipschitz constants of zᵢ − zⱼ, for
            images in [0, 1], such as `MarginSlopes` gives.
    """

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    needs_slopes: bool = False

    def __call__(self, logits: Tensor, labels: Tensor, slopes: Tensor | None = None) -> Tensor:
        """The loss of a batch, a scalar.

        Arguments:
            logits: The logits, with shape (B, K).
            labels: The classes, with shape (B,).
            slopes: Estimates of the constants of zᵢ − zⱼ, in logits per unit of the ℓ2 norm of images
                in [0, 1], with shape (K, K).

        Raises:
            ValueError: If shapes are not as described, or slopes are needed and missing.
        """
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ValueError(
                "A loss takes logits of shape (B, K) and labels of shape (B,), got "
                f"{tuple(logits.shape)} and {tuple(labels.shape)}."
            )
        classes = logits.shape[1]
        if not self.needs_slopes:
            slopes = logits.new_zeros(())
        elif slopes is None:
            raise ValueError(
                "This loss asks for a radius and needs slopes: call it as loss(logits, labels, "
                "slopes()) with slopes = MarginSlopes(model, shape), or give its margin in logits."
            )
        elif slopes.shape != (classes, classes):
            raise ValueError(
                f"Slopes should have shape ({classes}, {classes}), a row and a column for each "
                f"logit, got {tuple(slopes.shape)}."
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return self.function(logits, labels, slopes.to(logits))


def in_logits(function: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss that is a function of logits and labels alone."""
    return Loss(lambda logits, labels, slopes: function(logits, labels))


def needing_slopes(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """The loss that is a function of logits, labels and slopes."""
    return Loss(function, needs_slopes=True)


def with_slope_penalty(loss: Loss, weight: float) -> Loss:
    """The loss plus a multiple of log s̄, with the mean s̄ of the slopes of all margins.

    What lowers it by one halves slopes log₂ e times: the pull does not depend on how large they are.

    Arguments:
        loss: The loss.
        weight: The factor, not negative.
    """

    def penalized(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        classes = slopes.shape[0]
        mean = slopes.sum() / (classes * (classes - 1))
        return loss.function(logits, labels, slopes) + weight * mean.log()

    return needing_slopes(penalized)
