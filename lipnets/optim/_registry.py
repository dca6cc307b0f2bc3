"""The table of optimizers by name, what all of them take, and which parameters decay."""

__all__ = ["optimizer", "parameter_groups", "registry"]

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from ..layers.manifold import manifold_weights
from ..registry import Registry
from ._lookahead import look_ahead

registry: Registry[Optimizer] = Registry("optimizer")

Build = Callable[..., Optimizer]


def optimizer(build: Build) -> Build:
    """Registers the builder of an optimizer, and adds what every optimizer takes: `lookahead`.

    A builder whose name does not begin with `manifold_` refuses models with weights on a manifold.
    """
    name = build.__name__

    @wraps(build)
    def checked(model: nn.Module, lookahead: int = 0, **arguments: Any) -> Optimizer:
        if not name.startswith("manifold_"):
            _refuse_manifolds(model, name)
        built = build(model, **arguments)
        if lookahead:
            look_ahead(built, lookahead)
        return built

    signature = inspect.signature(build)
    keyword = inspect.Parameter.KEYWORD_ONLY
    lookahead = inspect.Parameter("lookahead", keyword, default=0, annotation=int)
    parameters = [*signature.parameters.values(), lookahead]
    checked.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
    return registry.register(checked)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that decay, and those that do not, of those that need gradients.

    Matrices and kernels decay, unless they are parametrized, on a manifold, or named by a method
    `no_weight_decay()` of a module that holds them, as in timm.
    """
    exempt = set(map(id, manifold_weights(model).values()))
    for module in model.modules():
        if parametrize.is_parametrized(module):
            exempt |= set(map(id, module.get_submodule("parametrizations").parameters()))
        names = getattr(module, "no_weight_decay", set)()
        exempt |= {id(p) for name, p in module.named_parameters() if name in names}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    free = [p for p in parameters if p.ndim >= 2 and id(p) not in exempt]
    rest = [p for p in parameters if p.ndim < 2 or id(p) in exempt]
    groups = [{"params": free, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _refuse_manifolds(model: nn.Module, name: str) -> None:
    trained = [key for key, weight in manifold_weights(model).items() if weight.requires_grad]
    if trained:
        others = ", ".join(registry.names("manifold_*"))
        raise ValueError(
            f"'{name}' would not keep '{trained[0]}' orthogonal ({len(trained)} such weights): "
            f"choose one of {others}, or layers that are parametrized, such as 'cayley_linear'."
        )
