"""Optimizers of timm by name, with our groups of parameters."""

__all__: list[str] = []

from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..compat import ensure_torchvision
from ._registry import optimizer, parameter_groups

Betas = tuple[float, float]


@optimizer
def adam(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds Adam; its weight decay is added to gradients."""
    return _create(model, "adam", lr, weight_decay, betas=betas, eps=eps)


@optimizer
def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds AdamW, whose weight decay is apart from gradients."""
    return _create(model, "adamw", lr, weight_decay, betas=betas, eps=eps)


@optimizer
def nadamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds AdamW with Nesterov momentum."""
    return _create(model, "nadamw", lr, weight_decay, betas=betas, eps=eps)


@optimizer
def lamb(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-6,
) -> Optimizer:
    """Builds LAMB: Adam, with steps in proportion to the norm of each weight; for large batches."""
    return _create(model, "lamb", lr, weight_decay, betas=betas, eps=eps)


@optimizer
def lion(
    model: nn.Module, lr: float, weight_decay: float = 0.0, betas: Betas = (0.9, 0.99)
) -> Optimizer:
    """Builds Lion, which steps by signs: a third to a tenth of the learning rate of AdamW."""
    return _create(model, "lion", lr, weight_decay, betas=betas)


@optimizer
def rmsprop(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    alpha: float = 0.9,
    momentum: float = 0.9,
    eps: float = 1e-8,
) -> Optimizer:
    """Builds RMSprop with momentum; its weight decay is added to gradients."""
    return _create(model, "rmsprop", lr, weight_decay, alpha=alpha, momentum=momentum, eps=eps)


@optimizer
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


@optimizer
def muon(
    model: nn.Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
) -> Optimizer:
    """Builds Muon, which orthogonalizes the momentum of matrices and kernels; AdamW for vectors."""
    return _create(model, "muon", lr, weight_decay, momentum=momentum)


@optimizer
def adamuon(
    model: nn.Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
) -> Optimizer:
    """Builds AdaMuon: Muon, with second moments of what is orthogonalized."""
    return _create(model, "adamuon", lr, weight_decay, momentum=momentum)


@optimizer
def nadamuon(
    model: nn.Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
) -> Optimizer:
    """Builds AdaMuon with Nesterov momentum."""
    return _create(model, "nadamuon", lr, weight_decay, momentum=momentum)


def _create(
    model: nn.Module, name: str, lr: float, weight_decay: float, **arguments: Any
) -> Optimizer:
    ensure_torchvision()
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(model, weight_decay)

    return create_optimizer_v2(
        model, name, lr=lr, weight_decay=weight_decay, param_group_fn=groups, **arguments
    )
