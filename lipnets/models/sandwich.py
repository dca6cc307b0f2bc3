"""Convolutional networks of sandwich layers.

References:
    | Direct Parameterization of Lipschitz-Bounded Deep Networks (Wang & Manchester, 2023)
    | https://arxiv.org/abs/2301.11526, tables 5 and 6
    | https://github.com/acfr/LBDN (6ae0077, model.py)

What differs from the paper: convolutions are small kernels held by AOL for any padding, where the
paper's are held at each frequency of the torus by the Cayley map; the diagonals Ψ and a scale for each
layer are left out, less than 0.1 % of the parameters; the head has rows of norm 1, where table 5 ends
in half of a sandwich; there is no factor γ, a constant other than 1: radii are the same for
logits and temperatures that are divided by it.
"""

__all__ = ["sandwich"]

from collections.abc import Sequence

from torch import nn

from ._activated import activated
from ._padding import pad_to_multiple
from ._parts import Spec, image_size, network, stem
from ._registry import Published, Variant, family
from .network import Network

_TABLE_2 = "table 2, for a hundred classes"
_TABLE_3 = "Wang & Manchester, 2023, table 3"

VARIANTS = {
    "sandwich_xs": Variant({"widths": (16, 32), "hidden": (128, 128)}),  # for CPUs
    # As in table 5: the large network of Li et al., 2019, narrower and wider.
    "sandwich_s": Variant({}, parameters=3e6, source=_TABLE_2),
    "sandwich_m": Variant(
        {"widths": (64, 128), "hidden": (1024, 1024)}, parameters=12e6, source=_TABLE_2
    ),
    "sandwich_l": Variant(
        {"widths": (128, 256), "hidden": (2048, 2048)}, parameters=48e6, source=_TABLE_2
    ),
    # As in table 6, for certificates: by the number of convolutions.
    "sandwich6": Variant(
        {"widths": (64, 128, 256), "hidden": (2048, 2048, 1024)},
        parameters=26e6,
        source="section 5, for a hundred classes",
        published=(Published("CIFAR-100", 46.3, {36: 35.3}, source=_TABLE_3),),
    ),
    "sandwich8": Variant(
        {"widths": (64, 128, 256, 512), "hidden": (2048, 2048, 1024)},
        published=(Published("Tiny-ImageNet", 33.4, {36: 24.7}, source=_TABLE_3),),
    ),
}


@family(VARIANTS, paper="Wang & Manchester, 2023", url="https://arxiv.org/abs/2301.11526")
def sandwich(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    widths: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (512, 512),
    conv: Spec = "sandwich_conv2d",
    linear: Spec = "sandwich_linear",
    act: Spec = "relu",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a network of sandwich layers: pairs of convolutions, dense layers, and a head.

    The second convolution of a pair is of 1 × 1, after blocks of 2 × 2 pixels have become channels:
    so the paper emulates a stride of 2.  Images whose sides do not halve often enough are padded
    with zeros first.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        widths: The number of channels of each pair.
        hidden: The numbers of outputs of dense layers.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The dense layers, by name.
        act: The activation, by name: inside of sandwiches, where its slopes should be in [0, 1], and
            after layers that are none.
        head: The last layer, by name.
    """
    pads, (height, length) = pad_to_multiple(image_size(img_size), 2 ** len(widths))
    backbone = [*stem(in_chans, mean, std), *pads]
    channels = in_chans
    for width in widths:
        pair = {"out_channels": width, "padding": "same"}
        backbone += activated(conv, "conv", act, in_channels=channels, kernel_size=3, **pair)
        backbone.append(nn.PixelUnshuffle(2))
        backbone += activated(conv, "conv", act, in_channels=4 * width, kernel_size=1, **pair)
        channels, height, length = width, height // 2, length // 2
    backbone.append(nn.Flatten())
    features = channels * height * length
    for outputs in hidden:
        backbone += activated(linear, "linear", act, in_features=features, out_features=outputs)
        features = outputs
    return network(backbone, features=features, num_classes=num_classes, head=head)
