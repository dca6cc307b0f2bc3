"""Convolutions divided by their operator norm, with the arguments of torch.nn."""

__all__ = ["spectral_conv1d", "spectral_conv2d", "spectral_conv3d"]

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import SpectralConv
from ._convolution import coprime_stride, refuse_padding, start
from ._registry import Card, drop_in

_CARD = Card(
    kind="convolution",
    guarantee="1-Lipschitz",
    paper="Sedghi, Gupta & Long, 2019",
    url="https://arxiv.org/abs/1805.10408",
    choose="Where one direction may dominate: only the operator norm is held at 1.",
)


@drop_in(nn.Conv2d, _CARD)
def spectral_conv2d(conv: nn.Conv2d) -> None:
    """Builds a convolution of norm 1 on the torus, started orthogonal.

    Divides the kernel of each group by the operator norm of its convolution at any size, not by that
    of a reshaped matrix.  Any stride, dilation and number of groups.  Under circular padding with a
    stride, at sizes of images that are multiples of the stride: elsewhere windows overlap where the
    image closes, and the certificate says by how much the norm exceeds 1.
    """
    _constrain(conv)


@drop_in(nn.Conv1d, _CARD)
def spectral_conv1d(conv: nn.Conv1d) -> None:
    """Builds a convolution of signals: see `spectral_conv2d`."""
    _constrain(conv)


@drop_in(nn.Conv3d, _CARD)
def spectral_conv3d(conv: nn.Conv3d) -> None:
    """Builds a convolution of volumes: see `spectral_conv2d`."""
    _constrain(conv)


def _constrain(conv: _ConvNd) -> None:
    refuse_padding(conv)
    start(conv)
    register_parametrization(conv, "weight", SpectralConv(coprime_stride(conv), conv.groups))
