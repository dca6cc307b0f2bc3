"""Optimizers and schedules, by name.

Optimizers are timm's, with our rule of what decays: nothing that a parametrization normalizes, for
which shrinking the raw weight changes only the learning rate, and no biases or gains.
"""

__all__ = ["build", "create_optimizer", "create_scheduler", "names", "registry"]

import math
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .compat import ensure_torchvision
from .registry import Registry

registry: Registry[Optimizer] = Registry("optimizer")
build, names = registry.build, registry.names

Betas = tuple[float, float]


def create_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float = 0.0, **arguments: Any
) -> Optimizer:
    """Builds the optimizer of all parameters of a model that need gradients.

    Arguments:
        model: The model.
        name: One of `lipnets.optim.names()`.
        lr: The learning rate at its peak.
        weight_decay: The decay of weights that are neither parametrized nor biases.
        arguments: What else the optimizer of that name takes, such as `momentum`.

    Raises:
        ValueError: If there is no optimizer of that name.
        TypeError: If it does not take one of the arguments.
    """
    return build(name, model=model, lr=lr, weight_decay=weight_decay, **arguments)


def create_scheduler(optimizer: Optimizer, steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Builds a cosine schedule with a linear warm-up, to be stepped after every optimization step.

    With w warm-up steps of n, step i (from 0) is taken at the peak rate times (i + 1) / (w + 1)
    while i < w, and times ½ (1 + cos π (i − w) / (n − w)) afterwards: never at rate 0.

    Arguments:
        optimizer: The optimizer, at its peak learning rate.
        steps: The number n of all steps.
        warmup_steps: The number w of steps before the peak.

    Raises:
        ValueError: If the warm-up leaves no step.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"'warmup_steps' should be in [0, {steps}), got {warmup_steps}.")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        passed = (step - warmup_steps) / (steps - warmup_steps)
        return (1 + math.cos(math.pi * min(passed, 1.0))) / 2

    return LambdaLR(optimizer, factor)


@registry.register
def adam(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds Adam; its weight decay is added to gradients."""
    return _create(model, "adam", lr, weight_decay, betas=betas, eps=eps)


@registry.register
def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds AdamW, whose weight decay is apart from gradients."""
    return _create(model, "adamw", lr, weight_decay, betas=betas, eps=eps)


@registry.register
def nadamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds AdamW with Nesterov momentum."""
    return _create(model, "nadamw", lr, weight_decay, betas=betas, eps=eps)


@registry.register
def sgd(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = True,
) -> Optimizer:
    """Builds stochastic gradient descent with momentum."""
    momentum_kind: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov and momentum > 0}
    return _create(model, "sgd", lr, weight_decay, **momentum_kind)


@registry.register
def muon(
    model: nn.Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
) -> Optimizer:
    """Builds Muon, which orthogonalizes the momentum of matrices and kernels; AdamW for vectors."""
    return _create(model, "muon", lr, weight_decay, momentum=momentum)


def _create(
    model: nn.Module, name: str, lr: float, weight_decay: float, **arguments: Any
) -> Optimizer:
    ensure_torchvision()
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        return _parameter_groups(model, weight_decay)

    return create_optimizer_v2(
        model, name, lr=lr, weight_decay=weight_decay, param_group_fn=groups, **arguments
    )


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that decay, and those that do not."""
    parametrized = {
        parameter
        for module in model.modules()
        if parametrize.is_parametrized(module)
        for parameter in module.get_submodule("parametrizations").parameters()
    }
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    free = [p for p in parameters if p.ndim >= 2 and p not in parametrized]
    rest = [p for p in parameters if p.ndim < 2 or p in parametrized]
    groups = [{"params": free, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
