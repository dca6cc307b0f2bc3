"""What weight decay alone does to a weight in a step, for optimizers where that is a part of the step.

References:
    | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019) https://arxiv.org/abs/1711.05101
"""

__all__ = ["Decay"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

_DECOUPLED = ("NAdamW", "Lion", "Muon")  # of timm, which is not imported for this


class Decay:
    """The part −D of a step that weight decay did, of one parameter.

    For plain gradient descent, and where decay is apart from gradients, it is −lr · decay · W.  With
    momentum, steps are linear in gradients and weights: it is what the buffer would be of decay · W
    alone.  In what is adaptive, decay that is added to gradients is no part of its own.

    Arguments:
        parameter: The parameter.
        optimizer: Its optimizer, with the learning rate of the next step.
    """

    def __init__(self, parameter: nn.Parameter, optimizer: Optimizer) -> None:
        self._parameter = parameter
        self._kind = type(optimizer)
        self._optimizer = optimizer
        groups = enumerate(optimizer.param_groups)
        self._place = next(
            (i for i, group in groups if any(p is parameter for p in group["params"])), None
        )
        self._buffer: Tensor | None = None
        self._rate = 0.0
        self._read()

    @property
    def known(self) -> bool:
        """Whether it is a part of its own."""
        group = self._group
        if group is None or not group.get("weight_decay"):
            return True  # there is none
        if "lookahead_step" in group or group.get("corrected_weight_decay"):
            return False
        if self._kind in (SGD, AdamW):
            return True
        if self._kind is Adam:
            return bool(group.get("decoupled_weight_decay"))
        timm = self._kind.__module__.startswith("timm.optim.")
        scaled = group.get("fallback_lr_scale", 1.0) != 1.0
        return timm and self._kind.__name__ in _DECOUPLED and not scaled

    @property
    def remembers(self) -> bool:
        """Whether the part is another than a multiple of the weight."""
        group = self._group or {}
        return self._kind is SGD and bool(group.get("weight_decay")) and group["momentum"] != 0

    def step(self, weight: Tensor | None) -> float | Tensor:
        """What it did in the step that was just taken.

        Arguments:
            weight: The weight before the step, in float64; None unless it `remembers`.

        Returns:
            A part of the step with the shape of the weight; or its ratio to the weight.
        """
        rate, group = self._rate, self._group
        self._read()
        if group is None or self._parameter.grad is None:  # the optimizer left it out
            return 0.0
        if weight is None:
            return -rate * float(group["weight_decay"])
        gradient, buffer = float(group["weight_decay"]) * weight, self._buffer
        if buffer is None:
            buffer = gradient
        else:
            buffer = group["momentum"] * buffer + (1 - group["dampening"]) * gradient
        self._buffer = buffer
        if group["nesterov"]:
            return -rate * (gradient + group["momentum"] * buffer)
        return -rate * buffer

    def state_dict(self) -> dict[str, Any]:
        """The buffer, and the rate of the next step."""
        return {"buffer": self._buffer, "rate": self._rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        buffer = state["buffer"]
        self._buffer = None if buffer is None else buffer.to(self._parameter.device, torch.float64)
        self._rate = state["rate"]

    @property
    def _group(self) -> dict[str, Any] | None:
        """Its group of parameters: another dictionary once the optimizer has loaded a state."""
        return None if self._place is None else self._optimizer.param_groups[self._place]

    def _read(self) -> None:
        """The schedule changes the rate after each step: this one is for the next."""
        group = self._group
        self._rate = 0.0 if group is None else float(group["lr"])
