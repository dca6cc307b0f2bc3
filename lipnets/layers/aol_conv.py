"""Convolutions rescaled to be 1-Lipschitz (AOL), with the arguments of torch.nn."""

__all__ = [
    "aol_conv1d",
    "aol_conv2d",
    "aol_conv3d",
    "aol_conv_transpose1d",
    "aol_conv_transpose2d",
    "aol_conv_transpose3d",
]

from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import AOL
from ._convolution import refuse_padding, start
from ._registry import Card, drop_in

_CARD = Card(
    kind="convolution",
    guarantee="1-Lipschitz",
    paper="Prach & Lampert, 2022",
    url="https://arxiv.org/abs/2208.03160",
    choose="Cheap, any stride, dilation and groups: the default for large networks.",
)


@drop_in(nn.Conv2d, _CARD)
def aol_conv2d(conv: nn.Conv2d) -> None:
    """Builds a convolution that is 1-Lipschitz by AOL rescaling, started orthogonal.

    Any stride, dilation and number of groups, depthwise convolutions included.  Under circular
    padding with a stride, at sizes of images that are multiples of the stride: elsewhere windows
    overlap where the image closes, and the certificate says by how much the norm exceeds 1.
    """
    _constrain(conv)


@drop_in(nn.Conv1d, _CARD)
def aol_conv1d(conv: nn.Conv1d) -> None:
    """Builds a convolution of signals: see `aol_conv2d`."""
    _constrain(conv)


@drop_in(nn.Conv3d, replace(_CARD, arguments={"kernel_size": 2, "stride": 2, "padding": 0}))
def aol_conv3d(conv: nn.Conv3d) -> None:
    """Builds a convolution of volumes: see `aol_conv2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose2d, _CARD)
def aol_conv_transpose2d(conv: nn.ConvTranspose2d) -> None:
    """Builds a transposed convolution, the adjoint of that of `aol_conv2d`.

    Any stride, padding, output padding, dilation and number of groups.
    """
    _constrain(conv)


@drop_in(nn.ConvTranspose1d, _CARD)
def aol_conv_transpose1d(conv: nn.ConvTranspose1d) -> None:
    """Builds a transposed convolution of signals: see `aol_conv_transpose2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose3d, _CARD)
def aol_conv_transpose3d(conv: nn.ConvTranspose3d) -> None:
    """Builds a transposed convolution of volumes: see `aol_conv_transpose2d`."""
    _constrain(conv)


def _constrain(conv: _ConvNd) -> None:
    refuse_padding(conv)
    start(conv)
    register_parametrization(conv, "weight", AOL(conv.stride, conv.groups, conv.dilation))
