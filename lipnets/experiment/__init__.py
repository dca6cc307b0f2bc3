"""From a config to a trained network in its run directory."""

__all__ = ["ExperimentError", "build_model", "build_optimizer", "load_data", "train"]

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from torch import nn

from .. import recorders, resuming
from ..config import Config
from ..data import Dataset
from ..distributed import from_first
from ..records import Record
from ..runs import Run
from ..training import NonFiniteLossError, Step, fit
from ._building import ExperimentError, build_model, build_optimizer, load_data
from ._parts import Parts
from ._recorded import recorded

_CERTIFIED = 100  # held-out images of which the certificate file holds the radii


def train(
    run: Run | None,
    config: Config,
    dataset: Dataset,
    untrained: Step,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Step, list[Record]]]:
    """Trains a model, from the last state that was saved, and writes all that is to be kept.

    The order of images and their augmentation are functions of the seed and the epoch, and what layers
    draw is one of the seed and the step: a training that goes on in the midst of an epoch draws the
    batches before once more, and then has the same bits as one that was never interrupted.

    Processes that train together all call it; the first reads and writes, others have what it reads
    from it: there is one history to take back, and machines need not share a disk.

    Arguments:
        run: The run directory, with or without a state; None for all processes but the first.
        config: Its config.
        dataset: The data set.
        untrained: The model before the first step.
        stop: Asked after each step: whether whoever asks for steps will ask for no more, so that a
            state is saved there and then.

    Returns:
        An iterator of the steps taken, and of the records that were written after each; ahead of
        the first comes the untrained model.  Weights and certificate are written when it ends.

    Raises:
        NonFiniteLossError: If the loss is not finite: what was finished before is kept.
        ExperimentError: If the optimizer cannot be built, or the model not be compiled.
    """
    parts = Parts.of(config, dataset, untrained)
    model, steps, total = parts.model, parts.steps, parts.total
    record = recorders.together(recorded(config, dataset, untrained, parts) if run else [])
    now = resuming.origin(dataset, next(model.parameters()).device) if run else {}

    def write(step: Step) -> list[Record]:
        records = list(record(step))
        if run and records:
            run.log(records)
        return records

    def save(step: int) -> None:
        if run is not None:
            more = {"step": step, "recorders": record.state_dict(), "origin": now}
            run.save_state(parts.state() | more)

    taken = 0
    kept_steps: list[int] = []
    if state := from_first(lambda: resuming.load(run, now) if run else None):
        with resuming.fitting(state):
            taken = state["step"]
            kept_steps.append(taken)
            parts.restore(state)
            if run:
                record.load_state_dict(state["recorders"])
    if run:
        run.take_history_back()
    if not state:
        yield untrained, write(untrained)

    saved = time.monotonic()
    for epoch in range(taken // steps, math.ceil(total / steps)):
        before = taken % steps if epoch == taken // steps else 0
        last = min(steps, total - epoch * steps)
        if parts.slopes is not None and before == 0 and epoch > 0:
            parts.slopes.refresh()  # its constants are those of the weights at the start of an epoch
        batches = islice(parts.batches(epoch), before, last)
        with _compiling(config), _naming_state(run, kept_steps):
            for step in fit(
                *(model, batches, parts.loss, parts.optimizer, parts.scheduler),
                steps_per_epoch=steps,
                start=epoch * steps + before,
                slopes=parts.slopes,
                forward=parts.forward,
                clip_grad_norm=config.optimizer.clip_grad_norm,
                average=parts.average,
                seed=config.seed,
            ):
                late = time.monotonic() - saved > 60 * config.record.state_minutes
                due = stop() or late or step.index % steps == 0 or step.index == total
                if due:
                    _refuse_not_finite(model, step.index)
                records = write(step)
                if due:
                    save(step.index)
                    kept_steps.append(step.index)
                    saved = time.monotonic()
                yield step, records

    if run is not None:
        run.save_model(parts.kept)
        certificate = Step(total, total / steps, parts.kept, untrained.shape).certificate
        held_out = dataset.test[:_CERTIFIED]
        run.save_certificate(certificate, held_out.images, held_out.labels)


def _refuse_not_finite(model: nn.Module, step: int) -> None:
    """Makes sure that the last state has weights to go on from."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise NonFiniteLossError(
                f"Values of '{name}' are not finite after step {step}: use a smaller learning rate.",
                step,
            )


@contextmanager
def _naming_state(run: Run | None, kept: list[int]) -> Iterator[None]:
    """Says what there is to go on from where numbers stop to be finite."""
    try:
        yield
    except NonFiniteLossError as error:
        last = "No state had been saved."
        if run and kept:
            path = max((run.path / "state").iterdir(), key=lambda each: each.stat().st_mtime_ns)
            last = f"The last good state is that of step {kept[-1]}, in {path}."
        raise NonFiniteLossError(f"{error} {last}", error.step) from error


@contextmanager
def _compiling(config: Config) -> Iterator[None]:
    """Says in a sentence why a model cannot be compiled."""
    if not config.compute.compile:
        yield
        return
    # An import that takes a second, for those who need it.
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        [first, *_] = str(error).strip().splitlines()
        raise ExperimentError(
            f"the model cannot be compiled here, with compute.compile or --compile: {first}"
        ) from error
