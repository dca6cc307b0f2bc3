"""Convolutions divided by their Frobenius norm, with the arguments of torch.nn."""

__all__ = ["frobenius_conv1d", "frobenius_conv2d", "frobenius_conv3d"]

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import FrobeniusConv
from ._convolution import coprime_stride, refuse_padding, start
from ._registry import Card, drop_in

_CARD = Card(
    kind="convolution",
    guarantee="1-Lipschitz",
    paper="Serrurier et al., 2021",
    url="https://arxiv.org/abs/2006.06520",
    choose="As the cheapest baseline, or with one output: the norm of most kernels is far below 1.",
)


@drop_in(nn.Conv2d, _CARD)
def frobenius_conv2d(conv: nn.Conv2d) -> None:
    """Builds a 1-Lipschitz convolution by dividing its kernel by its Frobenius norm.

    Any stride, dilation and number of groups.  Under circular padding with a stride, at sizes of
    images that are multiples of the stride: elsewhere windows overlap where the image closes, and the
    certificate says by how much the norm exceeds 1.
    """
    _constrain(conv)


@drop_in(nn.Conv1d, _CARD)
def frobenius_conv1d(conv: nn.Conv1d) -> None:
    """Builds a convolution of signals: see `frobenius_conv2d`."""
    _constrain(conv)


@drop_in(nn.Conv3d, _CARD)
def frobenius_conv3d(conv: nn.Conv3d) -> None:
    """Builds a convolution of volumes: see `frobenius_conv2d`."""
    _constrain(conv)


def _constrain(conv: _ConvNd) -> None:
    refuse_padding(conv)
    start(conv)
    register_parametrization(conv, "weight", FrobeniusConv(coprime_stride(conv), conv.groups))
