"""Convolutions that are orthogonal at each frequency, by name, with the arguments of `nn.Conv2d`."""

__all__ = ["cayley_conv2d"]

from ..parametrizations.symbol_cayley import SymbolCayley
from ._registry import Card, drop_in
from .symbol_conv2d import SymbolConv2d

_EXAMPLE = {
    "in_channels": 4,
    "out_channels": 4,
    "kernel_size": 3,
    "padding": 1,
    "padding_mode": "circular",
}
_SHAPE = (4, 5, 6)


@drop_in(
    SymbolConv2d,
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Trockman & Kolter, 2021",
        url="https://arxiv.org/abs/2104.07167",
        choose="Orthogonal with a kernel as large as the image: the cheapest of them to train.",
        arguments=_EXAMPLE,
        shape=_SHAPE,
    ),
)
def cayley_conv2d(conv: SymbolConv2d) -> None:
    """Builds an orthogonal convolution by the Cayley map at each frequency of the image.

    Orthogonal under circular padding, 1-Lipschitz under zero padding.  One group, dilation 1.
    """
    conv.constraint = SymbolCayley()
