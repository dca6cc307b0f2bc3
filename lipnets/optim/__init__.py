"""Optimizers and schedules, by name.

Optimizers are timm's, with our rule of what decays: nothing that a parametrization normalizes, for
which shrinking the raw weight changes only the learning rate, and no biases or gains.  Those whose
names begin with `manifold_` are ours: they keep the weights of `manifold_linear` and
`manifold_conv2d` orthogonal, and train all else as AdamW does.
"""

__all__ = ["Schedule", "build", "create_optimizer", "create_scheduler", "names", "registry"]

from typing import Any

from torch import nn
from torch.optim import Optimizer

from . import _manifold, _timm
from ._registry import registry
from ._schedule import Schedule, create_scheduler

build, names = registry.build, registry.names


def create_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float = 0.0, **arguments: Any
) -> Optimizer:
    """Builds the optimizer of all parameters of a model that need gradients.

    Arguments:
        model: The model.
        name: One of `lipnets.optim.names()`.
        lr: The learning rate at its peak.
        weight_decay: The decay of weights that are neither parametrized, nor on a manifold, nor
            biases, nor named by a method `no_weight_decay()` of a module that holds them.
        arguments: What else the optimizer of that name takes, such as `momentum`; all take
            `lookahead`, the number of steps after which weights go half the way back, or 0.

    Raises:
        ValueError: If there is no optimizer of that name, or it would leave the manifold that
            weights of the model are on.
        TypeError: If it does not take one of the arguments.
    """
    return build(name, model=model, lr=lr, weight_decay=weight_decay, **arguments)
