"""Trainings that one process and two have to agree on: run by `torchrun` from test_distributed.py."""

__all__ = ["CASES", "Outcome", "weights_after"]

import copy
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipnets import distributed, experiment, losses, optim
from lipnets.commands import train
from lipnets.data import Labels, Mixed
from lipnets.layers import BatchCentering, BatchLipNorm, build
from lipnets.margin_slopes import MarginSlopes
from lipnets.training import (
    NonFiniteLossError,
    Step,
    fit,
    moving_average,
    training_forward,
    training_state,
)

Batch = tuple[Tensor, Labels]
Outcome = dict[str, Any]  # tensors and plain data


@dataclass
class Case:
    """A training: how its model is built, and what differs from the simplest one."""

    model: Callable[[], nn.Module]
    sizes: tuple[int, ...] = (8, 5, 1, 8, 5, 1)  # of batches: a rank may have none
    loss: tuple[str, dict[str, Any]] = ("cross_entropy", {})
    optimizer: tuple[str, dict[str, Any]] = ("sgd", {"lr": 0.1})
    forward: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    ema: bool = False
    mixed: bool = False
    spoil: Callable[[nn.Module, list[Batch]], None] = lambda model, batches: None
    between: Callable[[nn.Module], None] = lambda model: None


def mlp(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 12), *between, nn.Softplus(), nn.Linear(12, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Softplus(),
        nn.Conv2d(4, 4, 3, padding=1),
        BatchLipNorm(4),
        nn.Softplus(),
        BatchCentering(4),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.BatchNorm1d(6, affine=False),
        nn.Linear(6, 3),
    )


def orthogonal() -> nn.Module:
    conv = build("bcop_conv2d", in_channels=2, out_channels=4, kernel_size=3, padding="same")
    dense = build("manifold_linear", in_features=64, out_features=8)
    return nn.Sequential(conv, nn.Softplus(), nn.Flatten(), dense, nn.Linear(8, 3))


class Huge(nn.Module):
    """Overflows where an image is brighter than any other."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.where(x.amax(dim=1, keepdim=True) > 50, 1e38, 1.0)


def brighten(model: nn.Module, batches: list[Batch]) -> None:
    batches[3][0][6] *= 1000  # of the second rank


def spoil(model: nn.Module, batches: list[Batch]) -> None:
    batches[1][0][4, 0, 0, 0] = math.nan  # of the second rank


def measure(model: nn.Module) -> None:
    """What a recorder of the first rank may do: nothing that others would have to answer."""
    if distributed.is_first():
        copied = {name: each.clone() for name, each in model.state_dict().items()}
        model.train()
        model(torch.rand(2, 2, 4, 4)).sum().backward()
        model.load_state_dict(copied)


CASES: dict[str, Case] = {
    "clipped": Case(lambda: mlp(nn.LayerNorm(12)), fit={"clip_grad_norm": 0.2}, between=measure),
    "averaged": Case(
        orthogonal,
        optimizer=("manifold_adam", {"lr": 0.01, "weight_decay": 0.1, "lookahead": 2}),
        ema=True,
    ),
    "normalized": Case(convolutional, sizes=(8, 5, 3, 8, 5, 3), between=measure),
    "half": Case(mlp, forward={"dtype": torch.bfloat16}, optimizer=("sgd", {"lr": 0.01})),
    "half normalized": Case(
        convolutional,
        sizes=(8, 5, 3),
        forward={"dtype": torch.bfloat16},
        optimizer=("sgd", {"lr": 0.01}),
    ),
    "of the batch": Case(mlp, loss=("hinge_kr", {"radius": 0.3}), optimizer=("adam", {"lr": 1e-2})),
    "mixed": Case(mlp, mixed=True, loss=("gloro", {"radius": 0.3})),
    "last": Case(mlp, forward={"channels_last": True}),
    "dropout": Case(lambda: mlp(nn.Dropout(0.5))),
    "bad image": Case(mlp, spoil=spoil),
    "overflow": Case(lambda: mlp(Huge()), spoil=brighten),
}


def weights_after(name: str) -> Outcome:
    """Trains, and returns the weights, the average, the losses and the error, if there was one."""
    case = CASES[name]
    torch.manual_seed(0)
    model = case.model().to(torch.float32)
    generator = torch.Generator().manual_seed(1)
    batches: list[Batch] = []
    for size in case.sizes:
        images = torch.rand(size, 2, 4, 4, generator=generator, dtype=torch.float32)
        labels: Labels = torch.randint(3, (size,), generator=generator)
        if case.mixed:
            labels = Mixed(labels, labels.flip(0), 0.7)
        batches.append((images, labels))
    case.spoil(model, batches)
    loss, arguments = case.loss
    loss_fn = losses.build(loss, **arguments)
    kind, settings = case.optimizer
    optimizer = optim.create_optimizer(model, kind, **settings)
    scheduler = optim.create_scheduler(optimizer, len(batches))
    average = moving_average(model, 0.7) if case.ema else None
    slopes = MarginSlopes(model, (2, 4, 4)) if loss_fn.needs_slopes else None
    forward = training_forward(model, **case.forward)
    start = copy.deepcopy(model.state_dict())
    outcome: Outcome = {"losses": [], "norms": [], "error": "", "start": start}
    try:
        for step in fit(
            *(model, batches, loss_fn, optimizer, scheduler),
            steps_per_epoch=3,
            forward=forward,
            slopes=slopes,
            average=average,
            seed=5,
            **case.fit,
        ):
            outcome["losses"].append(step.loss)
            outcome["norms"].append(step.gradient_norm)
            case.between(model)
    except NonFiniteLossError as error:
        outcome["error"] = str(error)
    state = training_state(model, optimizer, scheduler, average)
    drawn = torch.rand(3)
    return {**outcome, "drawn": drawn, "weights": state["model"], "average": state["average"]}


def interrupted_at(last: int) -> Callable[..., Iterator[Step]]:
    """Presses Ctrl-C after a step."""

    def steps(*args: Any, **kwargs: Any) -> Iterator[Step]:
        for step in fit(*args, **kwargs):
            yield step
            if step.index == last:
                raise KeyboardInterrupt

    return steps


def main(out: Path) -> int:
    """Runs all cases and leaves their outcomes; then trains in one go, and with an interruption."""
    for name in CASES:
        torch.save(weights_after(name), out / f"{name}.{distributed.rank()}.pt")
    config = str(out / "config.yaml")
    statuses = [train.alone([config, "--out", str(out / "run")])]
    experiment.fit = interrupted_at(4)  # pyright: ignore[reportPrivateImportUsage]
    statuses.append(train.alone([config, "--out", str(out / "again")]))
    experiment.fit = fit  # pyright: ignore[reportPrivateImportUsage]
    statuses.append(train.alone(["--resume", "--out", str(out / "again")]))
    (out / f"statuses.{distributed.rank()}").write_text(str(statuses))
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    sys.exit(distributed.command(lambda: main(Path(sys.argv[1]))))
