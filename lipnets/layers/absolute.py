"""The absolute value as an activation, of all channels or of some, and smoothed.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062
    | LipNeXt (2026) https://arxiv.org/abs/2601.18513, for a fraction of the channels
    | Robust Estimation of a Location Parameter (Huber, 1964), whose loss is smoothed here
"""

__all__ = ["Abs", "BetaAbs", "SoftHuber"]

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..rounding import ELEMENTARY, Analysis, Ball, rounding_rule
from ._parts import parts, writes
from ._registry import Card, add


class Abs(nn.Module):
    """Takes the absolute value of each entry, which preserves norms and the norms of gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


@rule(Abs)
def _absolute(module: Abs, shape: Shape) -> Bound:
    """||x| − |y|| ≤ |x − y| entrywise, with equality where the signs agree."""
    return Bound(1.0, "Abs: slopes −1 and 1")


class BetaAbs(nn.Module):
    """Takes the absolute value of the first channels, and leaves the others as they are.

    Arguments:
        beta: The fraction β of channels, in [0, 1]: the first ⌊βC⌋.

    Raises:
        ValueError: If β is out of [0, 1].
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"'beta' should be in [0, 1], got {beta:g}.")
        self.beta = float(beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        count = int(self.beta * x.shape[1])
        if writes(x):
            return _SomeAbsolute.apply(x, count)  # pyright: ignore[reportReturnType]
        return torch.cat([x[:, :count].abs(), x[:, count:]], dim=1)


@rule(BetaAbs)
def _some_absolute(module: BetaAbs, shape: Shape) -> Bound:
    """Each coordinate is kept, or goes through the absolute value: slopes −1 and 1."""
    if not 0 <= module.beta <= 1:  # other channels than the first
        raise NotCertifiedError(f"'beta' should be in [0, 1], got {module.beta}.")
    return Bound(1.0, "BetaAbs: slopes −1 and 1")


@rounding_rule(Abs, BetaAbs)
def _absolute_rounds(module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: moduli are exact, and stay on a grid."""
    return analysis.step(module, shape, ball, 0.0, grid=ball.grid)


class SoftHuber(nn.Module):
    """Smooths the absolute value: √(x² + δ²) − δ.

    Arguments:
        delta: The width δ of the part that is smoothed, positive.

    Raises:
        ValueError: If δ is not positive, or infinite.
    """

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        if not 0 < delta < float("inf"):
            raise ValueError(f"'delta' should be positive, got {delta:g}.")
        self.delta = float(delta)

    def extra_repr(self) -> str:
        return f"delta={self.delta:g}"

    def forward(self, x: Tensor) -> Tensor:
        if writes(x):
            return _Smooth.apply(x, self.delta)  # pyright: ignore[reportReturnType]
        return torch.hypot(x, x.new_full((), self.delta)) - self.delta


@rule(SoftHuber)
def _soft_huber(module: SoftHuber, shape: Shape) -> Bound:
    """The slope x / √(x² + δ²) is between −1 and 1, which it approaches."""
    return Bound(1.0, "SoftHuber: slopes in [−1, 1]")


@rounding_rule(SoftHuber)
def _soft_huber_rounds(module: SoftHuber, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R3 for the root, which is at most |x| + δ: 2 `ELEMENTARY` u of that, an ulp being 2u at most.

    The number δ is rounded to the format twice, by u of itself, where the root has a slope of 1 at
    most; the difference once, by u of |x| + 2δ at most: (2 `ELEMENTARY` + 5) u (|x| + δ), and what
    is of second order.  f(0) = 0.  Numbers that underflow are off by the smallest one.
    """
    analysis.assumptions.add("R3")
    a = analysis.arithmetic
    root = math.sqrt(math.prod(shape)) * (1 + 2.0**-40)
    size = ball.norm + module.delta * root
    local = (2 * ELEMENTARY + 8) * a.unit * size + 4 * root * a.tiny
    return analysis.step(module, shape, ball, local)


_SINGLA = "Singla, Singla & Feizi, 2022"
add(
    "abs",
    Abs,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper=_SINGLA,
        url="https://arxiv.org/abs/2108.04062",
        choose="The cheapest activation that keeps gradients: costs what ReLU costs.",
        shape=(6,),
    ),
)
add(
    "relu",
    nn.ReLU,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="As a baseline: it loses half of the gradient, which 1-Lipschitz networks miss.",
        shape=(6,),
    ),
)
add(
    "beta_abs",
    BetaAbs,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="LipNeXt, 2026",
        url="https://arxiv.org/abs/2601.18513",
        choose="Between Abs and the identity, for networks that are deep.",
        shape=(6, 2),
    ),
)
add(
    "soft_huber",
    SoftHuber,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="Where derivatives should be continuous: it loses gradients near 0.",
        shape=(6,),
    ),
)


class _SomeAbsolute(Function):
    """The absolute value of the first channels, of whose signs a byte each is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        out = torch.empty_like(x)
        saves = ctx.needs_input_grad[0]
        signs = torch.empty_like(x[:, :count], dtype=torch.int8) if saves else None
        for part in parts(x):
            torch.abs(x[part, :count], out=out[part, :count])
            out[part, count:] = x[part, count:]
            if signs is not None:
                signs[part] = x[part, :count].sign()
        ctx.count = count
        ctx.save_for_backward(signs)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, count, signs = grads[0], ctx.count, ctx.saved_tensors[0]
        if not writes(grad) or torch.is_grad_enabled():
            return torch.cat([grad[:, :count] * signs, grad[:, count:]], dim=1), None
        result = torch.empty_like(grad)
        for part in parts(grad):
            chosen = signs[part].to(grad.dtype)
            torch.mul(grad[part, :count], chosen, out=result[part, :count])
            result[part, count:] = grad[part, count:]
        return result, None


class _Smooth(Function):
    """√(x² + δ²) − δ, whose derivative is x divided by the output plus δ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: float) -> Tensor:
        out, width = torch.empty_like(x), x.new_full((), delta)
        for part in parts(x):
            torch.hypot(x[part], width, out=out[part]).sub_(delta)
        ctx.delta = delta
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, (x, out) = grads[0], ctx.saved_tensors
        if not writes(grad) or torch.is_grad_enabled():
            return grad * (x / (out + ctx.delta)), None
        result = torch.empty_like(grad)
        for part in parts(grad):
            slopes = torch.add(out[part], ctx.delta)
            torch.div(x[part], slopes, out=slopes)
            torch.mul(grad[part], slopes, out=result[part])
        return result, None
