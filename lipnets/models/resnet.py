"""ResNets without constraint, whose product bound can be certified all the same.

References:
    | Deep Residual Learning for Image Recognition (He et al., 2016)
    | https://arxiv.org/abs/1512.03385
    | PyTorch Image Models, of which these are the models of the same names, with as many parameters
    | and the same outputs for the same weights: https://github.com/huggingface/pytorch-image-models

What differs from timm: layers are side by side in one `nn.Sequential`, and activations do not work in
place, so that rules can read them; dropout, stochastic depth and the other options of timm's ResNet
are left out.
"""

__all__ = ["from_timm", "resnet"]

import copy
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ..compat import ensure_torchvision
from ..layers import Residual
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .network import Network

VARIANTS = {
    "resnet18": Variant(),
    "resnet34": Variant({"depths": (3, 4, 6, 3)}),
    "resnet50": Variant({"depths": (3, 4, 6, 3), "bottleneck": True}),
}
_EXPANSION = 4  # of channels at the end of a bottleneck


@family(VARIANTS, paper="He et al., 2016", url="https://arxiv.org/abs/1512.03385", guarantee="none")
def resnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 64,
    depths: Sequence[int] = (2, 2, 2, 2),
    bottleneck: bool = False,
    small_images: bool = False,
    conv: Spec = "conv2d",
    norm: Spec | None = "batch_norm2d",
    act: Spec = "relu",
    head: Spec = "linear",
) -> Network:
    """Builds a ResNet: stages of residual blocks, each at half the size of the one before.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels; any will do.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels of the first stage; each stage doubles it.
        depths: The number of blocks of each stage, at least 1.
        bottleneck: Whether blocks have three convolutions, two of them of one pixel, and four times
            as many channels at their end; or two of 3 × 3 pixels.
        small_images: Whether to begin with a convolution of 3 × 3 pixels, as is usual for CIFAR-10,
            in place of one of 7 × 7 with a stride and maximum pooling, which divide sides by four.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        norm: The normalization after each of them, by name, if any.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If a stage has no block.
    """
    if not depths or min(depths) < 1:
        raise ValueError(f"'depths' should be numbers of blocks, at least 1, got {depths}.")
    image_size(img_size)

    def normalized(inputs: int, outputs: int, side: int, stride: int = 1) -> list[nn.Module]:
        shape = {"in_channels": inputs, "out_channels": outputs, "kernel_size": side}
        geometry = {"stride": stride, "padding": side // 2, "bias": norm is None}
        convolution = layer(conv, "conv", **shape, **geometry)
        if type(convolution) is nn.Conv2d:  # constrained ones begin as they should
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if norm is None:
            return [convolution]
        return [convolution, layer(norm, "norm", num_features=outputs)]

    def block(inputs: int, narrow: int, outputs: int, stride: int) -> nn.Module:
        first, second = layer(act, "act", channels=narrow), layer(act, "act", channels=narrow)
        if bottleneck:
            branch = [*normalized(inputs, narrow, 1), first]
            branch += [*normalized(narrow, narrow, 3, stride), second]
            branch += normalized(narrow, outputs, 1)
        else:
            branch = [*normalized(inputs, narrow, 3, stride), first]
            branch += normalized(narrow, outputs, 3)
        if type(branch[-1]) is nn.BatchNorm2d:
            nn.init.zeros_(branch[-1].weight)  # blocks begin as their shortcuts
        shortcut = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Sequential(*normalized(inputs, outputs, 1, stride))
        return Residual(nn.Sequential(*branch), shortcut)

    backbone = stem(in_chans, mean, std)
    backbone += normalized(in_chans, width, *((3, 1) if small_images else (7, 2)))
    backbone.append(layer(act, "act", channels=width))
    if not small_images:
        backbone.append(nn.MaxPool2d(3, stride=2, padding=1))
    channels = width
    for stage, depth in enumerate(depths):
        narrow = width * 2**stage
        outputs = narrow * (_EXPANSION if bottleneck else 1)
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            backbone.append(block(channels, narrow, outputs, stride))
            backbone.append(layer(act, "act", channels=outputs))
            channels = outputs
    backbone += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return network(backbone, features=channels, num_classes=num_classes, head=head)


@torch.no_grad()
def from_timm(
    model: nn.Module,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """Copies a ResNet of timm into modules that have rules, so that `lipnets.certify` bounds it.

    The keys of its state are those of `lipnets.create_model` for the models that both have.

    Arguments:
        model: A `timm.models.resnet.ResNet` of basic blocks or bottlenecks, such as that of
            `timm.create_model("resnet18", pretrained=True)`.
        mean: The mean of the images that it was trained on, which timm subtracts before the model
            and this copy in it, so that radii are in [0, 1] pixels: `model.pretrained_cfg["mean"]`.
        std: The standard deviation of each channel, divided by; with `mean`, or neither.

    Returns:
        The copy, in evaluation mode, with weights of its own.

    Raises:
        ValueError: If a part of the model is none that is known, or the copy computes something else.
        ModuleNotFoundError: If timm is not installed.
    """
    ensure_torchvision()
    known = import_module("timm.models.resnet")
    if type(model) is not known.ResNet:
        raise ValueError(
            f"from_timm copies models of class timm.models.resnet.ResNet, got {type(model).__name__}: "
            "build others of modules that have rules."
        )
    pool = model.get_submodule("global_pool")
    if getattr(pool, "pool_type", None) != "avg":
        raise ValueError(f"The last pooling should be an average, got {pool}.")
    features = int(getattr(model, "num_features"))  # noqa: B009
    classes = int(getattr(model, "num_classes"))  # noqa: B009
    channels = next(conv.in_channels for conv in model.modules() if isinstance(conv, nn.Conv2d))
    layers = [_copy(model.get_submodule(name)) for name in ("conv1", "bn1", "act1", "maxpool")]
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in model.get_submodule(stage).children():
            layers += _block(block, known)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    found = network(layers, features=features, num_classes=classes, head="linear")
    found.head.load_state_dict(model.get_submodule("fc").state_dict())
    weight = next(model.parameters())
    found = found.to(weight.device, weight.dtype).eval()
    _check_same(found, model, channels)
    if start := stem(channels, mean, std):
        found.backbone = nn.Sequential(*start, *found.backbone).to(weight.device).eval()
    return found


def _block(block: Any, known: Any) -> list[nn.Module]:
    """The residual and the activation of a block of timm."""
    count = {known.BasicBlock: 2, known.Bottleneck: 3}.get(type(block), 0)
    if not count:
        raise ValueError(f"Blocks should be BasicBlock or Bottleneck, got {type(block).__name__}.")
    for name in ("aa", "se"):
        part = getattr(block, name, None)
        if part is not None and type(part) is not nn.Identity:
            raise ValueError(f"from_timm does not know '{name}' of a block, got {part}.")
    branch = []
    for i in range(1, count + 1):
        branch += [_copy(getattr(block, f"{part}{i}")) for part in ("conv", "bn", "act")]
    after = branch.pop()
    shortcut = None if block.downsample is None else _copy(block.downsample)
    return [Residual(nn.Sequential(*branch), shortcut), after]


def _copy(module: nn.Module) -> nn.Module:
    """A copy that does not overwrite its input."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010
    return copied


def _check_same(found: nn.Module, model: nn.Module, channels: int) -> None:
    """Refuses a copy whose outputs differ, in float64 and evaluation mode, on random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, 64, 64, generator=generator, dtype=torch.float64)
    outs = [copy.deepcopy(each).cpu().double().eval()(images) for each in (found, model)]
    off = (outs[0] - outs[1]).abs().max().item()
    if not off <= 1e-9 * (1 + outs[1].abs().max().item()):
        raise ValueError(
            f"The copy of this {type(model).__name__} differs from it by {off:.3g} on random images: "
            "it has parts that from_timm does not know."
        )
