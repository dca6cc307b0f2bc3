"""The loss, its gradient and the learning rate, over training."""

__all__ = ["loss"]

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from ..records import Record
from ..training import Step
from ._registry import registry


@registry.register
def loss(steps: int) -> "Losses":
    """Builds the recorder of the loss: it has to see every step, and yields each `steps` of them.

    It yields `train/loss` and `train/gradient_norm`, the means over the steps since it last did,
    and `learning_rate`, of the last of them.

    Arguments:
        steps: The number of steps to average over.
    """
    return Losses(steps)


class Losses:
    """The recorder that `loss` builds."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._losses: list[float] = []
        self._norms: list[float] = []

    def __call__(self, step: Step) -> Iterator[Record]:
        if step.index == 0:
            return
        self._losses.append(step.loss)
        self._norms.append(step.gradient_norm)
        if step.index % self._steps:
            return
        when = {"step": step.index, "epoch": step.epoch}
        yield Record("train/loss", fmean(self._losses), "1", **when)
        yield Record("train/gradient_norm", fmean(self._norms), "1", **when)
        yield Record("learning_rate", step.lr, "1", **when)
        self._losses.clear()
        self._norms.clear()

    def state_dict(self) -> dict[str, Any]:
        """What is to be averaged."""
        return {"losses": list(self._losses), "norms": list(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with a sum."""
        self._losses, self._norms = list(state["losses"]), list(state["norms"])
