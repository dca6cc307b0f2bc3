"""Plain ReLU networks: the unconstrained twins of LipMLP and of small LipConvNets, for comparison.

They have the layers and the sizes of their twins, and what makes those Lipschitz is left out: their
product bound is proved all the same, and grows as they train.
"""

__all__ = ["plain_convnet", "plain_mlp"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .lipmlp import lipmlp
from .network import Network

MLPS = {
    "plain_mlp_s": Variant({"widths": (128, 128)}),
    "plain_mlp_m": Variant({"widths": (256, 256, 256)}),
    "plain_mlp_l": Variant({"widths": (512, 512, 512, 512)}),
}
CONVNETS = {
    "plain_convnet_xs": Variant({"width": 16, "depths": (2, 2)}),
    "plain_convnet_s": Variant({"width": 64, "depths": (2, 2), "patch": 2, "hidden": (256,)}),
    "plain_convnet_m": Variant({"width": 64, "depths": (3,), "patch": 4, "hidden": (512, 512)}),
}


@family(MLPS, guarantee="none")
def plain_mlp(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    widths: Sequence[int] = (128, 128),
    linear: Spec = "linear",
    act: Spec = "relu",
    head: Spec = "linear",
) -> Network:
    """Builds a multilayer perceptron, the twin of `lipmlp` without constraint.

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
    """
    layers = {"linear": linear, "act": act, "head": head}
    return lipmlp(num_classes, in_chans, img_size, mean, std, widths, **layers)


@family(CONVNETS, guarantee="none")
def plain_convnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch: int = 1,
    width: int = 32,
    depths: Sequence[int] = (2, 2),
    kernel_size: int = 3,
    hidden: Sequence[int] = (),
    conv: Spec = "conv2d",
    norm: Spec | None = "batch_norm2d",
    linear: Spec = "linear",
    act: Spec = "relu",
    head: Spec = "linear",
) -> Network:
    """Builds a convolutional network, the twin of `lipconvnet_small` without constraint.

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
        norm: The normalization after each of them, by name; None for no normalization.
        linear: The linear layers before the head, by name.
        act: The activation, by name.
        head: The last layer, by name.

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
        channels = sizes[-1]
    backbone.append(nn.Flatten())
    sizes = [channels * pixels, *hidden]
    for inputs, outputs in pairwise(sizes):
        backbone.append(layer(linear, "linear", in_features=inputs, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    return network(backbone, features=sizes[-1], num_classes=num_classes, head=head)
