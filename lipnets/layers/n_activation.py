"""The N-activation: slopes 1, −1 and 1, with learned places where they change.

References:
    | 1-Lipschitz Neural Networks are more expressive with N-Activations (Prach & Lampert, 2023)
    | https://arxiv.org/abs/2311.06103

What differs: the two thresholds of a channel may come in any order, and start at −1 and 0, where the
activation is the absolute value of what is above −1.
"""

__all__ = ["NActivation"]

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, Shape, rule
from ..rounding import Analysis, Ball, bits, norms, rounding_rule
from ._parts import parts, writes
from ._registry import Card, named


@named(
    "n_activation",
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="Prach & Lampert, 2023",
        url="https://arxiv.org/abs/2311.06103",
        choose="Acts on each channel alone, and reaches functions that MaxMin and Abs cannot.",
        arguments={"channels": 4},
        shape=(4, 3),
    ),
)
class NActivation(nn.Module):
    """Computes x − 2 clamp(x, a, b) in each channel, a ≤ b its two thresholds in order.

    Arguments:
        channels: The number C of channels.

    Raises:
        ValueError: If there is no channel.
    """

    def __init__(
        self,
        channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"'channels' should be at least 1, got {channels}.")
        self.thresholds = nn.Parameter(torch.empty(2, channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.thresholds, -1.0)
        nn.init.zeros_(self.thresholds[1])

    def extra_repr(self) -> str:
        return f"channels={self.thresholds.shape[1]}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        if x.ndim < 2 or x.shape[1] != self.thresholds.shape[1]:
            raise ValueError(
                f"The number of channels should be {self.thresholds.shape[1]}, got a tensor of shape "
                f"{tuple(x.shape)}, with channels in dimension 1."
            )
        first, second = self.thresholds.to(x.dtype).view(2, -1, *[1] * (x.ndim - 2))
        low, high = first.minimum(second), first.maximum(second)
        if writes(x, low):
            saves = torch.is_grad_enabled() and (x.requires_grad or low.requires_grad)
            return _Bend.apply(x, low, high, saves)  # pyright: ignore[reportReturnType]
        return torch.sub(x, torch.clamp(x, low, high), alpha=2)


@rule(NActivation)
def _n_activation(module: NActivation, shape: Shape) -> Bound:
    """Continuous and piecewise linear: x ↦ clamp(x, a, b) has slopes 0, 1, 0, hence 1, −1 and 1."""
    return Bound(1.0, "NActivation: slopes 1 and −1")


@rounding_rule(NActivation)
def _n_activation_rounds(module: NActivation, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Clamping is exact (R2), twice a number too; a difference is rounded by u of itself.

    Thresholds that the format does not hold are rounded by u of themselves at most, and the function
    moves twice as far as the farther of them.  It is below |x| + |f(0)| in modulus, where
    |f(0)| ≤ 2 min(|a|, |b|).  If thresholds are multiples of 2⁻ᵗ and inputs of 2⁻ᵍ, so are outputs, of
    the finer of both, which are exact if their modulus fits the format.
    """
    a = analysis.arithmetic.elementwise
    moduli = module.thresholds.detach().double().abs()
    repeated = math.sqrt(math.prod(shape[1:])) * (1 + 2.0**-40)
    offset = 2 * float(norms(moduli.amin(dim=0)[None])) * repeated
    stored = a.holds(module.thresholds)
    grid = None
    if ball.grid is not None and stored:
        step = bits(module.thresholds)
        if step is not None:
            grid = max(ball.grid, step)
    top = ball.largest + 2 * moduli.max().item()
    if grid is not None and a.sums(2 * top, grid):
        return analysis.step(module, shape, ball, 0.0, offset=offset, grid=grid)
    moved = 0.0 if stored else 2 * a.unit * float(norms(moduli.amax(dim=0)[None])) * repeated
    underflow = 4 * math.sqrt(math.prod(shape)) * a.tiny
    local = a.unit * (ball.norm + offset + moved) * (1 + a.unit) + moved + underflow
    if 2 * top >= a.largest:
        local = math.inf
    return analysis.step(module, shape, ball, local, offset=offset)


class _Bend(Function):
    """x − 2 clamp(x, low, high), of which a byte is saved for each entry: −1 below, 1 above, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, saves: bool) -> Tensor:
        out = torch.empty_like(x)
        sides = torch.empty_like(x, dtype=torch.int8) if saves else None
        for part in parts(x):
            inside = torch.maximum(x[part], low)  # quicker than clamping by two tensors
            torch.minimum(inside, high, out=inside)
            torch.sub(x[part], inside, alpha=2, out=out[part])
            if sides is not None:
                sides[part] = torch.sub(x[part], inside, out=inside).sign_()
        ctx.save_for_backward(sides)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, sides = grads[0], ctx.saved_tensors[0]
        over = (0, *range(2, grad.ndim))
        if not writes(grad) or torch.is_grad_enabled():
            signs = sides.to(grad.dtype)
            signed = grad * signs
            outside = signed * signs
            both = torch.stack([signed.sum(dim=over), outside.sum(dim=over)])
            result = 2 * outside - grad
        else:
            result, sums = torch.empty_like(grad), []
            for part in parts(grad):
                signs = sides[part].to(grad.dtype)
                signed = grad[part] * signs
                outside = torch.mul(signed, signs, out=signs)
                sums.append(torch.stack([signed.sum(dim=over), outside.sum(dim=over)]))
                torch.sub(outside, grad[part], alpha=0.5, out=result[part]).mul_(2)
            both = torch.stack(sums).sum(dim=0)
        signed, outside = both.view(2, -1, *[1] * (grad.ndim - 2))
        return result, signed - outside, -signed - outside, None
