"""What the families share: arguments that come from the data, and the two ends of a model."""

__all__ = ["Spec", "image_size", "layer", "network", "stem"]

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from ..layers import Standardize
from ._layer import Spec, build_head, layer
from .network import Network


def image_size(img_size: int | Sequence[int]) -> tuple[int, int]:
    """The height and width of images, from a side or from both.

    Raises:
        ValueError: If there are not one or two positive numbers.
    """
    sides = (img_size, img_size) if isinstance(img_size, int) else img_size
    whole = isinstance(sides, Sequence) and all(isinstance(n, int) and n >= 1 for n in sides)
    if not whole or len(sides) != 2:
        raise ValueError(f"'img_size' should be a side or (height, width), got {img_size!r}.")
    return sides[0], sides[1]


def stem(
    in_chans: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> list[nn.Module]:
    """The standardization of images, as the first layer of a backbone, if there is one.

    Raises:
        ValueError: If one of `mean` and `std` is missing, or not a number for each channel.
    """
    if mean is None and std is None:
        return []
    if mean is None or std is None or _length(mean) != in_chans or _length(std) != in_chans:
        raise ValueError(
            f"'mean' and 'std' should both have {in_chans} numbers, one for each channel, "
            f"got {mean} and {std}."
        )
    return [Standardize(mean, std)]


def network(
    backbone: Sequence[nn.Module], *, features: int, num_classes: int, head: Spec
) -> Network:
    """Joins a backbone and the layer that gives logits from its features.

    Arguments:
        backbone: The layers, which end in features with shape (B, F).
        features: The number F.
        num_classes: The number of logits; 0 leaves the features.
        head: The last layer, by name: `"unit_norm_linear"` normalizes its rows, `"linear"` leaves
            them free for the pairwise bound, `"first_channels"` projects on the first features.
    """
    last = build_head(head, features=features, num_classes=num_classes)
    model = Network(OrderedDict(backbone=nn.Sequential(*backbone), head=last))
    model.num_features, model.num_classes, model.head_spec = features, num_classes, head
    return model


def _length(values: Sequence[float]) -> int:
    """How many numbers there are, none of them if it is one number and no sequence."""
    return len(values) if hasattr(values, "__len__") else 0
