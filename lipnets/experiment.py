"""From a config to a trained network in its run directory."""

__all__ = ["ExperimentError", "build_model", "build_optimizer", "load_data", "train"]

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn
from torch.optim import Optimizer

from . import data, losses, models, optim, recorders, resuming
from .config import Config
from .data import Dataset
from .distributed import from_first
from .losses import Loss
from .margin_slopes import MarginSlopes
from .recorders import Recorder, every
from .recorders.drivers import loss_of_probes
from .records import Record
from .runs import Run
from .seeds import derived_seed
from .training import (
    NonFiniteLossError,
    Step,
    fit,
    moving_average,
    restore_state,
    training_forward,
    training_state,
)


class ExperimentError(Exception):
    """An experiment that cannot be run as its config says: says why."""


def load_data(config: Config) -> Dataset:
    """Loads the data set of a config, whole: `train` takes as many images as it says.

    Raises:
        ExperimentError: If its files are missing, damaged or not what they should be.
    """
    spec = config.data
    try:
        return data.load(spec.name, data_dir=spec.dir, verify=spec.verify, **spec.arguments)
    except (OSError, ValueError, TypeError) as error:
        raise ExperimentError(f"the data set '{spec.name}' cannot be loaded: {error}") from error


def build_model(config: Config, device: torch.device | str = "cpu") -> nn.Module:
    """Builds the untrained model of a config in float32, with weights drawn from its seed.

    Raises:
        ExperimentError: If the model does not take its arguments.
    """
    spec = config.model
    torch.manual_seed(config.seed)
    try:
        model = models.build(spec.name, **spec.arguments).to(device, torch.float32)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ExperimentError(f"the model '{spec.name}' cannot be built: {error}") from error
    if config.init_scale != 1:
        with torch.no_grad():
            for weight in _initial_weights(model):
                weight.mul_(config.init_scale)
    return model


