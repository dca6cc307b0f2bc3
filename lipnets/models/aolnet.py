"""AOLNet, the patchwise network of almost-orthogonal layers.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160, table 2
    | https://github.com/berndprach/AOL (9881e70, src/aol_code/models/patchwise.py)

What differs from the paper: layers that keep the number of channels start as a random orthogonal map
instead of the identity; images that patches do not fit are padded with zeros.  Numbers of parameters
are counted from table 2; that of the largest is published by Prach et al., 2023.
"""

__all__ = ["aolnet"]

from collections.abc import Sequence

from torch import nn

from ._activated import activated
from ._padding import pad_to_multiple, with_channels
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_PAPER = "Prach & Lampert, 2022, table"

VARIANTS = {
    # For CPUs.
    "aolnet_xs": Variant({"width": 48, "depth": 4, "channels": 4, "linear_depth": 4}),
    "aolnet_s": Variant(
        {"channels": 16},
        published=(
            Published(
                *("CIFAR-10", 69.8, {36: 62.0, 72: 54.4, 108: 47.1, 255: 21.8}),
                source=f"{_PAPER} 3",
            ),
            Published(
                *("CIFAR-100", 42.4, {36: 32.5, 72: 24.8, 108: 19.2, 255: 6.7}),
                source=f"{_PAPER} 4",
            ),
        ),
    ),
    "aolnet_m": Variant(
        {"channels": 32},
        published=(
            Published(
                *("CIFAR-10", 71.1, {36: 63.8, 72: 56.1, 108: 48.6, 255: 23.2}),
                source=f"{_PAPER} 3",
            ),
            Published(
                *("CIFAR-100", 43.2, {36: 33.7, 72: 26.0, 108: 20.2, 255: 7.2}),
                source=f"{_PAPER} 4",
            ),
        ),
    ),
    "aolnet_l": Variant(
        {"channels": 48},
        parameters=136e6,
        source="Prach et al., 2023, table 4",
        published=(
            Published(
                *("CIFAR-10", 71.6, {36: 64.0, 72: 56.4, 108: 49.0, 255: 23.7}),
                source=f"{_PAPER} 3",
            ),
            Published(
                *("CIFAR-100", 43.7, {36: 33.7, 72: 26.3, 108: 20.7, 255: 7.8}),
                source=f"{_PAPER} 4",
            ),
        ),
    ),
}


@family(VARIANTS, paper="Prach & Lampert, 2022", url="https://arxiv.org/abs/2208.03160")
def aolnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch: int = 4,
    width: int = 192,
    depth: int = 12,
    channels: int = 16,
    linear_depth: int = 14,
    conv: Spec = "aol_conv2d",
    linear: Spec = "aol_linear",
    act: Spec = "maxmin",
    head: Spec = "first_channels",
) -> Network:
    """Builds an AOLNet: patches, convolutions among them, a few channels of each, dense layers.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        patch: The side of patches, whose pixels become channels.
        width: The number of channels of convolutions.
        depth: The number of convolutions of 3 × 3; one of 1 × 1 comes before them and one after.
        channels: The number of channels that go on to the dense layers, at most `width`.
        linear_depth: The number of dense layers, which keep the number of features.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The dense layers, by name.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If more channels should go on than there are, or a layer does not fit.
    """
    if not 1 <= channels <= width:
        raise ValueError(f"'channels' should be from 1 to 'width', {width}, got {channels}.")
    pads, (height, length) = pad_to_multiple(image_size(img_size), patch)
    backbone = [*stem(in_chans, mean, std), *pads, nn.PixelUnshuffle(patch)]
    inputs = in_chans * patch**2
    for kernel_size in (1, *[3] * depth):
        shape_of = {"in_channels": inputs, "out_channels": width, "kernel_size": kernel_size}
        backbone += activated(conv, "conv", act, **shape_of, padding="same")
        inputs = width
    backbone.append(
        layer(conv, "conv", in_channels=inputs, out_channels=width, kernel_size=1, padding="same")
    )
    backbone += [with_channels(width, channels), nn.Flatten()]
    features = channels * (height // patch) * (length // patch)
    sizes = {"in_features": features, "out_features": features}
    for _ in range(linear_depth - 1):
        backbone += activated(linear, "linear", act, **sizes)
    if linear_depth:
        backbone.append(layer(linear, "linear", **sizes))
    return network(backbone, features=features, num_classes=num_classes, head=head)
