"""Convolutions without constraint, by name."""

from torch import nn

from ._registry import Card, add

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
