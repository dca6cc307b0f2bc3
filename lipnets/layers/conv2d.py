"""Convolutions with constrained kernels, by name, with the arguments of `nn.Conv2d`."""

__all__ = ["aol_conv2d", "bcop_conv2d", "spectral_conv2d", "start_orthogonal"]

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import AOL, BCOP, Spectral
from ._registry import Card, add, drop_in

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
        paper="Prach & Lampert, 2022",
        url="https://arxiv.org/abs/2208.03160",
        choose="Cheap, and any size of image: the default for large networks.",
    ),
)
def aol_conv2d(conv: nn.Conv2d) -> None:
    """Builds a convolution that is 1-Lipschitz by AOL rescaling, started orthogonal.

    Any stride or dilation, not both, and any number of groups.
    """
    _refuse_padding(conv)
    if conv.stride != (1, 1) and conv.dilation != (1, 1):
        raise ValueError(
            "aol_conv2d takes a stride or a dilation other than 1, not both, "
            f"got stride {conv.stride} and dilation {conv.dilation}."
        )
    _start(conv)
    register_parametrization(conv, "weight", AOL(conv.stride, conv.groups))


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
    _refuse_padding(conv)
    _refuse_strides_and_groups("spectral_conv2d", conv)
    _start(conv)
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
    _refuse_padding(conv)
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


def _refuse_padding(conv: nn.Conv2d) -> None:
    """Refuses padding that repeats pixels, which a constraint of the kernel cannot make good."""
    if conv.padding_mode not in ("zeros", "circular"):
        raise ValueError(
            f"'padding_mode' should be 'zeros' or 'circular', got '{conv.padding_mode}', which "
            "repeats pixels: then the norm of the convolution is not that of its kernel."
        )
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.padding_mode == "circular" and conv.padding != "same":
        padding = (0, 0) if conv.padding == "valid" else conv.padding
        if any(p and 2 * int(p) != r for p, r in zip(padding, reach, strict=True)):
            raise ValueError(
                "Circular 'padding' should be 'same', 0, or half of dilation × (kernel_size − 1), "
                f"here {reach} / 2, got {conv.padding}: other paddings repeat pixels."
            )


def _refuse_strides_and_groups(name: str, conv: nn.Conv2d) -> None:
    if conv.stride != (1, 1) or conv.groups != 1:
        raise ValueError(
            f"{name} takes stride 1 and one group, got stride {conv.stride} and {conv.groups} "
            "groups. Put nn.PixelUnshuffle(stride) before it, or use aol_conv2d."
        )


@torch.no_grad()
def _start(conv: nn.Conv2d) -> None:
    """Starts each group of channels orthogonal."""
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    for group in conv.weight.chunk(conv.groups):
        start_orthogonal(group, conv.stride)


@torch.no_grad()
def start_orthogonal(kernel: Tensor, stride: tuple[int, ...] = (1, 1)) -> None:
    """Sets a kernel to one tap, a random matrix with orthonormal columns or rows.

    With a stride s, to the s × s taps that meet each pixel once, which are one matrix together.
    """
    rows, columns = (
        slice(0, s) if s > 1 else slice((k - 1) // 2, (k + 1) // 2)
        for s, k in zip(stride, kernel.shape[2:], strict=True)
    )
    kernel.zero_()
    window = kernel[:, :, rows, columns]
    window.copy_(nn.init.orthogonal_(torch.empty_like(window).flatten(1)).view_as(window))
