"""AOL-MLP, fully-connected almost-orthogonal layers as wide as the image.

References:
    | https://github.com/berndprach/scaling_up_Lipschitz_networks (e7b2c70), where it is trained on
    | 20 million generated images for up to eight days on an A100; there is no paper
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160

What differs: images of more pixels than the width are taken by a first layer that maps them to it.
"""

__all__ = ["aol_mlp"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._activated import activated
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

VARIANTS = {
    "aol_mlp_s": Variant({"width": 512, "depth": 4}),  # for CPUs
    "aol_mlp_m": Variant({"depth": 8}),
    "aol_mlp_l": Variant(
        {"depth": 16},
        published=(
            Published(
                *("CIFAR-10 + 20M generated", None, {36: 77.6}),
                source="README of the repository, eight days, generated images alone",
            ),
        ),
    ),
}


@family(
    VARIANTS,
    paper="Prach & Lampert, Scaling Up Lipschitz Networks",
    url="https://github.com/berndprach/scaling_up_Lipschitz_networks",
)
def aol_mlp(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 3072,
    depth: int = 8,
    linear: Spec = "aol_linear",
    act: Spec = "maxmin",
    head: Spec = "first_channels",
) -> Network:
    """Builds an AOL-MLP: pixels, with zeros appended, dense layers of one width, and a projection.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of features of every layer.
        depth: The number of layers, at least 1, all but the last followed by an activation.
        linear: The dense layers, by name, or as a mapping of `name` and further arguments.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If there is no layer, or one does not fit.
    """
    if depth < 1:
        raise ValueError(f"'depth' should be at least 1, got {depth}.")
    height, length = image_size(img_size)
    pixels = in_chans * height * length
    backbone = [*stem(in_chans, mean, std), nn.Flatten()]
    if pixels < width:
        backbone.append(nn.ConstantPad1d((0, width - pixels), 0.0))
    *sizes, last = pairwise([max(pixels, width), *[width] * depth])
    for inputs, outputs in sizes:
        backbone += activated(linear, "linear", act, in_features=inputs, out_features=outputs)
    backbone.append(layer(linear, "linear", in_features=last[0], out_features=last[1]))
    return network(backbone, features=width, num_classes=num_classes, head=head)
