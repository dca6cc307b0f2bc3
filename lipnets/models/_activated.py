"""Layers and their activations, which some layers have inside."""

__all__ = ["activated"]

import inspect
from typing import Any, Literal

from torch import nn

from ..layers import registry
from ._parts import Spec, layer


def activated(
    spec: Spec,
    kind: Literal["conv", "linear"],
    act: Spec,
    *,
    hidden: int | None = None,
    **arguments: Any,
) -> list[nn.Module]:
    """Builds a layer with an activation: within it, if it is a block around one, else after it.

    Arguments:
        spec: The layer.
        kind: Whether it is a convolution or a dense layer.
        act: The activation.
        hidden: The number of hidden units or channels of a block, if not its own default; other
            layers have none.
        **arguments: Arguments of the layer.

    Raises:
        ValueError: If a layer does not fit, or a block does not take that activation.
    """
    sizes = {
        "conv": ("out_channels", "hidden_channels"),
        "linear": ("out_features", "hidden_features"),
    }
    outs, inner = sizes[kind]
    name = spec if isinstance(spec, str) else spec.get("name")
    taken = {} if name is None else inspect.signature(registry[name]).parameters
    if "activation" not in taken:
        return [layer(spec, kind, **arguments), layer(act, "act", channels=arguments[outs])]
    activation = layer(act, "act", channels=hidden or arguments[outs])
    width = {} if hidden is None else {inner: hidden}
    return [layer(spec, kind, **arguments, **width, activation=activation)]
