"""LipConvNet, the plain 1-Lipschitz convolutional network of five blocks.

References:
    | Skew Orthogonal Convolutions (Singla & Feizi, 2021) https://arxiv.org/abs/2105.11417
    | Improved deterministic l2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062: the normalized last layer
    | Sizes: `lip_convnets.py` of github.com/singlasahil14/SOC

What differs from the papers: `soc_conv2d` takes the exponential at each frequency, without the error
of a series, of the image in a larger torus, where the papers sum a series of zero-padded
convolutions.  Its raw kernels are square in the larger number of channels, as theirs; the head is
the normalized one of the second paper, where that of the first is a convolution of 1024 × 1024 raw
weights, of which ten rows are used: one million parameters more.  Prach et al. (2023, table 4) say
24 million parameters for 25 layers; the authors' code has 29.
"""

__all__ = ["lipconvnet"]

from collections.abc import Sequence

from torch import nn

from ._folding import foldings
from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_COUNTED = "counted in the authors' code, with a normalized last layer"
_CITED = "as cited by Prach et al., 2023, table 4"
_REVIEW = "SOC, in the discussion of Xu et al., 2022, on OpenReview"


def _tiny(clean: float, *certified: float) -> Published:
    radii = zip((36, 72, 108), certified, strict=True)
    return Published("TinyImageNet", clean, dict(radii), _REVIEW)


_PARAMETERS = {
    5: 16.63e6, 10: 19.88e6, 15: 23.03e6, 20: 26.17e6, 25: 29.31e6, 30: 32.46e6, 35: 35.60e6,
    40: 38.75e6,
}  # fmt: skip
_PUBLISHED = {
    5: (_tiny(30.77, 19.74, 11.60, 6.89),),
    10: (_tiny(31.94, 21.21, 12.80, 7.79),),
    15: (_tiny(32.26, 21.36, 12.94, 7.80),),
    20: (_tiny(32.44, 21.27, 12.90, 7.63),),
    25: (
        Published("CIFAR-10", 76.4, {36: 61.9}, f"Singla & Feizi, 2021, {_CITED}"),
        Published(
            "CIFAR-10", 76.8, {36: 64.4, 72: 49.8, 108: 37.3}, f"LOT, Xu et al., 2022, {_CITED}"
        ),
    ),
    40: (Published("CIFAR-10", None, {36: 63.5}, "LOT, Xu et al., 2022, abstract"),),
}
VARIANTS = {
    f"lipconvnet{5 * depth}": Variant(
        {"depth": depth}, _PARAMETERS[5 * depth], _COUNTED, _PUBLISHED.get(5 * depth, ())
    )
    for depth in range(1, 9)
}


@family(VARIANTS, paper="Singla & Feizi, 2021", url="https://arxiv.org/abs/2105.11417")
def lipconvnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 32,
    blocks: int = 5,
    depth: int = 1,
    kernel_size: int = 3,
    conv: Spec = "soc_conv2d",
    act: Spec = "maxmin",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a LipConvNet: blocks of convolutions, the last of which halves the image.

    For that, 2 × 2 pixels become channels, and the convolution maps these to twice the channels of
    the block; with a kernel of 1 × 1 in the last block.  Images whose sides do not halve so often
    are padded with zeros; small ones have as many blocks as it takes to halve their shorter side to
    one pixel.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels of the first block; each block doubles it.
        blocks: The number of blocks, at the most.
        depth: The number of convolutions of each block: LipConvNet-n of the paper has n / 5.
        kernel_size: The side of kernels.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If there are no blocks, or no convolutions in them.
    """
    if blocks < 1 or depth < 1:
        raise ValueError(f"'blocks' and 'depth' should be at least 1, got {blocks} and {depth}.")
    size = image_size(img_size)
    folds = foldings(size, blocks)
    pads, (rows, columns) = pad_to_multiple(size, 2**folds)
    backbone = [*stem(in_chans, mean, std), *pads]
    channels = in_chans
    for block in range(folds):
        for place in range(depth):
            last = place == depth - 1
            backbone += [nn.PixelUnshuffle(2)] if last else []
            rows, columns = rows // 2**last, columns // 2**last
            outputs = width * 2 ** (block + last)
            module = layer(
                conv,
                "conv",
                in_channels=channels * 4**last,
                out_channels=outputs,
                kernel_size=1 if last and block == folds - 1 else kernel_size,
                padding="same",
                size=(rows, columns),
            )
            backbone += [module, layer(act, "act", channels=outputs)]
            channels = outputs
    backbone.append(nn.Flatten())
    features = channels * rows * columns
    return network(backbone, features=features, num_classes=num_classes, head=head)
