"""The training loop, as an iterator: what is measured, and when, is decided outside."""

__all__ = ["NonFiniteLossError", "Step", "fit", "restore_state", "training_state"]

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm, parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .bounds import Shape
from .certify import Certificate, certify
from .data import Labels, Mixed
from .export import export
from .losses import Loss

Batch = tuple[Tensor, Labels]  # images (B, C, H, W) in [0, 1], labels (B,)


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient is not finite: the step was not taken, the weights are as before."""


@dataclass(frozen=True)
class Step:
    """One optimization step, just taken.

    Arguments:
        index: How many steps have been taken, this one included; 0 before the first.
        epoch: How many epochs have passed, with fractions.
        model: The model, after the step.
        shape: The shape of an image, (C, H, W).
        loss: The loss of the batch, before the step; not a number at index 0.
        gradient_norm: The ℓ2 norm of its gradient; not a number at index 0.
        lr: The learning rate of the step; not a number at index 0.
    """

    index: int
    epoch: float
    model: nn.Module
    shape: Shape
    loss: float = math.nan
    gradient_norm: float = math.nan
    lr: float = math.nan

    @cached_property
    def certificate(self) -> Certificate:
        """The certificate of the model as it is when this is first asked for.

        A copy is certified: the model, its mode and the random state stay as they are.

        Raises:
            NotCertifiedError: If no rule covers the model.
        """
        devices = {each.device for each in self.model.parameters() if each.is_cuda}
        with torch.random.fork_rng(devices):
            return certify(export(self.model), self.shape)


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: Loss,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    steps_per_epoch: int,
    start: int = 0,
    slopes: Callable[[], Tensor] | None = None,
) -> Iterator[Step]:
    """Trains `model` on every batch in turn, and yields after each step.

    The host waits for the device once a step, for the loss and the norm of its gradient; the next
    batch is prepared before that.

    Arguments:
        model: The model; training mode is set before each step, as whoever receives a step may
            have changed it.
        batches: The batches, as many as steps are to be taken.
        loss_fn: The loss of logits (B, K) and labels (B,), and of slopes if it needs them.
        optimizer: The optimizer of the model's parameters.
        scheduler: The schedule of the learning rate, stepped after every optimization step.
        steps_per_epoch: The number of steps of an epoch.
        start: The number of steps that were taken before.
        slopes: Gives the slopes (K, K) of the model as it is, for losses that need them, such as a
            `MarginSlopes` of the model.

    Raises:
        NonFiniteLossError: If the loss of a batch or its gradient is not finite, before the step
            is taken.
        ValueError: If the loss needs slopes and there are none.
    """
    needs_slopes = slopes is not None and getattr(loss_fn, "needs_slopes", False)
    index, source = start, iter(batches)
    batch = next(source, None)
    while batch is not None:
        index += 1
        images, labels = batch
        model.train()
        # The weights of parametrized layers are computed once, for the logits and for the slopes.
        with parametrize.cached() if needs_slopes else nullcontext():
            logits = model(images)
            given = (slopes(),) if needs_slopes and slopes is not None else ()
            loss = _loss(loss_fn, logits, labels, given)
        optimizer.zero_grad()
        loss.backward()
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        total_norm = get_total_norm(gradients)
        batch = next(source, None)
        value, norm = _finite(loss, total_norm, index)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        shape, epoch = tuple(images.shape[1:]), index / steps_per_epoch
        yield Step(index, epoch, model, shape, loss=value, gradient_norm=norm, lr=lr)


def training_state(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Tensors and plain data from which training goes on as if it had not been interrupted.

    Arguments:
        model: The model.
        optimizer: Its optimizer.
        scheduler: The schedule of the learning rate.
        generator: What draws the order of images and their augmentation.
    """
    cuda = any(each.is_cuda for each in model.parameters())
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "generator": generator.get_state(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if cuda else None,
    }


def restore_state(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    generator: torch.Generator,
) -> None:
    """Puts a model, and all that trains it, into the state that `training_state` returned.

    Raises:
        RuntimeError: If the state is of another model.
    """
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    generator.set_state(state["generator"])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_rng"])


def _loss(loss_fn: Loss, logits: Tensor, labels: Labels, slopes: tuple[Tensor, ...]) -> Tensor:
    """The loss of labels that may be mixed; `slopes` are the third argument, if there is one."""
    if isinstance(labels, Mixed):
        first = _loss(loss_fn, logits, labels.first, slopes)
        second = _loss(loss_fn, logits, labels.second, slopes)
        return labels.weight * first + (1 - labels.weight) * second
    return loss_fn(logits, labels, *slopes)


def _finite(loss: Tensor, norm: Tensor, index: int) -> tuple[float, float]:
    """The loss and the norm of its gradient, brought from the device together."""
    numbers = torch.stack([loss.detach().double(), norm.to(loss.device, torch.float64)]).tolist()
    for what, value in zip(("loss", "gradient"), numbers, strict=True):
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"The {what} is {value} at step {index}, and the step was not taken: use a smaller "
                "learning rate, or look for values that are not finite in the data."
            )
    return numbers[0], numbers[1]
