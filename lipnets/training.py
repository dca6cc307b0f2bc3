"""The training loop, as an iterator: what is measured, and when, is decided outside."""

__all__ = [
    "NonFiniteLossError",
    "Step",
    "fit",
    "moving_average",
    "restore_state",
    "training_forward",
    "training_state",
]

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .bounds import Shape
from .certify import Certificate, certify
from .compat import ensure_torchvision
from .data import Labels, Mixed
from .distributed import parallel, rank, whole_batch
from .export import export
from .losses import Loss
from .nonfinite import failed_factorization, first_cause
from .seeds import derived_seed

if TYPE_CHECKING:
    from timm.utils.model_ema import ModelEmaV3

Batch = tuple[Tensor, Labels]  # images (B, C, H, W) in [0, 1], labels (B,)


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient is not finite: the step was not taken, the weights are as before.

    Arguments:
        message: What is not finite at which step, and where the first such value came from.
        step: The number of the step.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Step:
    """One optimization step, just taken.

    Arguments:
        index: How many steps have been taken, this one included; 0 before the first.
        epoch: How many epochs have passed, with fractions.
        model: The model, after the step; if there is a moving average of it, that.
        shape: The shape of an image, (C, H, W).
        loss: The loss of the batch, before the step; not a number at index 0.
        gradient_norm: The ℓ2 norm of its gradient, before clipping; not a number at index 0.
        lr: The learning rate of the step; not a number at index 0.
        trained: The model that the optimizer changes, where that is another than `model`.
    """

    index: int
    epoch: float
    model: nn.Module
    shape: Shape
    loss: float = math.nan
    gradient_norm: float = math.nan
    lr: float = math.nan
    trained: nn.Module | None = None

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
    forward: Callable[[Tensor], Tensor] | None = None,
    clip_grad_norm: float | None = None,
    average: "ModelEmaV3 | None" = None,
    seed: int | None = None,
) -> Iterator[Step]:
    """Trains `model` on every batch in turn, and yields after each step.

    The host waits for the device once a step, for the loss and the norm of its gradient; the next
    batch is prepared before that.

    Processes that train together all do this, each with all batches: see `lipnets.distributed`.

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
        forward: Computes the logits, as `training_forward` does: the model itself, by default.
        clip_grad_norm: The ℓ2 norm that longer gradients are scaled down to.
        average: The moving average of the model, updated after every optimization step.
        seed: The seed of what layers such as dropout draw, from torch's global generators, which are
            seeded anew for each step, and otherwise on each rank; if it is left out, they are left
            alone.

    Raises:
        NonFiniteLossError: If the loss of a batch or its gradient is not finite, or a factorization
            fails for that reason, before the step is taken.
        ValueError: If the loss needs slopes and there are none.
    """
    needed = slopes if getattr(loss_fn, "needs_slopes", False) else None
    kept = model if average is None else average.module
    run = forward or model
    index, source = start, iter(batches)
    place = ("rank", rank()) if rank() else ()  # where layers draw what others do not
    batch = next(source, None)
    while batch is not None:
        index += 1
        images, labels = batch
        model.train()
        if seed is not None:
            torch.manual_seed(derived_seed(seed, "step", index, *place))
        try:
            logits = run(images)
            given = () if needed is None else (needed(),)
            loss = _loss(loss_fn, logits, labels, given)
            optimizer.zero_grad()
            loss.backward()
        except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
            cause = failed_factorization(model, images)
            raise NonFiniteLossError(
                f"The loss could not be computed at step {index}, and the step was not taken: "
                f"{cause}: {error} Use a smaller learning rate.",
                index,
            ) from error
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        total_norm = get_total_norm(gradients)
        batch = next(source, None)
        value, norm = _numbers(loss, total_norm)
        if not (math.isfinite(value) and math.isfinite(norm)):
            if seed is not None:
                torch.manual_seed(derived_seed(seed, "step", index, *place))
            cause = first_cause(model, run, images, logits, loss, *given)
            raise _non_finite(value, norm, index, cause)
        if clip_grad_norm is not None:
            clip_grads_with_norm_(model.parameters(), clip_grad_norm, total_norm)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        if average is not None:
            average.update(model, step=index)
        shape, epoch = tuple(images.shape[1:]), index / steps_per_epoch
        yield Step(
            *(index, epoch, kept, shape), loss=value, gradient_norm=norm, lr=lr, trained=model
        )


