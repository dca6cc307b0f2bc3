"""Orthogonal convolutions (AOC, and BCOP without stride), with the arguments of torch.nn."""

__all__ = [
    "aoc_conv1d",
    "aoc_conv2d",
    "aoc_conv3d",
    "aoc_conv_transpose1d",
    "aoc_conv_transpose2d",
    "aoc_conv_transpose3d",
    "bcop_conv1d",
    "bcop_conv2d",
    "bcop_conv3d",
]

from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import AOC
from ._convolution import coprime_stride, refuse_padding, zero_bias
from ._registry import Card, drop_in

_AOC = Card(
    kind="convolution",
    guarantee="orthogonal",
    paper="Boissin et al., 2025",
    url="https://arxiv.org/abs/2501.07930",
    choose="Orthogonal with a small kernel at any size of image, with any stride and groups.",
    arguments={"out_channels": 6, "stride": 2},
)
_AOC_3D = replace(_AOC, arguments={"out_channels": 6, "stride": (1, 2, 1)})
_ADJOINT = replace(_AOC, arguments={"kernel_size": 3})
_BCOP = Card(
    kind="convolution",
    guarantee="orthogonal",
    paper="Li et al., 2019",
    url="https://arxiv.org/abs/1911.00937",
    choose="Orthogonal with a small kernel at any size of image, without stride.",
)


@drop_in(nn.Conv2d, replace(_AOC, arguments={}))  # as plain layers that it is compared with
def aoc_conv2d(conv: nn.Conv2d) -> None:
    """Builds an orthogonal convolution of any stride, dilation and number of groups.

    With c channels in, stride s and at most cs² channels out its rows are orthonormal, with more its
    columns, under circular padding at sizes of images that are multiples of the stride.  Elsewhere
    windows overlap where the image closes, and the certificate says by how much the norm exceeds 1.
    Zero padding loses what leaves the image: 1-Lipschitz at any size.  Where a stride and a
    dilation share a factor, the layer reads the pixels at multiples of it alone, and is orthogonal
    on those.
    """
    _constrain(conv)


@drop_in(nn.Conv1d, _AOC)
def aoc_conv1d(conv: nn.Conv1d) -> None:
    """Builds an orthogonal convolution of signals: see `aoc_conv2d`."""
    _constrain(conv)


@drop_in(nn.Conv3d, _AOC_3D)
def aoc_conv3d(conv: nn.Conv3d) -> None:
    """Builds an orthogonal convolution of volumes: see `aoc_conv2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose2d, _ADJOINT)
def aoc_conv_transpose2d(conv: nn.ConvTranspose2d) -> None:
    """Builds a transposed convolution, the adjoint of that of `aoc_conv2d`.

    With c channels out, stride s and at most cs² channels in it keeps norms exactly, at any size of
    images, if it has no padding; padding cuts off a border, which leaves it 1-Lipschitz.  Any output
    padding, dilation and number of groups.
    """
    _constrain(conv)


@drop_in(nn.ConvTranspose1d, _ADJOINT)
def aoc_conv_transpose1d(conv: nn.ConvTranspose1d) -> None:
    """Builds a transposed convolution of signals: see `aoc_conv_transpose2d`."""
    _constrain(conv)


@drop_in(nn.ConvTranspose3d, _ADJOINT)
def aoc_conv_transpose3d(conv: nn.ConvTranspose3d) -> None:
    """Builds a transposed convolution of volumes: see `aoc_conv_transpose2d`."""
    _constrain(conv)


@drop_in(nn.Conv2d, _BCOP)
def bcop_conv2d(conv: nn.Conv2d) -> None:
    """Builds an orthogonal convolution: a paraunitary kernel, started as a shift near the identity.

    Orthogonal under circular padding at any size; 1-Lipschitz under zero padding, which loses what
    leaves the image.  Where the numbers of channels differ, its columns or its rows are orthonormal.
    Any kernel size, dilation and number of groups, without stride: `aoc_conv2d` takes strides.
    """
    _refuse_strides(conv)
    _constrain(conv)


@drop_in(nn.Conv1d, _BCOP)
def bcop_conv1d(conv: nn.Conv1d) -> None:
    """Builds an orthogonal convolution of signals: see `bcop_conv2d`."""
    _refuse_strides(conv)
    _constrain(conv)


@drop_in(nn.Conv3d, _BCOP)
def bcop_conv3d(conv: nn.Conv3d) -> None:
    """Builds an orthogonal convolution of volumes: see `bcop_conv2d`."""
    _refuse_strides(conv)
    _constrain(conv)


def _refuse_strides(conv: _ConvNd) -> None:
    if any(s != 1 for s in conv.stride):
        raise ValueError(
            f"BCOP convolutions take stride 1, got stride {conv.stride}: AOC convolutions, of the same "
            "family, take any stride."
        )


def _constrain(conv: _ConvNd) -> None:
    refuse_padding(conv)
    zero_bias(conv)
    aoc = AOC(
        conv.weight.shape[1] * conv.groups,
        conv.weight.shape[0],
        conv.kernel_size,
        coprime_stride(conv),
        conv.groups,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    conv.weight = nn.Parameter(aoc.start())  # becomes a kernel below
    register_parametrization(conv, "weight", aoc, unsafe=True)
