"""LiResNet, deep networks of convolutions around the identity.

References:
    | Unlocking Deterministic Robustness Certification on ImageNet
    | (Hu, Zou, Wang, Leino & Fredrikson, 2023) https://arxiv.org/abs/2301.12549
    | A Recipe for Improved Certifiable Robustness: Capacity and Data
    | (Hu, Leino, Wang & Fredrikson, 2024) https://arxiv.org/abs/2310.02513
    | Sizes and starts: https://github.com/hukkai/liresnet, models

A stem of stride 2, `depth` convolutions x + Kx of one size with activations between them, a neck of
non-overlapping windows, and dense layers.  LnWm has n convolutions of m channels and the one dense
layer of the neck; CHORD adds eight residual dense layers, orthogonal by a Cholesky factor.

What differs from the papers: there the stem and the x + Kx are free and the loss (`emma`) holds their
constants down, estimated by power iteration; here each is divided by its norm, so that the backbone
is 1-Lipschitz.  `conv="conv2d", stem_conv="conv2d"` are the free ones, whose kernels start as there,
and then the certificate is of whatever their norms are.  Normalization centers all of x + Kx, not Kx
alone.  Dense layers start as random orthogonal matrices, not near the identity, and 'CHORD' is
without its factors of scale, which change no function.  Channels are sorted in neighbouring pairs,
not halves.  Images that do not divide into windows are padded with zeros.
"""

__all__ = ["liresnet"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_AUTHORS = "authors, openreview.net/forum?id=SHyVaWGTO4"
_README = "README of hukkai/liresnet"
_LIPNEXT = "LipNeXt, 2026, table 1, https://arxiv.org/abs/2601.18513"
VARIANTS = {
    "liresnet_xs": Variant({"width": 16, "depth": 4, "hidden": (256,)}),
    "liresnet_s": Variant({"width": 64, "depth": 6, "hidden": (512, 512)}),
    "liresnet_l12w256": Variant({"width": 256}),
    "liresnet_l12w512": Variant(
        parameters=49e6,
        source=_AUTHORS,
        published=(
            Published("CIFAR-10", None, {36: 66.1, 72: 54.1, 108: 45.2}, _AUTHORS),
            Published("CIFAR-10 + DDPM", None, {36: 70.1}, _AUTHORS),
            Published("CIFAR-100", None, {36: 37.5, 72: 27.9, 108: 22.1}, _AUTHORS),
            Published("CIFAR-100 + DDPM", None, {36: 41.5}, _AUTHORS),
        ),
    ),
    "liresnet_chord": Variant(
        {"hidden": (2048,) * 9},
        parameters=83e6,
        source=_LIPNEXT,
        published=(
            Published("CIFAR-10", 81.0, {36: 69.8, 72: 56.3, 108: 42.9}, _LIPNEXT),
            Published("CIFAR-10 + DDPM", 87.0, {36: 78.1, 72: 66.6, 108: 53.5}, _README),
            Published("CIFAR-100", 53.0, {36: 40.2, 72: 28.3, 108: 19.2}, _LIPNEXT),
            Published("CIFAR-100 + DDPM", 62.1, {36: 50.1, 72: 38.5, 108: 29.0}, _README),
        ),
    ),
}


@family(VARIANTS, paper="Hu et al., 2023", url="https://arxiv.org/abs/2301.12549")
def liresnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 512,
    depth: int = 12,
    hidden: Sequence[int] = (2048,),
    stem_kernel: int = 5,
    stem_stride: int = 2,
    window: int = 4,
    conv: Spec = "lires_conv2d",
    stem_conv: Spec = "spectral_conv2d",
    neck_conv: Spec = "rko_conv2d",
    linear: Spec = "cholesky_linear",
    act: Spec = "maxmin",
    norm: Spec | None = "batch_centering",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a LiResNet: a stem, convolutions of one size, a neck, dense layers and a head.

    For images of 224 × 224 the paper takes patches, `stem_kernel=14, stem_stride=14`.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels.
        depth: The number of convolutions between stem and neck.
        hidden: The numbers of outputs of the linear layers before the head; the first is the neck's.
        stem_kernel: The side of the kernels of the stem.
        stem_stride: The stride of the stem.
        window: The side of the windows of the neck, which do not overlap.
        conv: The convolutions between stem and neck, by name, or as a mapping of `name` and further
            arguments.
        stem_conv: The convolution of the stem, by name.
        neck_conv: The convolution of the neck, by name.
        linear: The linear layers before the head, by name.
        act: The activation, by name.
        norm: The normalization after each convolution between stem and neck, by name, if any.
        head: The last layer, by name.

    Raises:
        ValueError: If the kernel of the stem does not cover its stride, or is even with stride 1.
    """
    if stem_kernel < stem_stride or (stem_stride == 1 and stem_kernel % 2 == 0):
        raise ValueError(
            "'stem_kernel' should be at least 'stem_stride', and odd for a stride of 1, got "
            f"{stem_kernel} and {stem_stride}."
        )
    padding, (height, length) = pad_to_multiple(image_size(img_size), stem_stride * window)
    size = height // stem_stride, length // stem_stride
    first = layer(
        stem_conv, "conv",
        in_channels=in_chans, out_channels=width, kernel_size=stem_kernel, stride=stem_stride,
        padding=(stem_kernel - stem_stride + 1) // 2, size=(height, length),
    )  # fmt: skip
    if type(first) is nn.Conv2d:
        nn.init.orthogonal_(first.weight)
    backbone = [*stem(in_chans, mean, std), *padding, first, layer(act, "act", channels=width)]

    for _ in range(depth):
        block = layer(
            conv, "conv",
            in_channels=width, out_channels=width, kernel_size=3, padding="same", size=size,
            bias=norm is None,
        )  # fmt: skip
        if type(block) is nn.Conv2d:
            _start_near_identity(block, depth)
        backbone.append(block)
        if norm is not None:
            backbone.append(layer(norm, "norm", num_features=width))
        backbone.append(layer(act, "act", channels=width))

    neck = layer(
        neck_conv, "conv",
        in_channels=width, out_channels=width, kernel_size=window, stride=window, padding=0,
        size=size, bias=False,
    )  # fmt: skip
    backbone += [neck, nn.Flatten()]
    sizes = [width * (size[0] // window) * (size[1] // window), *hidden]
    for inputs, outputs in pairwise(sizes):
        backbone.append(layer(linear, "linear", in_features=inputs, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    return network(backbone, features=sizes[-1], num_classes=num_classes, head=head)


def _start_near_identity(conv: nn.Conv2d, depth: int) -> None:
    """Starts a free convolution as x + Kx, with the paper's small K."""
    noise = conv.weight.new_empty(conv.weight.shape)
    nn.init.normal_(noise, std=1 / (conv.weight[0].numel() * depth**0.5))
    nn.init.dirac_(conv.weight)
    conv.weight.data += noise
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
