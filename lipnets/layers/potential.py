"""Residual blocks that descend a convex potential: CPL and SLL.

References:
    | A Dynamical System Perspective for Lipschitz Neural Networks
    | (Meunier, Delattre, Araujo & Allauzen, 2022) https://arxiv.org/abs/2110.12690
    | A Unified Algebraic Perspective on Lipschitz Neural Networks
    | (Araujo, Havens, Delattre, Allauzen & Hu, 2023) https://arxiv.org/abs/2303.03169

How the diagonals of the papers became a part of the weight: `lipnets.parametrizations.potential`.
What else differs: the norm of CPL is that of the weight in use, not one that a power iteration had
reached some steps ago; blocks start as x ↦ −Qᵀ|Qx|, which keeps the norms of gradients.
"""

__all__ = [
    "PotentialConv2d",
    "PotentialLinear",
    "adjoint",
    "cpl_conv2d",
    "cpl_linear",
    "refuse_stride",
    "sll_conv2d",
    "sll_linear",
    "there_and_back",
]

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, rule
from ..linalg import mul_up
from ..parametrizations import CPL, SLL
from ..rounding import Analysis, Ball, Number, number, rounding_rule
from ..rounding_rules import LinearMap, conv_map, linear_map
from ._convolution import refuse_padding, start_orthogonal
from ._registry import Card, drop_in
from ._slopes import check_slopes, refuse_slopes


