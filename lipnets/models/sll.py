"""SLL, the network of SDP-based Lipschitz layers.

References:
    | A Unified Algebraic Perspective on Lipschitz Neural Networks
    | (Araujo, Havens, Delattre, Allauzen & Hu, 2023) https://arxiv.org/abs/2303.03169
    | Sizes: https://github.com/araujoalexandre/Lipschitz-SLL-Networks (1abe5e1, main.py)

What differs from the paper: the positive weights q of hidden units, which only rescale the rows of
weights that have a scale of their own, are left out, 0.04 % of the parameters and less; blocks start
orthogonal.  The CIFAR-10 figures of the largest are those that Prach et al. list; later authors cite
64.8 % at 36/255, after a correction that we could not check.
"""

__all__ = ["sll"]

from collections.abc import Sequence

from ._parts import Spec
from ._potential import potential_network
from ._registry import Published, Variant, family
from .network import Network

_PRACH = "Prach et al., 2023, table 4"
_WANG = "Wang & Manchester, 2023, table 3"

VARIANTS = {
    # For CPUs.
    "sll_xs": Variant(
        {"width": 16, "depth": 6, "hidden_channels": 16, "linear_depth": 4, "hidden_features": 256}
    ),
    "sll_s": Variant(
        {"width": 45, "depth": 20, "linear_depth": 7},
        parameters=41e6,
        source=_WANG,
        published=(
            Published("CIFAR-100", clean=44.9, certified={36: 34.7}, source=_WANG),
            Published("Tiny-ImageNet", clean=26.6, certified={36: 19.5}, source=_WANG),
        ),
    ),
    "sll_m": Variant(
        {"width": 60, "depth": 30, "linear_depth": 10},
        parameters=78e6,
        source="Wang & Manchester, 2023, table 2",
    ),
    "sll_l": Variant(
        {"width": 90, "depth": 50, "linear_depth": 10},
        parameters=118e6,
        source="Wang & Manchester, 2023, table 2",
    ),
    "sll_xl": Variant(
        {"width": 120, "depth": 70, "linear_depth": 15},
        parameters=236e6,
        source=_PRACH,
        published=(
            Published(
                *("CIFAR-10", 73.3, {36: 65.8, 72: 58.4, 108: 51.3, 255: 27.3}),
                source=f"{_PRACH}; others cite 64.8 at 36/255 as corrected",
            ),
            Published("CIFAR-100", clean=46.5, certified={36: 36.5}, source=_WANG),
            Published("Tiny-ImageNet", clean=32.1, certified={36: 23.0}, source=_WANG),
        ),
    ),
}


@family(VARIANTS, paper="Araujo et al., 2023", url="https://arxiv.org/abs/2303.03169")
def sll(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 45,
    depth: int = 20,
    hidden_channels: int = 5,
    linear_depth: int = 7,
    hidden_features: int = 2048,
    patch: int = 4,
    conv: Spec = "sll_conv2d",
    linear: Spec = "sll_linear",
    act: Spec = "relu",
    pool: Spec = "scaled_avg_pool2d",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds an SLL network: residual convolutions, a pooling, residual dense layers, and a head.

    Images get channels of zeros first, so that every block keeps the number of channels, and zeros
    around them where `patch` does not divide their sides.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels, `in_chans` or more.
        depth: The number of convolutional blocks.
        hidden_channels: The number of hidden channels of each.
        linear_depth: The number of dense blocks after the pooling.
        hidden_features: The number of hidden units of each.
        patch: The side of the windows of the pooling.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The dense layers, by name.
        act: The activation, by name: inside of blocks, where its slopes should be in [0, 1], and
            after layers that are none.
        pool: The pooling, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If there are fewer channels than images have, or a layer does not fit.
    """
    return potential_network(**locals())
