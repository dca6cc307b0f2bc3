"""What takes part in a training: images, a model, and what moves its weights."""

__all__ = ["Parts"]

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .. import data, losses, optim
from ..config import Config
from ..data import ByteSplit, Dataset, Labels, Split
from ..data.augment import Augmentation, Mixing
from ..losses import Loss
from ..margin_slopes import MarginSlopes
from ..seeds import derived_seed
from ..training import Step, moving_average, restore_state, training_forward, training_state
from ._building import ExperimentError, build_optimizer

if TYPE_CHECKING:
    from timm.utils.model_ema import ModelEmaV3


@dataclass(frozen=True)
class Parts:
    """The parts of a training, which a state brings to where they were: see `Parts.of`.

    Arguments:
        config: The config that they are built from.
        model: The model.
        forward: The model in the arithmetic of the training, compiled if it is to be.
        average: The moving average of its weights, if there is one.
        split: The images to train on, where they were loaded.
        images: The same where the model is, as small as they go.
        augment: What becomes of a batch, if anything.
        loss: The loss.
        slopes: The slopes that it needs, if it does.
        optimizer: The optimizer.
        scheduler: The schedule of its learning rate.
        steps: The number of steps of an epoch.
        total: The number of all steps.
    """

    config: Config
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    average: "ModelEmaV3 | None"
    split: Split
    images: Split | ByteSplit
    augment: Augmentation | Mixing | None
    loss: Loss
    slopes: MarginSlopes | None
    optimizer: Optimizer
    scheduler: LRScheduler
    steps: int
    total: int

    @classmethod
    def of(cls, config: Config, dataset: Dataset, untrained: Step) -> "Parts":
        """Builds what a config names around a model that is not trained yet.

        Raises:
            ExperimentError: If the optimizer cannot be built, or there are fewer steps than the warm-up has.
        """
        model = untrained.model
        split = _chosen(config, dataset)
        steps = math.ceil(len(split) / config.data.batch_size)
        total = min(steps * config.schedule.epochs, config.schedule.max_steps or sys.maxsize)
        forward = training_forward(  # before the average, a copy: it may move weights in memory
            model,
            dtype=getattr(torch, config.compute.dtype),
            channels_last=config.compute.channels_last,
            compiled=config.compute.compile,
        )
        average = None
        if config.ema is not None:
            start = round(steps * config.ema.start)
            decay, warmup = config.ema.decay, config.ema.warmup
            average = moving_average(model, decay, start=start, warmup=warmup)
        optimizer = build_optimizer(model, config)
        scheduler = _schedule(config, optimizer, steps, total)
        loss = losses.build(config.loss.name, **config.loss.arguments)
        if config.loss.slope_penalty:
            loss = losses.with_slope_penalty(loss, config.loss.slope_penalty)
        # A loss may be any function, as far as the loop goes: only some need slopes.
        needs_slopes = getattr(loss, "needs_slopes", False)
        augment = [{"name": each.name, **each.arguments} for each in config.data.augment]
        return cls(
            config=config,
            model=model,
            forward=forward,
            average=average,
            split=split,
            images=data.compact(split).to(next(model.parameters()).device),
            augment=data.augment.build(augment) if augment else None,
            loss=loss,
            slopes=MarginSlopes(model, untrained.shape) if needs_slopes else None,
            optimizer=optimizer,
            scheduler=scheduler,
            steps=steps,
            total=total,
        )

    @property
    def kept(self) -> nn.Module:
        """The network that the training is for: the average, if there is one."""
        return self.model if self.average is None else self.average.module

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Labels]]:
        """The batches of an epoch, a function of the seed and of its number."""
        section = self.config.data
        order = self.config.seed if section.order_seed is None else section.order_seed
        generator = torch.Generator().manual_seed(derived_seed(order, "epoch", epoch))
        return data.batches(
            *(self.images, section.batch_size, generator),
            augment=self.augment,
            replacement=section.replacement,
        )

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        slopes = None if self.slopes is None else self.slopes.state_dict()
        whole = training_state(self.model, self.optimizer, self.scheduler, self.average)
        return whole | {"slopes": slopes}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up where a state was saved, with the number of its `step`."""
        restore_state(state, self.model, self.optimizer, self.scheduler, self.average)
        if self.slopes is not None and state["step"] % self.steps:
            self.slopes.load_state_dict(state["slopes"])


def _chosen(config: Config, dataset: Dataset) -> Split:
    """The images to train on, some with other labels if the config says so."""
    chosen = dataset.train[: config.data.limit]
    if config.data.label_noise:
        seed = derived_seed(config.seed, "labels")
        chosen = data.with_label_noise(chosen, config.data.label_noise, dataset.num_classes, seed)
    return chosen


def _schedule(config: Config, optimizer: Optimizer, steps: int, total: int) -> LRScheduler:
    section = config.schedule
    warmup = round(steps * section.warmup_epochs)
    if warmup >= total:
        raise ExperimentError(
            f"the warm-up of {warmup} steps should end before the {total} steps of the training: lower "
            "schedule.warmup_epochs, or raise schedule.max_steps"
        )
    return optim.create_scheduler(
        *(optimizer, total, warmup),
        name=section.name,
        milestones=[round(steps * each) for each in section.milestones],
        gamma=section.gamma,
    )
