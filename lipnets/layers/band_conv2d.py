"""Convolutions within bands of spatial frequencies, by name.

What is behind the filters is any convolution of the zoo whose weight is constrained: where that has
norm 1 at all frequencies, as an orthogonal one, the layer has norm m(ω) at each frequency exactly.
Circular padding, as frequencies are those of the torus.

References:
    | Octaves: Drop an Octave (Chen et al., 2019) https://arxiv.org/abs/1904.05049

What differs from the paper: bands of the Fourier transform in place of images of half the size, so
that the response and the norm at each frequency are known; no exchange between bands, which
frequencies alone cannot make.
"""

__all__ = ["band_conv2d", "octave_conv2d", "radial_conv2d"]

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ._registry import Card, add, registry
from .filtered_conv2d import FilteredConv2d
from .responses import RadialBand, RadialCurve, partition

Pair = int | tuple[int, int]


def band_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair | str = "same",
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "circular",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    low: float = 0.0,
    high: float = 0.25,
    rolloff: float = 0.05,
    conv: str = "aol_conv2d",
) -> FilteredConv2d:
    """Builds a convolution confined to a band of frequencies, 1-Lipschitz at any size of images.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width of the kernel.
        stride: 1.
        padding: 'same', or half of dilation × (kernel_size − 1).
        dilation: The spacing of the taps.
        groups: The number of groups of channels.
        bias: Whether to add a bias to each channel, which is of frequency 0 in any case.
        padding_mode: 'circular'.
        device: The device of the weights.
        dtype: The dtype of the weights.
        low: The least radius of frequencies that pass, in cycles per pixel; 0 passes constants.
        high: The largest radius that passes.  Along an axis frequencies end at ½; the largest
            radius is √½, and from there on everything above `low` passes.
        rolloff: The width of the edges inside the band, in cycles per pixel.
        conv: The constrained convolution behind the filter, by name: `bcop_conv2d` has norm 1 at
            every frequency of the band.

    Raises:
        ValueError: If the band is empty, or the convolution does not keep the size of images.
    """
    return FilteredConv2d([_conv(conv, locals())], [RadialBand(low, high, rolloff)])


def radial_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair | str = "same",
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "circular",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    edges: Sequence[float] = (0.125, 0.25),
    budgets: Sequence[float] = (1.0, 1.0, 1.0),
    knots: int = 4,
    conv: str = "aol_conv2d",
) -> FilteredConv2d:
    """Builds a convolution behind a learnable radial filter, with a budget of gain for each band.

    Its norm on images confined to a band is the budget of the band at most; bands of budget 0 are
    not computed.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width of the kernel.
        stride: 1.
        padding: 'same', or half of dilation × (kernel_size − 1).
        dilation: The spacing of the taps.
        groups: The number of groups of channels.
        bias: Whether to add a bias to each channel.
        padding_mode: 'circular'.
        device: The device of the weights.
        dtype: The dtype of the weights.
        edges: The radii between bands, in cycles per pixel, increasing, in (0, √½).
        budgets: The largest gain of each band, one more than there are edges.
        knots: The number of linear pieces of the filter in each band.
        conv: The constrained convolution behind the filter, by name.

    Raises:
        ValueError: If bands and budgets do not match, or the convolution does not keep the size.
    """
    given = locals()
    curve = RadialCurve(edges, budgets, knots, device=device, dtype=dtype)
    return FilteredConv2d([_conv(conv, given)], [curve])


def octave_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair | str = "same",
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    padding_mode: str = "circular",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    edges: Sequence[float] = (0.125, 0.25),
    budgets: Sequence[float] = (1.0, 1.0, 1.0),
    rolloff: float = 0.05,
    conv: str = "aol_conv2d",
) -> FilteredConv2d:
    """Builds a sum of convolutions, each on a band of its own, with Lipschitz budgets.

    x → Σ L_b f_b(P_b x), with filters P_b of factors m_b(ω) ≥ 0 that sum to 1, which overlap within
    `rolloff` around the edges.  At frequency ω the norm is at most Σ m_b(ω) L_b ‖S_b(ω)‖, an average of
    the budgets: the constant is max L_b, not √ΣL_b², for overlapping bands as well.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width of the kernels.
        stride: 1.
        padding: 'same', or half of dilation × (kernel_size − 1).
        dilation: The spacing of the taps.
        groups: The number of groups of channels.
        bias: Whether to add a bias to each channel.
        padding_mode: 'circular'.
        device: The device of the weights.
        dtype: The dtype of the weights.
        edges: The radii between bands, in cycles per pixel, increasing, more than `rolloff` apart.
        budgets: The Lipschitz constant of each band, one more than there are edges.
        rolloff: The width of the overlap of bands, in cycles per pixel; 0 for disjoint bands.
        conv: The constrained convolution on each band, by name.

    Raises:
        ValueError: If bands and budgets do not match, or the convolution does not keep the size.
    """
    given = locals()
    bands = partition(edges, budgets, rolloff)
    convs = [_conv(conv, {**given, "bias": bias and not i}) for i in range(len(bands))]
    return FilteredConv2d(convs, bands)


def _conv(name: str, given: dict[str, Any]) -> nn.Conv2d:
    """Builds a convolution by name, of those of the given arguments that `nn.Conv2d` has."""
    shared = inspect.signature(nn.Conv2d).parameters
    conv = registry.build(name, **{key: given[key] for key in shared})
    if not isinstance(conv, nn.Conv2d):
        raise ValueError(  # noqa: TRY004 (a name, not a type, is wrong)
            f"'conv' should name a convolution with a weight, as 'aol_conv2d', got '{name}', "
            f"which builds {type(conv).__name__}."
        )
    return conv


_ARGUMENTS = {"in_channels": 2, "out_channels": 3, "kernel_size": 3}
for _build, _choose, _more in (
    (band_conv2d, "To confine a layer to a band of spatial frequencies.", {"high": 0.3}),
    (
        radial_conv2d,
        "To learn which frequencies pass, within a proved budget for each band.",
        {"budgets": (1.0, 0.5, 0.25)},
    ),
    (
        octave_conv2d,
        "To treat low and high frequencies apart, each with a Lipschitz constant of its own.",
        {"edges": (0.25,), "budgets": (1.0, 0.5)},
    ),
):
    _octave = _build is octave_conv2d
    add(
        _build.__name__,
        _build,
        Card(
            kind="frequency filter",
            guarantee="1-Lipschitz",
            paper="Chen et al., 2019" if _octave else "",
            url="https://arxiv.org/abs/1904.05049" if _octave else "",
            choose=_choose,
            arguments={**_ARGUMENTS, **_more},
            shape=(2, 6, 6),
        ),
    )
