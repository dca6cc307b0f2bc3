"""Small LipConvNets, for images of a few pixels and for laptops.

References:
    | Skew Orthogonal Convolutions (Singla & Feizi, 2021) https://arxiv.org/abs/2105.11417: the kind

What differs from LipConvNet of the paper, which is `lipconvnet`: the last convolution of a stage
halves the channels before pixels are folded into channels, which is cheaper than after; `patch`
folds pixels before the first convolution, and `hidden` adds linear layers before the head.
"""

__all__ = ["lipconvnet_small"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .network import Network

VARIANTS = {
    "lipconvnet_xs": Variant({"width": 16, "depths": (2, 2)}),
    "lipconvnet_s": Variant({"width": 64, "depths": (2, 2), "patch": 2, "hidden": (256,)}),
    "lipconvnet_m": Variant({"width": 64, "depths": (3,), "patch": 4, "hidden": (512, 512)}),
}


@family(VARIANTS)
def lipconvnet_small(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch: int = 1,
    width: int = 32,
    depths: Sequence[int] = (1, 1, 1, 1, 1),
    kernel_size: int = 3,
    hidden: Sequence[int] = (),
    conv: Spec = "bcop_conv2d",
    linear: Spec = "cayley_linear",
    act: Spec = "maxmin",
    head: Spec = "unit_norm_linear",
    norm: Spec | None = None,
    drop_rate: float = 0.0,
) -> Network:
    """Builds a small LipConvNet: stages of convolutions that keep the size of images, and a head.

    Between stages, blocks of 2 × 2 pixels become channels, a reordering that keeps norms.  Images
    whose sides do not halve often enough are padded with zeros first.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        patch: The side of the blocks of pixels that become channels at first.
        width: The number of channels of the first stage, even; each stage doubles it.
        depths: The number of convolutions of each stage, at least 1; its last halves the channels.
        kernel_size: The side of kernels.
        hidden: The numbers of outputs of linear layers between the last stage and the head.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The linear layers before the head, by name.
        act: The activation, by name.
        head: The last layer, by name.
        norm: The normalization after each convolution, by name; None for no normalization.
        drop_rate: The share of features that dropout sets to zero before the head, in training.

    Raises:
        ValueError: If a stage has no convolution, or `width` is odd.
    """
    if not depths or min(depths) < 1:
        raise ValueError(f"'depths' should be numbers of convolutions, at least 1, got {depths}.")
    if width % 2:
        raise ValueError(f"'width' should be even, got {width}: stages end with half the channels.")
    pads, (height, length) = pad_to_multiple(image_size(img_size), patch * 2 ** (len(depths) - 1))
    backbone = [*stem(in_chans, mean, std), *pads]

    channels, pixels = in_chans, height * length
    for stage, depth in enumerate(depths):
        fold = patch if stage == 0 else 2
        if fold > 1:
            backbone.append(nn.PixelUnshuffle(fold))
            channels, pixels = channels * fold**2, pixels // fold**2
        wide = width * 2**stage
        sizes = [channels, *[wide] * (depth - 1), wide // 2]
        for inputs, outputs in pairwise(sizes):
            shape = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel_size}
            backbone.append(layer(conv, "conv", **shape, padding="same"))
            if norm is not None:
                backbone.append(layer(norm, "norm", num_features=outputs))
            backbone.append(layer(act, "act", channels=outputs))
        channels = wide // 2

    backbone.append(nn.Flatten())
    sizes = [channels * pixels, *hidden]
    for inputs, outputs in pairwise(sizes):
        backbone.append(layer(linear, "linear", in_features=inputs, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    if drop_rate:
        backbone.append(nn.Dropout(drop_rate))
    return network(backbone, features=sizes[-1], num_classes=num_classes, head=head)
