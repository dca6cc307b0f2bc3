"""Layers with a linear residual connection, which is a part of their weight."""

__all__ = ["lires_conv2d", "lires_linear"]

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations.lires import LiRes
from ._convolution import refuse_padding
from ._registry import Card, drop_in


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="1-Lipschitz",
        paper="Hu et al., 2023",
        url="https://arxiv.org/abs/2301.12549",
        choose="In deep networks: weights start, and decay, towards the identity.",
    ),
)
def lires_linear(linear: nn.Linear) -> None:
    """Builds a linear layer of norm 1 around the identity, where it starts."""
    _start(linear)
    register_parametrization(linear, "weight", LiRes())


@drop_in(
    nn.Conv2d,
    Card(
        kind="convolution",
        guarantee="1-Lipschitz",
        paper="Hu et al., 2023",
        url="https://arxiv.org/abs/2301.12549",
        choose="In deep networks: kernels start, and decay, towards the identity.",
    ),
)
def lires_conv2d(conv: nn.Conv2d) -> None:
    """Builds a convolution of norm 1 on the torus around the identity, where it starts.

    Stride 1, one group, any dilation.

    Raises:
        ValueError: If the stride is another, or there are more groups.
    """
    refuse_padding(conv)
    if conv.stride != (1, 1) or conv.groups != 1:
        raise ValueError(
            f"lires_conv2d takes stride 1 and one group, got stride {conv.stride} and {conv.groups} "
            "groups: with a stride there is no identity. Put nn.PixelUnshuffle(stride) before it."
        )
    _start(conv)
    register_parametrization(conv, "weight", LiRes())


def _start(layer: nn.Linear | nn.Conv2d) -> None:
    """Starts near zero, which is the identity, off the kinks of the norm there."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    nn.init.normal_(layer.weight, std=0.01 * layer.weight[0].numel() ** -0.5)
