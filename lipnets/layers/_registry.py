"""The table of layers by name, in a module of its own so that every layer can import it."""

__all__ = ["drop_in", "registry"]

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch import nn

from ..registry import Registry

registry: Registry[nn.Module] = Registry("layer")

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


def drop_in(cls: Callable[P, M]) -> Callable[[Callable[[M], None]], Callable[P, M]]:
    """Makes a builder of constrained layers, with the arguments of a class of torch.nn.

    The decorated function takes a layer fresh from the constructor of `cls`, refuses what it cannot
    constrain, initializes it and parametrizes its weight.  It becomes the builder, registered under
    its own name.
    """

    def decorate(constrain: Callable[[M], None]) -> Callable[P, M]:
        @wraps(constrain)
        def build(*args: P.args, **kwargs: P.kwargs) -> M:
            module = cls(*args, **kwargs)
            constrain(module)
            return module

        signature = inspect.signature(cls).replace(return_annotation=cls)
        build.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        return registry.register(build)

    return decorate
