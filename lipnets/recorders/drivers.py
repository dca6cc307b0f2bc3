"""What drives the norms of weights in the next step, what they then did, and the noise of gradients.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
    | An Empirical Model of Large-Batch Training (McCandlish, Kaplan & Amodei, 2018)
    | https://arxiv.org/abs/1812.06162
"""

__all__ = ["drivers", "loss_of_probes"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import ByteSplit, Split
from ..dynamics import Followed, follow, gains
from ..dynamics.drivers import Entry, Look, ProbeLoss, couples, look, sights
from ..dynamics.moments import Moments, Sampling, moments, network
from ..dynamics.noise import Seen, Sight
from ..losses import Loss
from ..margin_slopes import MarginSlopes
from ..records import Record
from ..seeds import derived_seed
from ..training import Step
from ._forecast import Forecast, is_plain_sgd, lr_of
from ._registry import registry

_CROWDED = 3  # the gap of the two largest singular values over the norm of a change of the weight
_SIMPLE = 1e-3  # that gap over the largest
_KEPT = 0.9  # of the averages of gradient noise, from one record to the next


@registry.register
def drivers(
    split: Split | ByteSplit,
    loss: ProbeLoss,
    optimizer: Optimizer,
    batch_size: int,
    steps: int,
    examples: int = 128,
    batches: int = 4,
    seed: int = 0,
    clip_grad_norm: float | None = None,
    replacement: bool = False,
) -> "Drivers":
    """Builds the recorder of drivers: it has to see every step, and looks at each `steps` of them.

    It yields, for the step of plain SGD that would follow, `driver/drift`, `driver/noise_curvature`,
    `driver/ito`, `driver/deterministic` and `driver/variance`, of each weight that has a parameter behind
    it, in nats; then those of the network, if all weights in use are parameters: sums over layers, where
    the variance is that of the sum, and `driver/variance_block` what it would be if layers had
    uncorrelated noise.  Where the optimizer is plain SGD, `driver/z` follows after that step: what log σ₁
    did at the same place less what was said it would, over the standard deviation of that difference.

    It yields as well `gradient/noise_scale`, the number of examples of a batch whose gradient is half
    noise, of the averages of `gradient/signal`, |g|², and `gradient/noise`, tr Σ of one example.

    What it looks at are plain images of the training split: no augmentation, no mixing.  Raw weights
    behind parametrizations are seen by batches, and all weights are where normalizations couple the
    examples of a batch: batches then have the size of those of training, up to half of `examples`, as
    the statistics of fewer would be others, and there are as many as of other networks.

    Arguments:
        split: The examples to train on.
        loss: The loss of a model, images and labels, such as `loss_of_probes` gives.
        optimizer: The optimizer, for the learning rate of the next step.
        batch_size: The number of examples of a batch in training, which goes through the split again and
            again: the last batch of each time may have fewer.
        steps: The number of steps between records.
        examples: The number of examples to look at.
        batches: The number of batches they are divided into.
        seed: The seed of the examples that are drawn.
        clip_grad_norm: The norm that longer gradients are scaled down to: there is no z after that.
        replacement: Whether training draws each example of a batch from all of them.

    Raises:
        ValueError: If there are too few examples, or a number is too small.
    """
    drawn = {"seed": seed, "clip_grad_norm": clip_grad_norm, "replacement": replacement}
    return Drivers(split, loss, optimizer, batch_size, steps, examples, batches, **drawn)


def loss_of_probes(loss: Loss, slopes: MarginSlopes | None = None) -> ProbeLoss:
    """The loss of training, for examples that are looked at besides: slopes keep their memory.

    Arguments:
        loss: The loss of training.
        slopes: The slopes of the model, for losses that need them.
    """

    def of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = model(images)
        if not getattr(loss, "needs_slopes", False) or slopes is None:
            return loss(logits, labels)
        memory = slopes.state_dict()
        try:
            return loss(logits, labels, slopes())
        finally:
            slopes.load_state_dict(memory)

    return of


class Drivers:
    """The recorder that `drivers` builds."""

    def __init__(
        self,
        split: Split | ByteSplit,
        loss: ProbeLoss,
        optimizer: Optimizer,
        batch_size: int,
        steps: int,
        examples: int,
        batches: int,
        *,
        seed: int,
        clip_grad_norm: float | None,
        replacement: bool,
    ) -> None:
        if steps < 1 or batch_size < 1:
            raise ValueError(
                f"'steps' and 'batch_size' should be at least 1, got {steps} and {batch_size}."
            )
        if batches < 3 or examples < 2 * batches or len(split) < 2 * batches:
            raise ValueError(
                "There should be 3 batches or more, and 2 examples or more for each, got "
                f"batches={batches}, examples={examples} and {len(split)} images."
            )
        self._split, self._loss, self._optimizer = split, loss, optimizer
        self._batch_size, self._steps = batch_size, steps
        self._examples, self._batches = examples, batches
        self._seed, self._clip, self._replacement = seed, clip_grad_norm, replacement
        self._followed: list[Followed] | None = None
        self._complete = False
        self._pending: dict[str, Any] | None = None
        self._signal, self._noise = 0.0, 0.0

    def __call__(self, step: Step) -> Iterator[Record]:
        model = step.trained or step.model
        if self._followed is None:
            self._followed = follow(model, step.shape)
            in_use = follow(model, step.shape, effective=True)
            self._complete = all(each.role == "free" for each in in_use)
        due = step.index % self._steps == 0
        said, self._pending = self._pending, None
        if not (due or said) or not all(each.isfinite().all() for each in model.parameters()):
            return  # where numbers are not finite, the next step tells why
        if said is not None:
            yield from self._observed(step, said, self._followed, model)
        if due:
            yield from self._predicted(step, self._followed, model)

    def state_dict(self) -> dict[str, Any]:
        """What was said of the next step, and the averages of gradient noise."""
        return {"pending": self._pending, "signal": self._signal, "noise": self._noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._pending = state["pending"]
        self._signal, self._noise = state["signal"], state["noise"]

    def _predicted(
        self, step: Step, followed: Sequence[Followed], model: nn.Module
    ) -> Iterator[Record]:
        """The drivers of the next step."""
        when = {"step": step.index, "epoch": step.epoch}
        there = sights(followed, gains(model))
        coupled = couples(model)
        found = look(
            *(model, there, self._loss, self._drawn(step, model, coupled), len(self._split)),
            seed=derived_seed(self._seed, "drivers", step.index, "layers"),
        )
        sgd, pending = is_plain_sgd(self._optimizer), []
        counted = {
            "examples": found.size * len(found.batches[0].pushed) if there else 0,
            "sgd": sgd,
        }
        # One kind of gradients for all layers, so that their covariance is known.
        apart = self._complete and None not in found.examples
        layers, all_valid = [], True
        for index, sight in enumerate(there):
            seen, unit = _best(found, index, apart if self._complete else None)
            lr = lr_of(self._optimizer, sight.parameter)
            size = self._batch(step.index + 1)
            sampling = Sampling(len(self._split), size, unit, self._replacement)
            each = moments(sight.top, seen, lr, sampling)
            valid = _is_valid(sight, lr * found.largest[index])
            all_valid = all_valid and valid
            layers.append(each)
            kind = {"layer": sight.name, "role": sight.role}
            details = {**kind, **counted, "gradients": len(seen.pushed), "valid": valid}
            details = {**details, "coupled": coupled}
            yield from _lines(each, details, when)
            value = sight.top.value.item()
            pending.append(Forecast(kind, sight.place, _log(value), each.mean, each.spread, valid))
        state = {"step": step.index, "layers": [asdict(each) for each in pending], "network": None}
        if layers and self._complete:
            whole = network(layers)
            details = {**counted, "gradients": len(whole.changes), "valid": all_valid}
            details = {**details, "coupled": coupled}
            yield from _lines(whole, details, when)
            block = -2 * whole["ito"].value
            error = {"standard_error": 2 * whole["ito"].standard_error}
            yield Record(
                *("driver/variance_block", block, "nats^2"), details={**details, **error}, **when
            )
            before = sum(each.before for each in pending)
            state["network"] = asdict(Forecast({}, 0, before, whole.mean, whole.spread, all_valid))
        self._pending = state if sgd and layers else None
        yield from self._noise_records(found, when)

    def _observed(
        self, step: Step, pending: dict[str, Any], followed: Sequence[Followed], model: nn.Module
    ) -> Iterator[Record]:
        """What the step did that was looked ahead at."""
        clipped = self._clip is not None and not step.gradient_norm <= self._clip
        if step.index != pending["step"] + 1 or clipped:
            return
        when = {"step": step.index, "epoch": step.epoch}
        layers = {each.name: (each.parameter, each.lens) for each in followed}
        norms = {each.name: (each.module.weight, Entry(1)) for each in gains(model)}
        after = 0.0
        for state in pending["layers"]:
            said = Forecast(**state)
            weight, lens = (layers | norms)[said.kind["layer"]]
            matrix = lens.matrices(weight.detach(), torch.tensor([said.place]))
            now = _log(torch.linalg.matrix_norm(matrix[0], ord=2).item())
            after += now
            yield from said.compared(now, when)
        if pending["network"] is not None:
            yield from Forecast(**pending["network"]).compared(after, when)

    def _batch(self, index: int) -> int:
        """The number of examples of a step: the last batch of an epoch may have fewer."""
        steps = math.ceil(len(self._split) / self._batch_size)
        if index % steps:
            return self._batch_size
        return len(self._split) - (steps - 1) * self._batch_size

    def _drawn(self, step: Step, model: nn.Module, coupled: bool) -> list[tuple[Tensor, Tensor]]:
        """Batches of examples, drawn without replacement."""
        total = len(self._split)
        size = min(self._examples, total) // self._batches
        count = self._batches
        if coupled:
            size = min(self._batch_size, self._examples // 2, total // count)
            count = max(count, min(self._examples, total) // size)
        generator = torch.Generator().manual_seed(
            derived_seed(self._seed, "drivers", step.index, "examples")
        )
        order = torch.randperm(total, generator=generator)[: size * count]
        part = self._split[order.to(self._split.labels.device)]
        device = next(model.parameters()).device
        dtype = next(model.parameters()).dtype
        images, labels = part.images.to(device, dtype), part.labels.to(device)
        return list(zip(images.split(size), labels.split(size), strict=True))

    def _noise_records(self, found: Look, when: dict[str, Any]) -> Iterator[Record]:
        self._signal = _KEPT * self._signal + (1 - _KEPT) * found.noise.signal
        self._noise = _KEPT * self._noise + (1 - _KEPT) * found.noise.noise
        scale = self._noise / self._signal if self._signal > 0 else math.nan
        yield Record("gradient/noise_scale", scale, "examples", **when)
        yield Record("gradient/signal", found.noise.signal, "1", **when)
        yield Record("gradient/noise", found.noise.noise, "1", **when)


def _lines(found: Moments, details: dict[str, Any], when: dict[str, Any]) -> Iterator[Record]:
    for name in found.parts:
        each, unit = found[name], "nats^2" if name == "variance" else "nats"
        error = {"standard_error": each.standard_error}
        yield Record(f"driver/{name}", each.value, unit, details={**details, **error}, **when)


def _best(found: Look, index: int, apart: bool | None) -> tuple[Seen, int]:
    """What is seen of the gradients of examples, or of batches, and the number of their examples."""
    examples = found.examples[index]
    if examples is None or apart is False:
        return found.batches[index], found.size
    return examples, 1


def _is_valid(sight: Sight, change: float) -> bool:
    """Whether σ₁ is simple enough for a change of the weight of that norm."""
    gap, value = sight.top.gap.item(), sight.top.value.item()
    return gap > _SIMPLE * value and gap > _CROWDED * change


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
