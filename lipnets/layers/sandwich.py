"""Sandwich layers, Aᵀσ(Bx + b) with one constraint for the two matrices together.

References:
    | Direct Parameterization of Lipschitz-Bounded Deep Networks (Wang & Manchester, 2023)
    | https://arxiv.org/abs/2301.11526

What differs: the paper's √2 AᵀΨσ(√2 Ψ⁻¹Bx + b) has AAᵀ + BBᵀ = I and a diagonal Ψ, by which it
rescales the activation of each hidden unit; for ReLU that is the bias b alone, and it is left out
here.  The √2 belong to the weights.  The paper constrains convolutions at each frequency of the torus,
with kernels as large as the image; here [A, B] is a small kernel with AA* + BB* ≤ I by AOL, for any
padding and any size of image.
"""

__all__ = ["SandwichConv2d", "SandwichLinear", "sandwich_conv2d", "sandwich_linear"]

from dataclasses import replace
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, rule
from ..linalg import mul_up
from ..parametrizations import SLL, Sandwich
from ..rounding import Analysis, Ball, rounding_rule
from ..rounding_rules import conv_map, linear_map
from ._convolution import refuse_padding, start_orthogonal
from ._registry import Card, drop_in
from ._slopes import check_slopes, refuse_slopes
from .potential import adjoint, refuse_stride, there_and_back


