"""A residual block followed by an orthogonal convolution, which may have a stride.

References:
    | An Adaptive Orthogonal Convolution Scheme for Efficient and Flexible CNN Architectures
    | (Boissin, Mamalet, Fel, Picard, Massena & Serrurier, 2025) https://arxiv.org/abs/2501.07930
    | A Unified Algebraic Perspective on Lipschitz Neural Networks
    | (Araujo, Havens, Delattre, Allauzen & Hu, 2023) https://arxiv.org/abs/2303.03169

What differs: the two are applied one after the other, not merged into kernels of their products.
"""

__all__ = ["sll_aoc_conv2d"]

from typing import Literal

import torch
from torch import nn

from ._registry import Card, add
from .aoc_conv import aoc_conv2d
from .potential import sll_conv2d


def sll_aoc_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: Literal["zeros", "circular"] = "zeros",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Builds an SLL block of the input channels, then an orthogonal convolution.

    Arguments are those of `nn.Conv2d`, and belong to the convolution; the block has its kernel size,
    dilation, groups and padding mode, and keeps the image.
    """
    conv = aoc_conv2d(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
        padding_mode, device, dtype,
    )  # fmt: skip
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    keep = "same" if padding_mode == "circular" else (reach[0] // 2, reach[1] // 2)
    block = sll_conv2d(
        in_channels, in_channels, kernel_size, 1, keep, dilation, groups, bias, padding_mode,
        device, dtype,
    )  # fmt: skip
    return nn.Sequential(block, conv)


add(
    "sll_aoc_conv2d",
    sll_aoc_conv2d,
    Card(
        kind="residual block",
        guarantee="1-Lipschitz",
        paper="Boissin et al., 2025",
        url="https://arxiv.org/abs/2501.07930",
        choose="A residual block that changes the number of channels, or the size of images.",
        arguments={
            "in_channels": 3, "out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1
        },
        shape=(3, 6, 6),
    ),
)  # fmt: skip
