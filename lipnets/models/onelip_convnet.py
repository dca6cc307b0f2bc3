"""The convolutional network of "1-Lipschitz Layers Compared", made of one layer throughout.

References:
    | 1-Lipschitz Layers Compared: Memory, Speed, and Certifiable Robustness (Prach et al., 2023)
    | https://arxiv.org/abs/2311.16833, tables 5-8; github.com/berndprach/1LipschitzLayersCompared

Channels are only ever made by padding with zeros and by folding pixels, and only ever dropped by
keeping the first ones, so that all convolutions have as many inputs as outputs.

What differs from the paper: padding is with zeros, where its AOL, BCOP, Cayley and LOT pad in a
circle; images are folded as often as they can be, where there it is five times for 32 × 32 pixels
(and six times, at half the width, for 64 × 64).
"""

__all__ = ["onelip_convnet"]

from collections.abc import Sequence

from torch import nn

from ._folding import foldings
from ._padding import pad_to_multiple, with_channels
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network


def _variant(width: int, parameters: float, *published: Published) -> Variant:
    return Variant({"width": width}, parameters=parameters, published=published)


def _soc(data: str, clean: float, certified: float) -> Published:
    return Published(data, clean, {36: certified}, "Prach et al., 2023, table 2, SOC, 24 h")


VARIANTS = {
    "onelip_convnet_xs": _variant(
        16, 1.57e6, _soc("CIFAR-10", 74.1, 61.3), _soc("CIFAR-100", 43.1, 30.6)
    ),
    "onelip_convnet_s": _variant(
        32, 6.28e6, _soc("CIFAR-10", 75.0, 62.9), _soc("CIFAR-100", 45.2, 32.6)
    ),
    "onelip_convnet_m": _variant(
        64, 25.12e6, _soc("CIFAR-10", 76.9, 66.3), _soc("CIFAR-100", 47.3, 34.9)
    ),
    "onelip_convnet_l": _variant(
        128, 100.46e6, _soc("CIFAR-10", 76.9, 65.4), _soc("CIFAR-100", 46.2, 33.5)
    ),
}


@family(VARIANTS, paper="Prach et al., 2023", url="https://arxiv.org/abs/2311.16833")
def onelip_convnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 16,
    blocks: int = 5,
    depth: int = 5,
    kernel_size: int = 3,
    conv: Spec = "soc_conv2d",
    linear: Spec = "exp_linear",
    act: Spec = "maxmin",
    pool: Spec = "adaptive_max_pool2d",
    head: Spec = "first_channels",
) -> Network:
    """Builds the network: a 1 × 1 convolution, blocks of convolutions, and a dense layer.

    A block keeps the first half of its channels at the end, and folds 2 × 2 pixels into channels,
    so that the next one has twice as many.  Kernels of the last block are 1 × 1.  Images whose sides
    do not halve so often are padded with zeros; small ones have as many blocks as it takes to halve
    their shorter side to one pixel.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images, at most `width`.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels of the first block, even.
        blocks: The number of blocks, at the most.
        depth: The number of convolutions of each block.
        kernel_size: The side of kernels.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The dense layer before the head, by name.
        act: The activation, by name.
        pool: The pooling of what is left of the image to one pixel, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If `width` is odd or less than `in_chans`, or there are no blocks.
    """
    if width % 2 or width < in_chans:
        raise ValueError(
            f"'width' should be even and at least the {in_chans} channels of images, got {width}."
        )
    if blocks < 1 or depth < 1:
        raise ValueError(f"'blocks' and 'depth' should be at least 1, got {blocks} and {depth}.")
    size = image_size(img_size)
    folds = foldings(size, blocks)
    pads, (rows, columns) = pad_to_multiple(size, 2**folds)
    backbone = [*stem(in_chans, mean, std), *pads]
    backbone += [with_channels(in_chans, width)] if in_chans < width else []
    kernels = [[kernel_size] * depth] * (folds - 1) + [[1] * depth] * min(folds, 1)
    for block, sides in enumerate([[1], *kernels]):
        for side in sides:
            module = layer(
                conv,
                "conv",
                in_channels=width,
                out_channels=width,
                kernel_size=side,
                padding="same",
                size=(rows, columns),
            )
            backbone += [module, layer(act, "act", channels=width)]
        if block:
            backbone += [with_channels(width, width // 2), nn.PixelUnshuffle(2)]
            width, rows, columns = 2 * width, rows // 2, columns // 2
    backbone += [layer(pool, "pool", output_size=1), nn.Flatten()]
    backbone.append(layer(linear, "linear", in_features=width, out_features=width))
    return network(backbone, features=width, num_classes=num_classes, head=head)
