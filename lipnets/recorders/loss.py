"""The loss, its gradient and the learning rate, over training."""

__all__ = ["loss"]

from collections.abc import Iterator
from statistics import fmean

from ..records import Record
from ..training import Step
from ._registry import Recorder, registry


@registry.register
def loss(steps: int) -> Recorder:
    """Builds the recorder of the loss: it has to see every step, and yields each `steps` of them.

    It yields `train/loss` and `train/gradient_norm`, the means over the steps since it last did,
    and `learning_rate`, of the last of them.

    Arguments:
        steps: The number of steps to average over.
    """
    losses: list[float] = []
    norms: list[float] = []

    def record(step: Step) -> Iterator[Record]:
        if step.index == 0:
            return
        losses.append(step.loss)
        norms.append(step.gradient_norm)
        if step.index % steps:
            return
        when = {"step": step.index, "epoch": step.epoch}
        yield Record("train/loss", fmean(losses), "1", **when)
        yield Record("train/gradient_norm", fmean(norms), "1", **when)
        yield Record("learning_rate", step.lr, "1", **when)
        losses.clear()
        norms.clear()

    return record