def build_optimizer(model: nn.Module, config: Config) -> Optimizer:
    """The optimizer of a config, for a model.

    Raises:
        ExperimentError: If it does not fit the model, or its arguments are wrong.
    """
    spec = config.optimizer
    try:
        return optim.create_optimizer(model, spec.name, **spec.arguments)
    except ValueError as error:
        raise ExperimentError(f"the optimizer '{spec.name}' cannot be built: {error}") from error


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
    model = untrained.model
    device = next(model.parameters()).device
    chosen = dataset.train[: config.data.limit]
    if config.data.label_noise:
        seed = derived_seed(config.seed, "labels")
        chosen = data.with_label_noise(chosen, config.data.label_noise, dataset.num_classes, seed)
    split = data.compact(chosen).to(device)
    steps = math.ceil(len(split) / config.data.batch_size)  # of an epoch
    total = min(steps * config.schedule.epochs, config.schedule.max_steps or sys.maxsize)

    compute, ema = config.compute, config.ema
    forward = training_forward(
        model,
        dtype=getattr(torch, compute.dtype),
        channels_last=compute.channels_last,
        compiled=compute.compile,
    )
    average = None
    if ema is not None:
        start = round(steps * ema.start)
        average = moving_average(model, ema.decay, start=start, warmup=ema.warmup)
    kept = model if average is None else average.module
    optimizer = build_optimizer(model, config)
    warmup = round(steps * config.schedule.warmup_epochs)
    if warmup >= total:
        raise ExperimentError(
            f"the warm-up of {warmup} steps should end before the {total} steps of the training: lower "
            "schedule.warmup_epochs, or raise schedule.max_steps"
        )
    scheduler = optim.create_scheduler(
        *(optimizer, total, warmup),
        name=config.schedule.name,
        milestones=[round(steps * each) for each in config.schedule.milestones],
        gamma=config.schedule.gamma,
    )
    loss_fn = losses.build(config.loss.name, **config.loss.arguments)
    if config.loss.slope_penalty:
        loss_fn = losses.with_slope_penalty(loss_fn, config.loss.slope_penalty)
    # A loss may be any function, as far as this loop goes: only some need slopes.
    needs_slopes = getattr(loss_fn, "needs_slopes", False)
    slopes = MarginSlopes(model, untrained.shape) if needs_slopes else None
    augment = [{"name": each.name, **each.arguments} for each in config.data.augment]
    augment = data.augment.build(augment) if augment else None

    training = _Training(chosen, optimizer, loss_fn, slopes, steps, total)
    record = recorders.together(_recorders(config, dataset, untrained, training) if run else [])

    def write(step: Step) -> list[Record]:
        records = list(record(step))
        if run and records:
            run.log(records)
        return records

    def save(step: int) -> None:
        if run is None:
            return
        state = training_state(model, optimizer, scheduler, average)
        memory = None if slopes is None else slopes.state_dict()
        recorded = record.state_dict()
        state |= {"step": step, "recorders": recorded, "slopes": memory, "origin": now}
        run.save_state(state)

    taken = 0
    kept_steps: list[int] = []
    now = resuming.origin(dataset, device) if run else {}
    if state := from_first(lambda: resuming.load(run, now) if run else None):
        with resuming.fitting(state):
            taken = state["step"]
            kept_steps.append(taken)
            restore_state(state, model, optimizer, scheduler, average)
            if run:
                record.load_state_dict(state["recorders"])
            if slopes is not None and taken % steps:
                slopes.load_state_dict(state["slopes"])
    if run:
        run.take_history_back()
    if not state:
        yield untrained, write(untrained)

    saved = time.monotonic()
    order = config.seed if config.data.order_seed is None else config.data.order_seed
    for epoch in range(taken // steps, math.ceil(total / steps)):
        generator = torch.Generator().manual_seed(derived_seed(order, "epoch", epoch))
        batches = data.batches(
            *(split, config.data.batch_size, generator),
            augment=augment,
            replacement=config.data.replacement,
        )
        before = taken % steps if epoch == taken // steps else 0
        last = min(steps, total - epoch * steps)
        if slopes is not None and before == 0 and epoch > 0:
            slopes.refresh()  # its constants are those of the weights at the start of an epoch
        with _compiling(config), _naming_state(run, kept_steps):
            for step in fit(
                *(model, islice(batches, before, last), loss_fn, optimizer, scheduler),
                steps_per_epoch=steps,
                start=epoch * steps + before,
                slopes=slopes,
                forward=forward,
                clip_grad_norm=config.optimizer.clip_grad_norm,
                average=average,
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

    if run is None:
        return
    run.save_model(kept)
    certificate = Step(total, total / steps, kept, untrained.shape).certificate
    held_out = dataset.test[:_CERTIFIED]
    run.save_certificate(certificate, held_out.images, held_out.labels)


@dataclass(frozen=True)
class _Training:
    """What recorders are built of.

    Arguments:
        split: The images to train on.
        optimizer: The optimizer.
        loss: The loss.
        slopes: The slopes that it needs, if it does.
        steps: The number of steps of an epoch.
        total: The number of all steps.
    """

    split: data.Split
    optimizer: Optimizer
    loss: Loss
    slopes: MarginSlopes | None
    steps: int
    total: int


def _recorders(
    config: Config, dataset: Dataset, untrained: Step, training: _Training
) -> list[Recorder]:
    """What is recorded, in the order of the history."""
    rhythm = training.steps * config.record.bounds_every
    recorded = [
        recorders.loss(training.steps),
        every(rhythm, recorders.certified(training.split, "train", limit=500), last=training.total),
        every(rhythm, recorders.certified(dataset.test, "test"), last=training.total),
        every(rhythm, recorders.bounds(), last=training.total),
        *_internal(config, untrained, training),
    ]
    if config.record.frequencies:
        recorder = recorders.frequencies(untrained.model, untrained.shape)
        recorded.append(every(rhythm, recorder, last=training.total))
    if config.record.geometry:
        recorded.append(every(rhythm, recorders.geometry(training.split), last=training.total))
    return recorded


def _internal(config: Config, untrained: Step, training: _Training) -> Iterator[Recorder]:
    """What norms of weights do, and what drives them."""
    ledger, drivers = config.record.ledger, config.record.drivers
    if ledger is not None:
        yield recorders.ledger(
            *(untrained.model, untrained.shape),
            lines=ledger.every or max(1, training.total // _ENTRIES),
            stride=ledger.stride,
            last=training.total,
            optimizer=training.optimizer,
            effective=ledger.effective,
            norm=ledger.norm,
            bands=ledger.bands,
        )
    if drivers is not None and len(training.split) >= _FEWEST:
        yield recorders.drivers(
            *(training.split, loss_of_probes(training.loss, training.slopes)),
            *(training.optimizer, config.data.batch_size),
            steps=drivers.every,
            examples=drivers.examples,
            seed=config.seed,
            clip_grad_norm=config.optimizer.clip_grad_norm,
            replacement=config.data.replacement,
        )


_ENTRIES = 100  # of the ledger, in a training
_FEWEST = 8  # images that drivers can be seen by


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


def _initial_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that weights of layers are, or that parametrizations make them of."""
    for name, parameter in model.named_parameters():
        if name.endswith((".weight", ".weight.original")) and parameter.ndim > 1:
            yield parameter


_CERTIFIED = 100  # held-out images of which the certificate file holds the radii


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