def training_forward(
    model: nn.Module,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    compiled: bool = False,
) -> Callable[[Tensor], Tensor]:
    """The forward of a model as training computes it; what is certified is the model itself.

    Weights, their gradients and the loss keep their dtype: bfloat16 is for the forward and backward
    of layers, by autocast, from which our parametrizations are exempt.

    Arguments:
        model: The model: with `channels_last`, its weights are moved to that memory format.
        dtype: What layers compute in.
        channels_last: Whether images and weights of convolutions have channels as the last
            dimension in memory.
        compiled: Whether `torch.compile` compiles it: once for each size of batches.

    Returns:
        A function of images (B, C, H, W) to logits (B, K): of processes that train together, each
        computes a part of them.
    """
    if channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    computed: Any = torch.compile(model, dynamic=False) if compiled else model
    run = parallel(computed)

    def forward(images: Tensor) -> Tensor:
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if dtype == torch.float32:
            return run(images)
        with torch.autocast(images.device.type, dtype):
            logits = run(images)
        return logits.to(images.dtype)

    return whole_batch(forward, model)


def moving_average(
    model: nn.Module, decay: float, *, start: int = 0, warmup: bool = False
) -> "ModelEmaV3":
    """Builds an exponential moving average of the parameters of a model, for `fit`.

    Buffers are copied, never averaged: the mean of two unit vectors of a power iteration is shorter
    than one, and running statistics are averages themselves.

    Arguments:
        model: The model as it is before training.
        decay: How much of the average stays in a step, in [0, 1).
        start: The number of steps after which averaging begins: until then, it is the model.
        warmup: Whether to begin with smaller decays, 1 − i^(−2/3) in step i after the start.
    """
    ensure_torchvision()
    # An import that takes a second, for those who need it.
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(
        model, decay, update_after_step=start, use_warmup=warmup, exclude_buffers=True
    )


def training_state(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    average: "ModelEmaV3 | None" = None,
) -> dict[str, Any]:
    """Tensors and plain data from which training goes on as if it had not been interrupted.

    What is drawn at random is no part of it: see `fit` and its `seed`.

    Arguments:
        model: The model.
        optimizer: Its optimizer.
        scheduler: The schedule of the learning rate.
        average: The moving average of the model, if there is one.
    """
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "average": None if average is None else average.module.state_dict(),
    }


def restore_state(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    average: "ModelEmaV3 | None" = None,
) -> None:
    """Puts a model, and all that trains it, into the state that `training_state` returned.

    Raises:
        RuntimeError: If the state is of another model.
    """
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    if average is not None:
        average.module.load_state_dict(state["average"])


def _loss(loss_fn: Loss, logits: Tensor, labels: Labels, slopes: tuple[Tensor, ...]) -> Tensor:
    """The loss of labels that may be mixed; `slopes` are the third argument, if there is one."""
    if isinstance(labels, Mixed):
        first = _loss(loss_fn, logits, labels.first, slopes)
        second = _loss(loss_fn, logits, labels.second, slopes)
        return labels.weight * first + (1 - labels.weight) * second
    return loss_fn(logits, labels, *slopes)


def _numbers(loss: Tensor, norm: Tensor) -> tuple[float, float]:
    """The loss and the norm of its gradient, brought from the device together."""
    numbers = [loss.detach().double(), norm.to(loss.device, torch.float64)]
    value, length = torch.stack(numbers).tolist()
    return value, length


def _non_finite(loss: float, norm: float, index: int, cause: str) -> NonFiniteLossError:
    what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient is {norm}"
    return NonFiniteLossError(
        f"The {what} at step {index}, and the step was not taken: {cause}. Use a smaller learning "
        "rate, or look for what is wrong with the data.",
        index,
    )
