"""Which weights of a network are followed, and through which lens."""

__all__ = ["Followed", "Gain", "follow", "gains"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..bounds import Shape
from .lenses import Convolution, Dense, Lens

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Followed:
    """A weight that is followed over training.

    Arguments:
        name: The qualified name of the layer.
        module: The layer.
        lens: What is seen of the weight.
        role: `"free"` for a parameter that is the weight in use; `"raw"` for one before the
            parametrization of its layer; `"effective"` for the weight in use after it.
    """

    name: str
    module: Layer
    lens: Lens
    role: Literal["free", "raw", "effective"]

    def read(self) -> Tensor:
        """The weight as it is; it may be the parameter itself, whose values an optimizer changes."""
        if self.role != "effective":
            return self.parameter
        # In training mode, some parametrizations change what they remember whenever they are asked.
        behind = list(self.module.get_submodule("parametrizations").modules())
        modes = [module.training for module in behind]
        try:
            for module in behind:
                module.training = False
            with torch.no_grad():
                return self.module.weight
        finally:
            for module, mode in zip(behind, modes, strict=True):
                module.training = mode

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter behind it.

        Raises:
            AttributeError: If there are several, behind a weight that a parametrization computes.
        """
        if self.role == "free":
            return self.module.get_parameter("weight")
        return self.module.get_parameter("parametrizations.weight.original")


@dataclass(frozen=True)
class Gain:
    """A batch normalization: in evaluation its norm is the largest |γ| / √(variance + ε).

    Arguments:
        name: The qualified name of the layer.
        module: The layer.
    """

    name: str
    module: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

    def log(self, weight: Tensor | None, variance: Tensor) -> float:
        """The logarithm of the norm, of some weight γ and variance."""
        gains = (variance.double() + self.module.eps).rsqrt()
        gains = gains if weight is None else gains * weight.double().abs()
        return math.log(gains.amax().item()) if gains.any() else -math.inf


def follow(
    model: nn.Module,
    shape: Shape,
    *,
    effective: bool = False,
    norm: Literal["operator", "reshape"] = "operator",
) -> list[Followed]:
    """The weights of linear layers and convolutions of torch.nn that training changes.

    Of a layer with a parametrization it is the parameter behind it, if there is one of the same shape.

    Arguments:
        model: The model; it computes one image of zeros, in evaluation mode.
        shape: The shape of an image, (C, H, W).
        effective: Whether, of layers with a parametrization, the weight in use is followed instead:
            it is computed anew whenever it is read.
        norm: `"operator"` follows the norm of a convolution as an operator, at its frequency;
            `"reshape"` that of the reshaped kernel, which bounds nothing, but is what spectral
            normalization by reshaping acts on.
    """
    found = []
    for name, module, size in _inputs(model, shape):
        role = "free"
        if is_parametrized(module, "weight"):
            role = "effective" if effective else "raw"
        if role == "raw" and not _has_one_parameter(module):
            continue
        if isinstance(module, nn.Linear) or norm == "reshape":
            lens = Dense()
        else:
            lens = _lens(module, size)
        found.append(Followed(name, module, lens, role))
    return found


def gains(model: nn.Module) -> list[Gain]:
    """The batch normalizations of a model that keep running statistics."""
    return [
        Gain(name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BATCH_NORMS) and module.track_running_stats
    ]


def torus_of(size: int, reach: int, *, circular: bool) -> int:
    """The pixels of a circle on which a convolution has at least the norm that it has on an image.

    Zero padding is a part of a larger circle: no wave of `reach` + 1 taps comes around.

    Arguments:
        size: The pixels of the image along an axis.
        reach: The distance of the first tap from the last.
        circular: Whether the padding is circular.
    """
    return size if circular else size + reach


def _has_one_parameter(layer: Layer) -> bool:
    """Whether one parameter of the shape of the weight is behind it, and no others."""
    behind = layer.get_submodule("parametrizations.weight")
    names = [name for name, _ in behind.named_parameters()]
    return names == ["original"] and behind.get_parameter("original").shape == _shape(layer)


def _shape(layer: Layer) -> tuple[int, ...]:
    """The shape of its weight, which is not computed for this."""
    if isinstance(layer, nn.Linear):
        return (layer.out_features, layer.in_features)
    return (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)


def _lens(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, size: Sequence[int]) -> Convolution:
    circular = conv.padding_mode == "circular"
    reaches = [(k - 1) * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    torus = [torus_of(n, r, circular=circular) for n, r in zip(size, reaches, strict=True)]
    return Convolution(_shape(conv), torus, conv.stride, conv.dilation, conv.groups)


def _inputs(model: nn.Module, shape: Shape) -> Iterator[tuple[str, Layer, Sequence[int]]]:
    """Names and modules of layers with a weight, in order, with the pixels of their inputs."""
    sizes: dict[nn.Module, Sequence[int]] = {}

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        sizes.setdefault(module, tuple(arguments[0].shape[2:]))

    layers = {module: name for name, module in model.named_modules() if isinstance(module, Layer)}
    handles = [module.register_forward_pre_hook(note) for module in layers]
    modes = {module: module.training for module in model.modules()}
    like = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    for module, name in layers.items():
        if module in sizes:
            yield name, module, sizes[module]
