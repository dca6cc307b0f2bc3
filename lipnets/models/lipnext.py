"""LipNeXt, orthogonal matrices and shifts of pixels.

References:
    | LipNeXt: Scaling up Lipschitz-based Certified Robustness to Billion-parameter Models
    | (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513

A block is σ(M Rᵀ S(R(X + p)) + b) with orthogonal R and M of all channels, a shift S of some of them
by a pixel up, down, left and right on the torus, a number p for each pixel, and the absolute value σ
of half of the channels.  The norms of all pixels of each channel are the features.  LnWm has n blocks
of m channels, 2nm² weights: the 64M and 256M of the paper are 64 and 256 times 2²⁰.

What differs: no code is public, and what is written here of the paper is from its abstract and from
notes on it.  They leave open, and are our choice: the stem, blocks of pixels as channels and one
orthogonal matrix (patches of 2 × 2, as many pixels as in LiResNet, whose structure the paper keeps);
the fraction of σ; random orthogonal starts; one normalized linear layer as a head.  We read the share
α ∈ {1/8, 1/16} of shifted channels as that of each direction.  Matrices are on their manifold by
default, and then need an optimizer `manifold_...`; other dense layers train with any.
"""

__all__ = ["lipnext"]

from collections.abc import Sequence

from torch import nn

from ..layers import Conjugate, Pointwise, PositionBias2d, SpatialShift2d
from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_PAPER = "LipNeXt, 2026, https://arxiv.org/abs/2601.18513"
VARIANTS = {
    "lipnext_xs": Variant({"width": 64, "depth": 4}),
    "lipnext_s": Variant({"width": 256, "depth": 8}),
    "lipnext_l32w1024": Variant(
        parameters=64 * 2**20,
        source="the paper's 64M, in units of 2²⁰",
        published=(Published("CIFAR-10", 81.5, {36: 71.2, 72: 59.2, 108: 45.9}, _PAPER),),
    ),
    "lipnext_l32w2048": Variant(
        {"width": 2048},
        parameters=256 * 2**20,
        source="the paper's 256M, in units of 2²⁰",
        published=(
            Published("CIFAR-10", 85.0, {36: 73.2, 72: 58.8, 108: 43.3}, _PAPER),
            Published("CIFAR-100", 57.4, {36: 44.1, 72: 31.9, 108: 22.2}, _PAPER),
            Published("Tiny ImageNet", 45.5, {36: 35.0, 72: 25.9, 108: 18.0}, _PAPER),
        ),
    ),
}


@family(
    VARIANTS,
    guarantee="none",
    paper="Hu, Hu & Fredrikson, 2026",
    url="https://arxiv.org/abs/2601.18513",
)
def lipnext(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch: int = 2,
    width: int = 1024,
    depth: int = 32,
    shift_ratio: float = 0.125,
    linear: Spec = "manifold_linear",
    act: Spec = "beta_abs",
    pool: Spec = "adaptive_l2_norm_pool2d",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a LipNeXt: a stem, blocks of orthogonal matrices and shifts, norms of channels, a head.

    Its backbone is 1-Lipschitz while a `manifold_...` optimizer trains it; for every value of its
    parameters with a dense layer that is parametrized, such as `linear="cayley_linear"`.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        patch: The side of the blocks of pixels that become channels at first.
        width: The number of channels.
        depth: The number of blocks.
        shift_ratio: The share of channels that is shifted in each of the four directions, up to ¼.
        linear: The matrices, by name, or as a mapping of `name` and further arguments: dense layers
            that are an `nn.Linear` with its weight constrained.
        act: The activation, by name.
        pool: The pooling to one pixel, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If no channel would be shifted, or a layer does not fit.
    """
    if not 1 <= shift_ratio * width <= width / 4:
        raise ValueError(
            f"'shift_ratio' should move a channel at least and ¼ of them at the most, got "
            f"{shift_ratio} of {width} channels."
        )
    padding, (height, length) = pad_to_multiple(image_size(img_size), patch)
    size = height // patch, length // patch
    channels = in_chans * patch**2
    backbone = [*stem(in_chans, mean, std), *padding, nn.PixelUnshuffle(patch)]
    backbone.append(Pointwise(layer(linear, "linear", in_features=channels, out_features=width)))
    sizes = {"in_features": width, "out_features": width}
    for _ in range(depth):
        turn = layer(linear, "linear", **sizes, bias=False)
        backbone += [
            PositionBias2d(size),
            Conjugate(turn, SpatialShift2d(ratio=shift_ratio)),
            Pointwise(layer(linear, "linear", **sizes)),
            layer(act, "act", channels=width),
        ]
    backbone += [layer(pool, "pool", output_size=1), nn.Flatten()]
    return network(backbone, features=width, num_classes=num_classes, head=head)
