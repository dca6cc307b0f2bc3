"""Convolutions with constrained kernels, by name, with the arguments of `nn.Conv2d`."""

__all__ = ["spectral_conv2d", "start_orthogonal"]

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import Spectral
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


def _refuse_strides_and_groups(name: str, conv: nn.Conv2d) -> None:
    if conv.stride != (1, 1) or conv.groups != 1:
        raise ValueError(
            f"{name} takes stride 1 and one group, got stride {conv.stride} and {conv.groups} "
            "groups. Put nn.PixelUnshuffle(stride) before it, or use aol_conv2d."
        )
