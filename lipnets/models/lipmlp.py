"""LipMLP, the 1-Lipschitz multilayer perceptron.

References:
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381
"""

__all__ = ["lipmlp"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .network import Network

VARIANTS = {
    "lipmlp_s": Variant({"widths": (128, 128)}),
    "lipmlp_m": Variant({"widths": (256, 256, 256)}),
    "lipmlp_l": Variant({"widths": (512, 512, 512, 512)}),
}


@family(VARIANTS, paper="Anil, Lucas & Grosse, 2019", url="https://arxiv.org/abs/1811.05381")
def lipmlp(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    widths: Sequence[int] = (128, 128),
    linear: Spec = "cayley_linear",
    act: Spec = "maxmin",
    head: Spec = "unit_norm_linear",
    drop_rate: float = 0.0,
) -> Network:
    """Builds a LipMLP: linear layers of norm 1, each followed by an activation, and a head.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        widths: The number of outputs of each layer.
        linear: The linear layers, by name, or as a mapping of `name` and further arguments.
        act: The activation, by name.
        head: The last layer, by name.
        drop_rate: The share of features that dropout sets to zero before the head, in training.
    """
    height, width = image_size(img_size)
    sizes = [in_chans * height * width, *widths]
    backbone = [*stem(in_chans, mean, std), nn.Flatten()]
    for features, outputs in pairwise(sizes):
        backbone.append(layer(linear, "linear", in_features=features, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    if drop_rate:
        backbone.append(nn.Dropout(drop_rate))
    return network(backbone, features=sizes[-1], num_classes=num_classes, head=head)