class SandwichLinear(nn.Module):
    """Computes Aᵀσ(Bx + b).

    Its weights are those of one linear map [A, B] from outputs and inputs to hidden units.

    Arguments:
        in_features: The number of inputs.
        out_features: The number of outputs.
        bias: Whether to learn b.
        hidden_features: The number of hidden units, by default that of outputs.
        activation: The function σ, by default ReLU; its slopes should be in [0, 1].

    Raises:
        ValueError: If σ is not known to have such slopes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        hidden_features: int | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        hidden = out_features if hidden_features is None else hidden_features
        self.in_features, self.out_features = in_features, out_features
        self.inner = nn.Linear(out_features + in_features, hidden, bias, device, dtype)
        self.activation = check_slopes(nn.ReLU() if activation is None else activation)

    def forward(self, x: Tensor) -> Tensor:  # (..., I) -> (..., O)
        # Read once: it may be computed.
        a, b = self.inner.weight.split([self.out_features, self.in_features], dim=1)
        return F.linear(self.activation(F.linear(x, b, self.inner.bias)), a.mT)


class SandwichConv2d(nn.Module):
    """Computes A*σ(Bx + b), where A and B are convolutions from outputs and inputs to hidden channels.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width of the kernels of A and B.
        stride: The stride, 1.
        padding: The padding of A and B: images keep their size for any.
        dilation: The dilation of A and B.
        groups: The number of groups, 1.
        bias: Whether to learn b.
        padding_mode: "zeros", or "circular" with padding "same".
        hidden_channels: The number of hidden channels, by default that of outputs.
        activation: The function σ, by default ReLU; its slopes should be in [0, 1].

    Raises:
        ValueError: For a stride or groups other than 1, for padding that repeats pixels, or if σ is
            not known to have such slopes.
    """

    def __init__(
        self,
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
        *,
        hidden_channels: int | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, (1, 1)) or groups != 1:
            raise ValueError(
                f"A sandwich takes stride 1 and one group, got {stride} and {groups}: put "
                "nn.PixelUnshuffle(stride) before it."
            )
        hidden = out_channels if hidden_channels is None else hidden_channels
        self.in_channels, self.out_channels = in_channels, out_channels
        self.inner = nn.Conv2d(
            out_channels + in_channels, hidden, kernel_size, 1, padding, dilation, 1, bias,
            padding_mode, device, dtype,
        )  # fmt: skip
        refuse_padding(self.inner)
        self.activation = check_slopes(nn.ReLU() if activation is None else activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        # Read once: it may be computed.
        a, b = self.inner.weight.split([self.out_channels, self.in_channels], dim=1)
        hidden = self.inner._conv_forward(x, b, self.inner.bias)  # noqa: SLF001
        return adjoint(self.inner, a, self.activation(hidden), x.shape[2:])


@rule(SandwichLinear, SandwichConv2d)
def _sandwich(module: SandwichLinear | SandwichConv2d, shape: Shape) -> Bound:
    """Theorem: Aᵀσ(Bx + b), with slopes of σ in [0, 1], has the constant ½ ‖[A, B]‖².

    *Proof.*  For two points x and y with difference δ, σ(Bx + b) − σ(By + b) = DBδ, where D is diagonal
    with entries dᵢ in [0, 1], the slopes of the secants.  For any vector w,

        wᵀAᵀDBδ = Σ dᵢ (Aw)ᵢ (Bδ)ᵢ ≤ Σ ¼ ((Aw)ᵢ + (Bδ)ᵢ)² = ¼ ‖Aw + Bδ‖² ≤ ¼ ‖[A, B]‖² (‖w‖² + ‖δ‖²),

    as d st ≤ max(st, 0) ≤ ¼ (s + t)² for real numbers s and t.  With ‖w‖ = ‖δ‖ the right-hand side is
    ½ ‖[A, B]‖² ‖w‖ ‖δ‖, and w in the direction of AᵀDBδ gives the theorem.  ∎

    [A, B] is the linear part of `inner`, bounded by its own rule: a convolution of outputs and inputs
    side by side is the sum of one of each, and the outer map is the adjoint of the first: see
    `potential.adjoint`.
    """
    inner = lipschitz(module.inner, _joint(module, shape))
    refuse_stride(module.inner)
    refuse_slopes(module.activation)
    value = mul_up(Fraction(inner.value) ** 2, Fraction(1, 2))
    return Bound(value, "Sandwich: ‖[A, B]‖² / 2", (inner,))


def _joint(module: SandwichLinear | SandwichConv2d, shape: Shape) -> Shape:
    """The shape of an example with outputs and inputs side by side."""
    axis, taken, outs = (
        (0, module.in_channels, module.out_channels)
        if isinstance(module, SandwichConv2d)
        else (-1, module.in_features, module.out_features)
    )
    if not shape or shape[axis] != taken:
        raise NotCertifiedError(
            f"A sandwich of {taken} inputs does not take examples of shape {tuple(shape)}."
        )
    joint = list(shape)
    joint[axis] += outs
    return tuple(joint)


@rounding_rule(SandwichLinear, SandwichConv2d)
def _sandwich_rounding(
    module: SandwichLinear | SandwichConv2d, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """What is rounded on the way through B, σ and Aᵀ: the norms of both are below that of [A, B]."""
    joint, inner = _joint(module, shape), module.inner
    if isinstance(module, SandwichConv2d):
        channels, outs = (module.out_channels, module.in_channels), module.out_channels
        both, after = conv_map(module.inner, joint, analysis), (outs, *shape[1:])
    else:
        channels, outs = (module.out_features, module.in_features), module.out_features
        both, after = linear_map(module.inner, joint, analysis), (*shape[:-1], outs)
    a, b = inner.weight.split(channels, dim=1)
    there = replace(both, weight=b, terms=b[0].numel())
    end, offset = there_and_back(module, shape, ball, analysis, there, a, after)
    return analysis.step(module, shape, ball, end.error, offset=offset, grid=end.grid)


@drop_in(
    SandwichLinear,
    Card(
        kind="residual block",
        guarantee="1-Lipschitz",
        paper="Wang & Manchester, 2023",
        url="https://arxiv.org/abs/2301.11526",
        choose="A layer with its activation inside, less tightly held than the two apart.",
        arguments={"in_features": 6, "out_features": 5},
        shape=(6,),
    ),
)
def sandwich_linear(layer: SandwichLinear) -> None:
    """Builds a sandwich layer with AAᵀ + BBᵀ = 2I by the Cayley map, started near Qσ(x).

    Arguments are those of `SandwichLinear`.
    """
    if layer.inner.bias is not None:
        nn.init.zeros_(layer.inner.bias)
    weight, outs = layer.inner.weight, layer.out_features
    nn.init.normal_(weight, std=0.1 * max(weight.shape) ** -0.5)
    with torch.no_grad():
        # Where 2(I + ZZᵀ)⁻¹ − I = I/√2, both halves have equal norms.
        weight[:, outs:] += (1 - 2**0.5) * nn.init.orthogonal_(torch.empty_like(weight[:, outs:]))
    register_parametrization(layer.inner, "weight", Sandwich())


@drop_in(
    SandwichConv2d,
    Card(
        kind="residual block",
        guarantee="1-Lipschitz",
        paper="Wang & Manchester, 2023",
        url="https://arxiv.org/abs/2301.11526",
        choose="A convolution with its activation inside, where a residual block does not fit.",
        arguments={"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": 1},
        shape=(3, 5, 6),
    ),
)
def sandwich_conv2d(layer: SandwichConv2d) -> None:
    """Builds a sandwich of convolutions, rescaled by AOL, started as one tap Qσ(x).

    Arguments are those of `SandwichConv2d`.
    """
    if layer.inner.bias is not None:
        nn.init.zeros_(layer.inner.bias)
    for half in layer.inner.weight.split([layer.out_channels, layer.in_channels], dim=1):
        start_orthogonal(half)
    register_parametrization(layer.inner, "weight", SLL())
