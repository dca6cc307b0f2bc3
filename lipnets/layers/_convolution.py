"""What builders of constrained convolutions share: what they refuse, and how they start."""

__all__ = ["coprime_stride", "refuse_padding", "start", "start_orthogonal", "zero_bias"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


def coprime_stride(conv: _ConvNd) -> tuple[int, ...]:
    """The strides s / gcd(s, d) along each axis.

    With a stride s and a dilation d that share a factor, the taps meet the pixels at multiples of it
    alone: the convolution is that with both divided by the factor, of an image of every such pixel.
    """
    return tuple(s // math.gcd(s, d) for s, d in zip(conv.stride, conv.dilation, strict=True))


def refuse_padding(conv: _ConvNd) -> None:
    """Refuses padding that repeats pixels, which a constraint of the kernel cannot make good.

    Raises:
        ValueError: If the padding mode is 'reflect' or 'replicate', or circular padding wraps
            around by anything else than the reach of the kernel.
    """
    if conv.padding_mode not in ("zeros", "circular"):
        raise ValueError(
            f"'padding_mode' should be 'zeros' or 'circular', got '{conv.padding_mode}', which "
            "repeats pixels: then the norm of the convolution is not that of its kernel."
        )
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.padding_mode == "circular" and not isinstance(conv.padding, str):
        padding = zip(conv.padding, reach, strict=True)
        if any(p and 2 * int(p) != r for p, r in padding):
            raise ValueError(
                "Circular 'padding' should be 'same', 0, or half of dilation × (kernel_size − 1), "
                f"here {reach} / 2, got {conv.padding}: other paddings repeat pixels."
            )


def zero_bias(conv: _ConvNd) -> None:
    """Starts the bias at zero, where there is one."""
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


@torch.no_grad()
def start(conv: _ConvNd) -> None:
    """Starts each group of channels orthogonal, and the bias at zero."""
    zero_bias(conv)
    for group in conv.weight.chunk(conv.groups):
        start_orthogonal(group, coprime_stride(conv))


@torch.no_grad()
def start_orthogonal(kernel: Tensor, stride: Sequence[int] = (1, 1)) -> None:
    """Sets a kernel to one tap, a random matrix with orthonormal columns or rows.

    With a stride s, to the s taps along that axis that meet each pixel once, which are one matrix
    together.
    """
    window = kernel.zero_()
    for axis, (s, k) in enumerate(zip(stride, kernel.shape[2:], strict=True)):
        first = 0 if s > 1 else (k - 1) // 2
        window = window.narrow(2 + axis, first, min(s, k))
    window.copy_(nn.init.orthogonal_(torch.empty_like(window).flatten(1)).view_as(window))
