"""Convolutions of signals constrained at each frequency, as those of images of height 1."""

__all__ = [
    "SymbolConv1d",
    "bro_conv1d",
    "cayley_conv1d",
    "lot_conv1d",
    "soc_conv1d",
    "svcm_conv1d",
]

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, output_shape, rule
from ..program import Gather, lower, lowering
from . import orthogonal_conv2d as _images  # noqa: F401  # registers the cards that are read here
from ._registry import Card, card, drop_in
from ._symbol_maps import cayley, clip, exponential, polar, reflect
from .symbol_conv2d import SymbolConv2d, eager

Length = int | tuple[int]


class SymbolConv1d(nn.Module):
    """Constrains the matrices of a convolution at each frequency of its signals.

    Arguments are those of `nn.Conv1d`.  The child `lifted` is the `SymbolConv2d` that takes signals as
    images of height 1; `lipnets.export(model, shape)` stores its matrices.
    """

    lifted: SymbolConv2d  # or, exported, what stores it

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Length,
        stride: Length = 1,
        padding: Length | str = 0,
        dilation: Length = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.lifted = SymbolConv2d(
            in_channels, out_channels, (1, _length(kernel_size)), (1, _length(stride)),
            padding if isinstance(padding, str) else (0, _length(padding)),
            (1, _length(dilation)), groups, bias, padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, I, L) -> (B, O, L')
        return self._forward(x)

    @eager
    def _forward(self, x: Tensor) -> Tensor:
        return self.lifted(x.unsqueeze(2)).squeeze(2)


def _length(value: Length) -> int:
    return value if isinstance(value, int) else value[0]


@rule(SymbolConv1d)
def _symbol_conv1d(module: SymbolConv1d, shape: Shape) -> Bound:
    """The constant of the layer of images: signals are images of height 1, of the same norms.

    Its kernel has height 1 and its stride and padding along that axis are 1 and 0: so are its outputs.
    """
    if len(shape) != 2:
        raise NotCertifiedError(f"Signals should have shape (C, L), got {tuple(shape)}.")
    part = lipschitz(module.lifted, (shape[0], 1, shape[1]))
    return Bound(part.value, "SymbolConv1d: signals as images of height 1", (part,))


@lowering(SymbolConv1d)
def _lowered(module: SymbolConv1d, shape: Shape) -> nn.Module:
    """A layer of images, between other shapes of the same numbers."""
    image = (shape[0], 1, shape[1])
    outs, _, length = output_shape(module.lifted, image)
    return nn.Sequential(
        Gather(None, image), lower(module.lifted, image), Gather(None, (outs, length))
    )


def _card(name: str) -> Card:
    """That of the layer of images, with an example of signals."""
    images = card(name)
    return replace(images, shape=(images.shape[0], 8))


@drop_in(SymbolConv1d, _card("cayley_conv2d"))
def cayley_conv1d(conv: SymbolConv1d) -> None:
    """Builds an orthogonal convolution of signals: see `cayley_conv2d`."""
    cayley(conv.lifted)


@drop_in(SymbolConv1d, _card("lot_conv2d"))
def lot_conv1d(conv: SymbolConv1d) -> None:
    """Builds an orthogonal convolution of signals: see `lot_conv2d`."""
    polar(conv.lifted)


@drop_in(SymbolConv1d, _card("svcm_conv2d"))
def svcm_conv1d(conv: SymbolConv1d) -> None:
    """Builds a convolution of signals with clipped singular values: see `svcm_conv2d`."""
    clip(conv.lifted)


@drop_in(SymbolConv1d, _card("bro_conv2d"))
def bro_conv1d(conv: SymbolConv1d) -> None:
    """Builds an orthogonal convolution of signals: see `bro_conv2d`."""
    reflect(conv.lifted)


@drop_in(SymbolConv1d, _card("soc_conv2d"))
def soc_conv1d(conv: SymbolConv1d) -> None:
    """Builds an orthogonal convolution of signals: see `soc_conv2d`."""
    exponential(conv.lifted)
