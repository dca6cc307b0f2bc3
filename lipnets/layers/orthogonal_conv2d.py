"""Convolutions constrained at each frequency, by name, with the arguments of `nn.Conv2d`."""

__all__ = ["bro_conv2d", "bro_linear", "cayley_conv2d", "lot_conv2d", "soc_conv2d", "svcm_conv2d"]

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations.reflection import Reflection
from ._registry import Card, drop_in
from ._symbol_maps import cayley, clip, exponential, polar, reflect
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
    cayley(conv)


@drop_in(
    SymbolConv2d,
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Xu, Li & Li, 2022",
        url="https://arxiv.org/abs/2210.11620",
        choose="Orthogonal, started from any kernel: the orthogonal convolution nearest to it.",
        arguments=_EXAMPLE,
        shape=_SHAPE,
    ),
)
def lot_conv2d(conv: SymbolConv2d) -> None:
    """Builds an orthogonal convolution, the polar factor of its raw kernel at each frequency.

    Orthogonal under circular padding, 1-Lipschitz under zero padding.  One group, dilation 1.
    """
    polar(conv)


@drop_in(
    SymbolConv2d,
    Card(
        kind="convolution",
        guarantee="1-Lipschitz",
        paper="Sedghi, Gupta & Long, 2019",
        url="https://arxiv.org/abs/1805.10408",
        choose="Where directions may be damped: singular values above 1 are clipped, no others moved.",
        arguments=_EXAMPLE,
        shape=_SHAPE,
    ),
)
def svcm_conv2d(conv: SymbolConv2d) -> None:
    """Builds a convolution whose singular values are clipped to 1 at each frequency.

    1-Lipschitz under circular and zero padding.  One group, dilation 1.
    """
    clip(conv)


@drop_in(
    SymbolConv2d,
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Lai et al., 2025",
        url="https://arxiv.org/abs/2505.15174",
        choose="Orthogonal for the least operations, with half as many raw weights.",
        arguments=_EXAMPLE,
        shape=_SHAPE,
    ),
)
def bro_conv2d(conv: SymbolConv2d) -> None:
    """Builds an orthogonal convolution, a block reflection at each frequency of half of the channels.

    Orthogonal under circular padding, 1-Lipschitz under zero padding.  One group, dilation 1.
    """
    reflect(conv)


@drop_in(
    SymbolConv2d,
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Singla & Feizi, 2021",
        url="https://arxiv.org/abs/2105.11417",
        choose="Orthogonal, and connected to the identity along straight lines of raw weights.",
        arguments=_EXAMPLE,
        shape=_SHAPE,
    ),
)
def soc_conv2d(conv: SymbolConv2d) -> None:
    """Builds an orthogonal convolution, the exponential of a skew one of norm 2π at the most.

    Orthogonal under circular padding, 1-Lipschitz under zero padding.  One group, dilation 1.
    """
    exponential(conv)


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Lai et al., 2025",
        url="https://arxiv.org/abs/2505.15174",
        choose="Orthogonal from half as many raw weights, by a factorization of half the size.",
    ),
)
def bro_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, a block reflection of half of the features.

    Where the numbers of features differ, rows or columns of one of the larger number.
    """
    rows, columns = linear.out_features, linear.in_features
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    raw = linear.weight.new_empty(max(rows, columns), (max(rows, columns) + 1) // 2)
    linear.weight = nn.Parameter(nn.init.normal_(raw, std=raw.shape[0] ** -0.5))
    register_parametrization(linear, "weight", Reflection(rows, columns), unsafe=True)