class PotentialLinear(nn.Module):
    """Subtracts the gradient of a convex function, x − Wᵀσ(Wx + b).

    Arguments:
        in_features: The number of features.
        out_features: The same number.
        bias: Whether to learn b.
        hidden_features: The number of rows of W, by default the number of features.
        activation: The function σ, by default ReLU; its slopes should be in [0, 1].

    Raises:
        ValueError: If the numbers of features differ, or σ is not known to have such slopes.
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
        if in_features != out_features:
            raise ValueError(
                "A residual block should keep the number of features, got "
                f"{in_features} and {out_features}: put a linear layer before or after it."
            )
        hidden = in_features if hidden_features is None else hidden_features
        self.inner = nn.Linear(in_features, hidden, bias, device, dtype)
        self.activation = check_slopes(nn.ReLU() if activation is None else activation)

    def forward(self, x: Tensor) -> Tensor:  # (..., I) -> (..., I)
        weight = self.inner.weight  # read once: it may be computed
        hidden = self.activation(F.linear(x, weight, self.inner.bias))
        return x - F.linear(hidden, weight.mT)


class PotentialConv2d(nn.Module):
    """Subtracts the gradient of a convex function, x − Wᵀσ(Wx + b), where W is a convolution.

    Arguments:
        in_channels: The number of channels.
        out_channels: The same number.
        kernel_size: The height and width of the kernel of W.
        stride: The stride, 1.
        padding: The padding of W: images keep their size for any.
        dilation: The dilation of W.
        groups: The number of groups of W.
        bias: Whether to learn b.
        padding_mode: "zeros", or "circular" with padding "same".
        hidden_channels: The number of outputs of W, by default the number of channels.
        activation: The function σ, by default ReLU; its slopes should be in [0, 1].

    Raises:
        ValueError: If the numbers of channels differ, for a stride other than 1, for padding that
            repeats pixels, or if σ is not known to have such slopes.
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
        if in_channels != out_channels or stride not in (1, (1, 1)):
            raise ValueError(
                "A residual block should keep the number of channels and the size of images, got "
                f"{in_channels} and {out_channels} channels and stride {stride}: use sll_aoc_conv2d, "
                "or put a convolution before or after the block."
            )
        hidden = in_channels if hidden_channels is None else hidden_channels
        self.inner = nn.Conv2d(
            in_channels, hidden, kernel_size, 1, padding, dilation, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip
        refuse_padding(self.inner)
        self.activation = check_slopes(nn.ReLU() if activation is None else activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        weight = self.inner.weight  # read once: it may be computed
        hidden = self.inner._conv_forward(x, weight, self.inner.bias)  # noqa: SLF001
        return x - adjoint(self.inner, weight, self.activation(hidden), x.shape[2:])


def adjoint(conv: nn.Conv2d, weight: Tensor, hidden: Tensor, size: torch.Size) -> Tensor:
    """Applies the adjoint of the linear part of a convolution of stride 1.

    With b pixels of padding before an axis, output j reads x at j + dq − b for each tap q; so the
    adjoint gives pixel i the sum over q of Kᵀ_q h at i − dq + b.  Full convolution with the
    transposed kernel sums h at i′ − dq: i = i′ − b.  In a circle of padding b and a, b + a = d(k − 1), h
    is continued by a before and b after, and i′ is a + b further on.
    """
    before, after = _padding(conv)
    if conv.padding_mode == "circular":
        around = (after[1], before[1], after[0], before[0])
        hidden = F.pad(hidden, around, mode="circular") if any(around) else hidden
        crop = (before[0] + after[0], before[1] + after[1])
    else:
        crop = before
    out = F.conv_transpose2d(
        hidden, weight, padding=crop, groups=conv.groups, dilation=conv.dilation
    )
    return out if out.shape[2:] == size else out[..., : size[0], : size[1]]


def refuse_stride(inner: nn.Module) -> None:
    """Refuses a map that `adjoint` is not the adjoint of.

    Raises:
        NotCertifiedError: If it has a stride, which blocks are not built with.
    """
    if isinstance(inner, nn.Conv2d) and tuple(inner.stride) != (1, 1):
        raise NotCertifiedError(
            f"The convolution inside this block should have stride 1, got {tuple(inner.stride)}: put "
            "nn.PixelUnshuffle(stride) before the block."
        )


def _padding(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding before and after the two axes."""
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    if conv.padding == "same":
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        before = (reach[0] // 2, reach[1] // 2)
        return before, (reach[0] - before[0], reach[1] - before[1])
    padding = (int(conv.padding[0]), int(conv.padding[1]))
    return padding, padding


@rule(PotentialLinear, PotentialConv2d)
def _potential(module: PotentialLinear | PotentialConv2d, shape: Shape) -> Bound:
    """Theorem: x − Wᵀσ(Wx + b), with slopes of σ in [0, 1], has the constant max(1, ‖W‖² − 1).

    *Proof.*  For two points x and y, σ(Wx + b) − σ(Wy + b) = D W (x − y), where D is diagonal with
    entries in [0, 1], the slopes of the secants.  Hence f(x) − f(y) = (I − WᵀDW)(x − y), and this
    symmetric matrix has its eigenvalues between 1 − ‖W‖² and 1, since 0 ≤ WᵀDW ≤ WᵀW.  ∎

    W is the linear part of `inner`, bounded by its own rule, and the second product is its adjoint:
    for convolutions see `adjoint`, for circular padding under the condition that the rule of
    `inner` checks.
    """
    inner = lipschitz(module.inner, shape)
    refuse_stride(module.inner)
    refuse_slopes(module.activation)
    square = Fraction(inner.value) ** 2
    value = max(1.0, mul_up(max(square - 1, Fraction(0))))
    return Bound(value, "Potential: max(1, ‖W‖² − 1)", (inner,))


@rounding_rule(PotentialLinear, PotentialConv2d)
def _potential_rounding(
    module: PotentialLinear | PotentialConv2d, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """What is rounded on the way through W, σ and Wᵀ, and u of the difference of X and that.

    On grids that fit the format, differences of exact numbers are exact.
    """
    inner = module.inner
    there = (
        linear_map(inner, shape, analysis)
        if isinstance(inner, nn.Linear)
        else conv_map(inner, shape, analysis)
    )
    after, offset = there_and_back(module, shape, ball, analysis, there, inner.weight, shape)
    a, total = analysis.arithmetic.elementwise, number(ball.norm) + number(after.norm)
    if ball.grid is not None and after.grid is not None:
        grid = max(ball.grid, after.grid)
        if a.sums(total.max().item(), grid):
            return analysis.step(module, shape, ball, after.error, offset=offset, grid=grid)
    return analysis.step(module, shape, ball, after.error + a.unit * total, offset=offset)


def there_and_back(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    there: LinearMap,
    weight: Tensor,
    outs: Shape,
) -> tuple[Ball, Number]:
    """The ball of A*σ(Bx + b), its error that of what is computed of a computed x; and ‖A*σ(b)‖.

    Errors add up as behind any chain: `Analysis.move`.  The norm of moduli of an adjoint is that of
    the map; a sum of A* takes products of all outputs of a group with all taps, at the most.

    Arguments:
        module: The block, with an `inner` layer and an `activation`.
        shape: The shape of an example of its input.
        ball: The ball of its inputs.
        analysis: The analysis that asks.
        there: The map B with b.
        weight: The weights of A, a map as `inner`, of a norm below the constant of `there`.
        outs: The shape of an example of the output.
    """
    inner: nn.Linear | nn.Conv2d = module.inner  # pyright: ignore[reportAssignmentType]
    activation: nn.Module = module.activation  # pyright: ignore[reportAssignmentType]
    groups = getattr(inner, "groups", 1)
    refuse_slopes(activation)

    def rows(weights: Tensor) -> float:
        return there.rows(weights.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1))

    def apply(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(inner, nn.Linear):
            return F.linear(x, weights.mT)
        return adjoint(inner, weights, x, torch.Size(outs[1:]))

    back = replace(
        there,
        weight=weight,
        bias=None,
        terms=weight.shape[0] // groups * math.prod(weight.shape[2:]),
        outputs=math.prod(outs),
        rows=rows,
        apply=apply,
    )
    b, bias, a = there.weight.detach(), there.bias, weight.detach()
    start = replace(ball, error=0.0)
    local, offset, grid = there.rounding(start, analysis, (module, ("there", shape)))
    hidden = analysis.move(
        start, lambda x: there.apply(x, b, bias), there.constant, local, offset=offset, grid=grid
    )
    size = (
        (*shape[:-1], len(b))
        if isinstance(inner, nn.Linear)
        else analysis.output_shape(inner, (inner.in_channels, *shape[1:]))
    )
    zero = analysis(activation, size, Ball(norm=offset))
    hidden = analysis(activation, size, hidden)
    local, _, grid = back.rounding(hidden, analysis, (module, ("back", shape)))
    after = analysis.move(hidden, lambda x: back.apply(x, a, None), back.constant, local, grid=grid)
    return after, number(zero.norm) * back.constant * (1 + 2.0**-40)


_CPL = {
    "kind": "residual block",
    "guarantee": "1-Lipschitz",
    "paper": "Meunier et al., 2022",
    "url": "https://arxiv.org/abs/2110.12690",
    "choose": "A residual block held by the norm of its weight alone, and not by those of its rows.",
}
_SLL = {
    "kind": "residual block",
    "guarantee": "1-Lipschitz",
    "paper": "Araujo et al., 2023",
    "url": "https://arxiv.org/abs/2303.03169",
    "choose": "The default residual block: cheap at any number of channels.",
}
_LINEAR = {"arguments": {"in_features": 6, "out_features": 6}, "shape": (6,)}
_CONV2D = {
    "arguments": {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": 1},
    "shape": (3, 5, 6),
}


@drop_in(PotentialLinear, Card(**_CPL, **_LINEAR))
def cpl_linear(block: PotentialLinear) -> None:
    """Builds a convex potential layer, whose weight is divided by its norm.

    Arguments are those of `PotentialLinear`.
    """
    _start(block.inner)
    register_parametrization(block.inner, "weight", CPL())


@drop_in(PotentialConv2d, Card(**_CPL, **_CONV2D))
def cpl_conv2d(block: PotentialConv2d) -> None:
    """Builds a convolutional convex potential layer, whose kernel is divided by its norm.

    Arguments are those of `PotentialConv2d`.  The norm is that of the convolution, on the torus.

    Raises:
        ValueError: As `PotentialConv2d`, and if there is more than one group.
    """
    if block.inner.groups != 1:
        raise ValueError(
            f"cpl_conv2d takes one group, got {block.inner.groups}: use sll_conv2d for groups."
        )
    _start(block.inner)
    register_parametrization(block.inner, "weight", CPL())


@drop_in(PotentialLinear, Card(**_SLL, **_LINEAR))
def sll_linear(block: PotentialLinear) -> None:
    """Builds an SDP-based Lipschitz layer, whose hidden units are rescaled one by one.

    Arguments are those of `PotentialLinear`.
    """
    _start(block.inner)
    register_parametrization(block.inner, "weight", SLL())


@drop_in(PotentialConv2d, Card(**_SLL, **_CONV2D))
def sll_conv2d(block: PotentialConv2d) -> None:
    """Builds a convolutional SDP-based Lipschitz layer, whose hidden channels are rescaled.

    Arguments are those of `PotentialConv2d`.
    """
    _start(block.inner)
    register_parametrization(block.inner, "weight", SLL(block.inner.groups))


def _start(inner: nn.Linear | nn.Conv2d) -> None:
    """Starts with a multiple of an orthogonal matrix, in each group of channels."""
    if inner.bias is not None:
        nn.init.zeros_(inner.bias)
    if isinstance(inner, nn.Linear):
        nn.init.orthogonal_(inner.weight)
        return
    for group in inner.weight.chunk(inner.groups):
        start_orthogonal(group)
