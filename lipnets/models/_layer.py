"""Layers by name in the slots of a model: what fits is built, what does not is refused."""

__all__ = ["Spec", "build_head", "layer"]

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from ..layers import card, registry

Spec = str | Mapping[str, Any]  # the name of a layer, alone or with arguments of it
Kind = Literal["conv", "linear", "act", "pool", "norm", "attention", "head"]

# What a model says of a place and not every layer needs to know.
_OPTIONAL = (
    *("padding", "padding_mode", "channels", "kernel_size", "size", "groups", "stride"),
    *("num_heads", "num_tokens"),
)
# Of these, values that change the function, which a layer must not miss.
_HARMLESS = {"groups": (1,), "stride": (1, (1, 1))}
_WHAT = {
    "conv": "a convolution of images",
    "linear": "a dense layer",
    "act": "an activation",
    "pool": "a pooling",
    "norm": "a normalization",
    "attention": "attention",
    "head": "a dense layer",
}


def layer(spec: Spec, kind: Kind | None = None, **arguments: Any) -> nn.Module:
    """Builds a layer by name.

    Arguments:
        spec: The name, or a mapping of `"name"` to it and of arguments to their values.
        kind: What fits in this place of the model, if not everything.
        **arguments: Arguments that the model sets.  Those of `spec` come first; `padding`,
            `padding_mode`, `channels`, `size`, `kernel_size`, `num_heads`, `num_tokens`, and a
            `stride` or `groups` of 1, are left out for layers that do not take them.

    Raises:
        ValueError: If the name is missing, no layer has it, or the layer does not fit or needs more.
        TypeError: If the layer takes no such argument.
    """
    given = {"name": spec} if isinstance(spec, str) else spec
    if not isinstance(given, Mapping) or "name" not in given:
        raise ValueError(f"A layer should be a name or a mapping with a 'name', got {spec}.")
    given = dict(given)
    name = given.pop("name")
    if kind is not None and not _fits(name, kind):
        raise ValueError(
            f"'{name}' is {_article(card(name).kind)}, and {_WHAT[kind]} is needed here, such as "
            f"{' or '.join(repr(each) for each in _examples(name, kind))}."
        )
    taken = inspect.signature(registry[name]).parameters
    for key in _OPTIONAL:
        if key not in taken and key in arguments:
            value = arguments.pop(key)
            if key in _HARMLESS and value not in _HARMLESS[key]:
                raise ValueError(
                    f"'{name}' takes no {key}, and a {key} of {value} is needed here: choose "
                    "another layer."
                )
    if missing := [key for key in arguments if key not in taken]:
        raise ValueError(
            f"'{name}' takes no '{missing[0]}', by which this place in the model says what it needs: "
            "choose another layer."
        )
    arguments |= given
    if kind == "conv" and "stride" in taken:
        arguments.setdefault("stride", 1)  # which antialiased_conv2d does not have by itself
    for key, parameter in taken.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not variadic and key not in arguments:
            raise ValueError(
                f"'{name}' needs '{key}', which this place in the model does not set: give it, as "
                f"{{name: {name}, {key}: ...}}, or choose another layer."
            )
    return registry.build(name, **arguments)


def build_head(spec: Spec, *, features: int, num_classes: int) -> nn.Module:
    """Builds the layer that gives logits from features; the identity for no classes.

    Raises:
        ValueError: If no such layer fits, or the number of classes is negative.
    """
    if num_classes < 0:
        raise ValueError(f"'num_classes' should be at least 0, got {num_classes}.")
    if num_classes == 0:
        return nn.Identity()
    return layer(spec, "head", in_features=features, out_features=num_classes)


def _fits(name: str, kind: Kind) -> bool:
    taken, known = inspect.signature(registry[name]).parameters, card(name)
    if kind in ("linear", "head"):
        return {"in_features", "out_features"} <= set(taken)
    if kind == "conv":
        images = len(known.shape) == 3 and "transpose" not in name
        return images and {"in_channels", "out_channels"} <= set(taken)
    if kind == "norm":
        return known.kind == "normalization"
    if kind == "act":
        return known.kind == "activation"
    if kind == "attention":
        return known.kind == "attention"
    images = known.kind == "frequency filter" and "in_channels" not in taken  # such as blur_pool2d
    return known.kind == "pooling and mixing" or images


def _examples(name: str, kind: Kind) -> list[str]:
    """Two layers that fit, of the same method if there are."""
    method = name.split("_")[0]
    fitting = [each for each in registry.names() if _fits(each, kind)]
    return sorted(fitting, key=lambda each: each.split("_")[0] != method)[:2]


def _article(kind: str) -> str:
    if kind == "dense":
        return "a dense layer"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
