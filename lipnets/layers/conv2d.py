"""Convolutions with constrained kernels, by name, with the arguments of `nn.Conv2d`."""

__all__ = ["bcop_conv2d", "spectral_conv2d", "start_orthogonal"]

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import BCOP, Spectral
from ._convolution import refuse_padding, start, start_orthogonal
from ._registry import Card, add, drop_in

_refuse_padding = refuse_padding  # as other layers import it

add(
    "conv2d",
    nn.Conv2d,
    Card(
        kind="convolution",
        guarantee="none",
        paper="",
        url="",
        choose="As an unconstrained baseline, whose norm is certified all the same.",
        arguments={"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1},
        shape=(4, 5, 6),
    ),
)


@drop_in(
    nn.Conv2d,
    Card(
        kind="convolution",
        guarantee="1-Lipschitz",
        paper="Sedghi, Gupta & Long, 2019",
        url="https://arxiv.org/abs/1805.10408",
        choose="Where one direction may dominate: only the operator norm is held at 1.",
    ),
)
def spectral_conv2d(conv: nn.Conv2d) -> None:
    """Builds a convolution of norm 1 on the torus, started orthogonal.

    Divides the kernel by its operator norm, not by that of a reshaped matrix.  Stride 1, one group.
    """
    refuse_padding(conv)
    _refuse_strides_and_groups("spectral_conv2d", conv)
    start(conv)
    register_parametrization(conv, "weight", Spectral())


@drop_in(
    nn.Conv2d,
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Li et al., 2019",
        url="https://arxiv.org/abs/1911.00937",
        choose="Orthogonal with a small kernel at any size of image.",
    ),
)
def bcop_conv2d(conv: nn.Conv2d) -> None:
    """Builds an orthogonal convolution: a paraunitary kernel, started as a shift of a rotation.

    Orthogonal under circular padding; 1-Lipschitz under zero padding, which loses what leaves the
    image.  Where the numbers of channels differ, its columns or its rows are orthonormal.  Stride 1,
    one group, any dilation, any kernel size.
    """
    refuse_padding(conv)
    _refuse_strides_and_groups("bcop_conv2d", conv)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    like = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    bcop = BCOP(
        conv.in_channels, conv.out_channels, (conv.kernel_size[0], conv.kernel_size[1]), **like
    )
    matrix = torch.empty(conv.out_channels, conv.in_channels, **like)  # becomes a kernel below
    conv.weight = nn.Parameter(nn.init.normal_(matrix, std=0.1 * max(matrix.shape) ** -0.5))
    register_parametrization(conv, "weight", bcop, unsafe=True)


def _refuse_strides_and_groups(name: str, conv: nn.Conv2d) -> None:
    if conv.stride != (1, 1) or conv.groups != 1:
        raise ValueError(
            f"{name} takes stride 1 and one group, got stride {conv.stride} and {conv.groups} "
            "groups. Put nn.PixelUnshuffle(stride) before it, or use aol_conv2d."
        )
