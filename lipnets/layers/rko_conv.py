"""Convolutions whose reshaped kernels are orthogonal (RKO), with the arguments of torch.nn."""

__all__ = [
    "rko_conv1d",
    "rko_conv2d",
    "rko_conv3d",
    "rko_conv_transpose1d",
    "rko_conv_transpose2d",
    "rko_conv_transpose3d",
]

from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import RKO
from ._convolution import coprime_stride, refuse_padding, start
from ._registry import Card, drop_in

_CARD = Card(
    kind="convolution",
    guarantee="1-Lipschitz",
    paper="Li et al., 2019",
    url="https://arxiv.org/abs/1911.00937",
    choose="Where windows do not overlap: then it is orthogonal; else AOC keeps more of the norm.",
)
_PATCHES = replace(_CARD, arguments={"kernel_size": 2, "stride": 2, "padding": 0})


@drop_in(nn.Conv2d, _CARD)
def rko_conv2d(conv: nn.Conv2d) -> None:
    """Builds a 1-Lipschitz convolution by orthogonalizing its reshaped kernel.

    Orthogonal where the stride is the kernel size: then windows do not overlap.  Any stride,
    dilation and number of groups.  Under circular padding with a stride, at sizes of images that are
    multiples of the stride: elsewhere windows overlap where the image closes, and the certificate
    says by how much the norm exceeds 1.
    """
    _constrain(conv)


@drop_in(nn.Conv1d, _CARD)
def rko_conv1d(conv: nn.Conv1d) -> None:
    """Builds a convolution of signals: see `rko_conv2d`."""
    _constrain(conv)


@drop_in(nn.Conv3d, _PATCHES)
def rko_conv3d(conv: nn.Conv3d) -> None:
    """Builds a convolution of volumes: see `rko_conv2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose2d, _CARD)
def rko_conv_transpose2d(conv: nn.ConvTranspose2d) -> None:
    """Builds a transposed convolution, the adjoint of that of `rko_conv2d`.

    Any stride, padding, output padding, dilation and number of groups.
    """
    _constrain(conv)


@drop_in(nn.ConvTranspose1d, _CARD)
def rko_conv_transpose1d(conv: nn.ConvTranspose1d) -> None:
    """Builds a transposed convolution of signals: see `rko_conv_transpose2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose3d, _CARD)
def rko_conv_transpose3d(conv: nn.ConvTranspose3d) -> None:
    """Builds a transposed convolution of volumes: see `rko_conv_transpose2d`."""
    _constrain(conv)


def _constrain(conv: _ConvNd) -> None:
    refuse_padding(conv)
    start(conv)
    register_parametrization(conv, "weight", RKO(coprime_stride(conv), conv.groups))
