"""The table of layers by name, in a module of its own so that every layer can import it."""

__all__ = ["Card", "add", "card", "drop_in", "named", "registry"]

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

from torch import nn

from ..registry import Registry

registry: Registry[nn.Module] = Registry("layer")
_CARDS: dict[str, "Card"] = {}

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", bound=type[nn.Module])


@dataclass(frozen=True)
class Card:
    """What a reader wants to know of a layer before choosing it, and what the contract tests.

    Arguments:
        kind: What it is, the heading under which the documentation lists it.
        guarantee: What its constructor promises, for every value of its parameters:
            "1-Lipschitz", a proved bound of 1 + 1e-6 at the most; "orthogonal", beside that singular
            values of 1 (on the torus, for convolutions) except for raw weights that determine no
            orthogonal matrix; "bounded", a proved bound that is an argument or is learned; "none",
            a bound of whatever the weights are.
        paper: Authors and year.
        url: Where the paper is.
        choose: When to choose it, in a sentence.
        arguments: The arguments of an example.
        shape: The shape of an input of the example, without batch dimension.
    """

    kind: Literal[
        "dense", "convolution", "residual block", "frequency filter", "activation", "pooling and mixing",
        "normalization", "attention",
    ]  # fmt: skip
    guarantee: Literal["1-Lipschitz", "orthogonal", "bounded", "none"]
    paper: str
    url: str
    choose: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()


_EXAMPLES: dict[type[nn.Module], tuple[dict[str, Any], tuple[int, ...]]] = {
    nn.Linear: ({"in_features": 6, "out_features": 6}, (6,)),
    **{
        cls: (
            {
                "in_channels": 4,
                "out_channels": 4,
                "kernel_size": 3,
                "padding": 1,
                "padding_mode": "circular",
            },
            (4, *size),
        )
        for cls, size in ((nn.Conv1d, (8,)), (nn.Conv2d, (5, 6)), (nn.Conv3d, (3, 4, 3)))
    },
    **{
        cls: ({"in_channels": 4, "out_channels": 4, "kernel_size": 2, "stride": 2}, (4, *size))
        for cls, size in (
            (nn.ConvTranspose1d, (4,)),
            (nn.ConvTranspose2d, (3, 4)),
            (nn.ConvTranspose3d, (2, 2, 3)),
        )
    },
}


def add(name: str, build: Callable[..., nn.Module], card: Card) -> None:
    """Registers a function or a class under a name, with its card."""
    registry.add(name, build)
    _CARDS[name] = card


def card(name: str) -> Card:
    """The card of a layer.

    Raises:
        ValueError: If there is no layer of that name.
    """
    registry[name]  # tells an unknown name, with what may have been meant
    return _CARDS[name]


def named(name: str, card: Card) -> Callable[[C], C]:
    """Registers the decorated class under a name."""

    def decorate(cls: C) -> C:
        add(name, cls, card)
        return cls

    return decorate


def drop_in(cls: Callable[P, M], card: Card) -> Callable[[Callable[[M], None]], Callable[P, M]]:
    """Makes a builder of constrained layers, with the arguments of a class of torch.nn.

    The decorated function takes a layer fresh from the constructor of `cls`, refuses what it cannot
    constrain, initializes it and parametrizes its weight.  It becomes the builder, registered under
    its own name.
    """
    if not card.shape and cls in _EXAMPLES:
        arguments, shape = _EXAMPLES[cls]  # pyright: ignore[reportArgumentType]
        card = replace(card, arguments={**arguments, **card.arguments}, shape=shape)

    def decorate(constrain: Callable[[M], None]) -> Callable[P, M]:
        @wraps(constrain)
        def build(*args: P.args, **kwargs: P.kwargs) -> M:
            module = cls(*args, **kwargs)
            constrain(module)
            return module

        signature = inspect.signature(cls).replace(return_annotation=cls)
        build.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        add(build.__name__, build, card)
        return build

    return decorate
