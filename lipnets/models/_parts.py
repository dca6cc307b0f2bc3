"""What the families share: arguments that come from the data, and the two ends of a model."""

__all__ = ["Spec", "image_size", "layer", "network", "stem"]

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..layers import Standardize, registry

Spec = str | Mapping[str, Any]  # the name of a layer, alone or with arguments of it


def layer(spec: Spec, **arguments: Any) -> nn.Module:
    """Builds a layer by name.

    Arguments:
        spec: The name, or a mapping of `"name"` to it and of arguments to their values.
        **arguments: Arguments that the model sets.  Those of `spec` come first; `padding` and
            `channels`, which not every layer takes, are left out for those that do not.

    Raises:
        ValueError: If the name is missing, or no layer has it.
        TypeError: If the layer takes no such argument.
    """
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "name" not in given:
        raise ValueError(f"A layer should be a name or a mapping with a 'name', got {spec}.")
    name = given.pop("name")
    taken = inspect.signature(registry[name]).parameters
    for key in ("padding", "channels"):
        if key not in taken:
            arguments.pop(key, None)
    return registry.build(name, **{**arguments, **given})


def image_size(img_size: int | Sequence[int]) -> tuple[int, int]:
    """The height and width of images, from a side or from both.

    Raises:
        ValueError: If there are not one or two positive numbers.
    """
    size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"'img_size' should be a side or (height, width), got {img_size}.")
    return size


def stem(
    in_chans: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> list[nn.Module]:
    """The standardization of images, as the first layer of a backbone, if there is one.

    Raises:
        ValueError: If one of `mean` and `std` is missing, or not a number for each channel.
    """
    if mean is None and std is None:
        return []
    if mean is None or std is None or not len(mean) == len(std) == in_chans:
        raise ValueError(
            f"'mean' and 'std' should both have {in_chans} numbers, one for each channel, "
            f"got {mean} and {std}."
        )
    return [Standardize(mean, std)]


def network(
    backbone: Sequence[nn.Module], *, features: int, num_classes: int, head: Spec
) -> nn.Sequential:
    """Joins a backbone and the linear layer that gives logits from its features."""
    last = layer(head, in_features=features, out_features=num_classes)
    return nn.Sequential(OrderedDict(backbone=nn.Sequential(*backbone), head=last))
