"""The table of models by name, in a module of its own so that every family can import it."""

__all__ = ["family", "registry"]

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ParamSpec

from torch import nn

from ..registry import Registry

registry: Registry[nn.Sequential] = Registry("model")

P = ParamSpec("P")
Family = Callable[P, nn.Sequential]


def family(variants: Mapping[str, Mapping[str, Any]]) -> Callable[[Family[P]], Family[P]]:
    """Registers the variants of a family of models, the decorated function.

    Arguments:
        variants: For each name, the arguments in which it differs from the defaults of the family.
    """

    def register(fn: Family[P]) -> Family[P]:
        for name, arguments in variants.items():
            registry.add(name, partial(fn, **arguments))
        return fn

    return register
