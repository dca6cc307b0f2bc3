"""The table of models by name, in a module of its own so that every family can import it."""

__all__ = ["ModelCard", "Published", "Variant", "card", "family", "registry"]

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Literal, ParamSpec

from ..registry import Registry
from ._parts import image_size
from .network import Network

registry: Registry[Network] = Registry("model")

P = ParamSpec("P")
Family = Callable[P, Network]
Guarantee = Literal["1-Lipschitz", "none"]


@dataclass(frozen=True)
class Published:
    """A result that others published for a variant.

    Arguments:
        data: The data set, such as "CIFAR-10"; what more than it was trained on, after a plus.
        clean: The accuracy, in per cent, if it was published.
        certified: The certified accuracy, in per cent, by the ℓ2 radius in 255ths of [0, 1].
        source: Where it was published.
    """

    data: str
    clean: float | None
    certified: Mapping[int, float]
    source: str


@dataclass(frozen=True)
class Variant:
    """A named member of a family.

    Arguments:
        arguments: Where it differs from the defaults of the family.
        parameters: The number of parameters that was published, for images of 3 × 32 × 32 and ten
            classes, if one was.
        source: Where that number was published, if not in the paper of the family.
        published: Results that others published.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    parameters: float | None = None
    source: str = ""
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """What a reader wants to know of a model before choosing it, and what tests hold it to.

    Arguments:
        name: Its name.
        family: The name of its family, the function that builds it.
        guarantee: What its backbone keeps for every value of its parameters, the standardization of
            images left out: "1-Lipschitz", a proved bound of 1 + 1e-4 at the most; "none", a bound
            of whatever the weights are.
        paper: Authors and year, empty for families of our own.
        url: Where the paper is.
        variant: Where it differs from others of its family.
    """

    name: str
    family: str
    guarantee: Guarantee
    paper: str
    url: str
    variant: Variant


_CARDS: dict[str, ModelCard] = {}


def card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        ValueError: If there is no model of that name.
    """
    registry[name]  # tells an unknown name, with what may have been meant
    return _CARDS[name]


def family(
    variants: Mapping[str, Variant],
    *,
    guarantee: Guarantee = "1-Lipschitz",
    paper: str = "",
    url: str = "",
) -> Callable[[Family[P]], Family[P]]:
    """Registers the variants of a family of models, the decorated function.

    Arguments:
        variants: The members by name.
        guarantee: What all of them promise with their default layers: see `ModelCard`.
        paper: Authors and year.
        url: Where the paper is.
    """

    def register(fn: Family[P]) -> Family[P]:
        for name, variant in variants.items():
            registry.add(name, _builder(fn, name, variant))
            _CARDS[name] = ModelCard(name, fn.__name__, guarantee, paper, url, variant)
        return fn

    return register


def _builder(fn: Callable[..., Network], name: str, variant: Variant) -> Callable[..., Network]:
    """The function of a variant, whose models know how they were built."""
    build = partial(fn, **variant.arguments)
    signature = inspect.signature(build)

    @wraps(fn)
    def create(*args: Any, **kwargs: Any) -> Network:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        channels, classes = (given.arguments[key] for key in ("in_chans", "num_classes"))
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"'in_chans' should be a number of channels, got {channels!r}.")
        if not isinstance(classes, int) or classes < 0:
            raise ValueError(f"'num_classes' should be an integer from 0, got {classes!r}.")
        size = image_size(given.arguments["img_size"])
        given = signature.bind(*args, **kwargs)
        model = build(*given.args, **given.kwargs)
        model.describe(name, arguments=given.arguments, input_size=(channels, *size))
        return model

    create.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    return create
