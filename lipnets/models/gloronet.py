"""GloRo nets, plain convolutional networks whose Lipschitz constant the loss holds down.

References:
    | Globally-Robust Neural Networks (Leino, Wang & Fredrikson, 2021)
    | https://arxiv.org/abs/2102.08452
    | Sizes, MinMax and the orthogonal start: https://github.com/klasleino/gloro, tools/training

The name aCbF counts convolutions, those of stride 2 among them, and dense layers, the head among
them.  No layer is constrained: train them with a loss that sees the constant (`gloro`, `trades` or
`emma`), or give a constrained layer by name, `conv="spectral_conv2d"`, for a backbone of constant 1.

What differs from the paper: channels are sorted in neighbouring pairs, not halves; images whose
sides do not halve often enough are padded with zeros; certificates are proved, not estimated by
power iteration.
"""

__all__ = ["gloronet"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_README = "README of klasleino/gloro, best results"
VARIANTS = {
    "gloronet_2c2f": Variant({"widths": (16, 32), "depths": (0, 0), "hidden": (100,)}),
    "gloronet_4c3f": Variant(
        {"depths": (1, 1), "hidden": (512, 512)},
        published=(Published("MNIST", None, {403: 62.8}, f"{_README}, at a radius of 1.58"),),
    ),
    "gloronet_6c2f": Variant(
        published=(
            Published("CIFAR-10", 77.0, {36: 58.4}, "Leino et al., 2021"),
            Published("CIFAR-10", None, {36: 60.0}, _README),
        )
    ),
    "gloronet_8c2f": Variant(
        {"widths": (64, 128, 256), "depths": (2, 2, 1), "hidden": (256,)},
        published=(Published("Tiny-ImageNet", None, {36: 22.4}, _README),),
    ),
}


@family(
    VARIANTS,
    guarantee="none",
    paper="Leino et al., 2021",
    url="https://arxiv.org/abs/2102.08452",
)
def gloronet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    widths: Sequence[int] = (32, 64),
    depths: Sequence[int] = (2, 2),
    hidden: Sequence[int] = (512,),
    conv: Spec = "conv2d",
    linear: Spec = "linear",
    act: Spec = "maxmin",
    head: Spec = "linear",
) -> Network:
    """Builds a GloRo net: stages of convolutions of 3 × 3 that end in one of 4 × 4 with stride 2.

    An activation follows each layer but the head.  Layers without constraint start orthogonal.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        widths: The number of channels of each stage.
        depths: The number of convolutions of each stage before that of stride 2, from 0.
        hidden: The numbers of outputs of the linear layers before the head.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The linear layers before the head, by name.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If `widths` and `depths` are not as many, or there are none.
    """
    if not widths or len(widths) != len(depths) or min(depths) < 0:
        raise ValueError(
            "'widths' and 'depths' should be numbers of channels and of convolutions from 0, one "
            f"for each stage, got {widths} and {depths}."
        )
    padding, (height, width) = pad_to_multiple(image_size(img_size), 2 ** len(widths))
    backbone = [*stem(in_chans, mean, std), *padding]
    channels = in_chans
    for outputs, depth in zip(widths, depths, strict=True):
        for index in range(depth + 1):
            last = index == depth
            shape = {"kernel_size": 4, "stride": 2, "padding": 1} if last else {"kernel_size": 3}
            backbone.append(
                layer(
                    conv, "conv",
                    **{"padding": "same", "size": (height, width), **shape},
                    in_channels=channels, out_channels=outputs,
                )
            )  # fmt: skip
            backbone.append(layer(act, "act", channels=outputs))
            channels = outputs
        height, width = height // 2, width // 2

    backbone.append(nn.Flatten())
    sizes = [channels * height * width, *hidden]
    for inputs, outputs in pairwise(sizes):
        backbone.append(layer(linear, "linear", in_features=inputs, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    model = network(backbone, features=sizes[-1], num_classes=num_classes, head=head)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not is_parametrized(module):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
