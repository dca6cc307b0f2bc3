"""Householder activations: half of the plane of two channels is reflected to the other half.

References:
    | Improved deterministic ℓ2 robustness on CIFAR-10 and CIFAR-100 (Singla, Singla & Feizi, 2022)
    | https://arxiv.org/abs/2108.04062

What differs: pairs are the channels 2k and 2k + 1, as in `MaxMin`; and order 2 is two activations of
order 1 in a row, each with an angle of its own, which is continuous for all angles, where the paper
clips three angles.
"""

__all__ = ["Householder", "Householder2", "StoredHouseholder"]

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import mul_up
from ..program import lowering
from ..rounding import Analysis, Ball, Number, rounding_rule
from ._parts import compare, parts, weights, writes
from ._registry import Card, add


class _Reflections(nn.Module):
    """Angles of reflections of pairs of channels, one after another, with shape (order, C / 2)."""

    order = 1

    def __init__(
        self,
        channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"'channels' should be an even number, 2 at least, got {channels}.")
        self.channels = channels
        self.angles = nn.Parameter(
            torch.empty(self.order, channels // 2, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts as MaxMin; a second reflection has nothing left to do there."""
        nn.init.constant_(self.angles, math.pi / 2)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(
                f"The number of channels should be {self.channels}, got a tensor of shape "
                f"{tuple(x.shape)}, with channels in dimension 1."
            )
        halves = (self.angles / 2).to(x.dtype)
        if writes(x, halves):
            saves = torch.is_grad_enabled() and (x.requires_grad or halves.requires_grad)
            return _Reflect.apply(x, halves, saves)  # pyright: ignore[reportReturnType]
        first, second = x.unflatten(1, (-1, 2)).unbind(2)
        for sine, cosine in _normals(halves, x.ndim):
            inside = (second * cosine - first * sine).clamp_min(0)
            first = torch.addcmul(first, inside, sine, value=2)
            second = torch.addcmul(second, inside, cosine, value=-2)
        return torch.stack([first, second], dim=2).flatten(1, 2)


class Householder(_Reflections):
    """Reflects pairs of channels at a line through 0, if they are on one side of it.

    With v = (sin θ/2, −cos θ/2), z ↦ z where vᵀz ≥ 0, and z − 2(vᵀz)v elsewhere: θ = π/2 is MaxMin, at
    which it starts.  The angle of each pair is learned.

    Arguments:
        channels: The number C of channels, even.
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return super().forward(x)


class Householder2(_Reflections):
    """Two activations `Householder` in a row, with angles of their own.

    Arguments:
        channels: The number C of channels, even.
    """

    order = 2

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return super().forward(x)


@rule(Householder, Householder2)
def _reflections(module: _Reflections, shape: Shape) -> Bound:
    """With t = vᵀz and w ⊥ v a unit vector, (t, wᵀz) ↦ (|t|, wᵀz), for a unit vector v.

    It is 1-Lipschitz since ||t| − |t'|| ≤ |t − t'|; pairs are disjoint coordinates, whose squares add
    up; and so are compositions.  For every θ, (sin θ/2)² + (cos θ/2)² = 1.  Attained where t has a sign.
    """
    return Bound(1.0, f"{type(module).__name__}: reflections of half planes")


class StoredHouseholder(nn.Module):
    """Householder activations, one after another, whose normals are stored and not computed.

    With the normal v, z ↦ z where vᵀz ≥ 0, and z − 2(vᵀz)v elsewhere, in each pair of channels.

    Arguments:
        normals: The numbers s and c of the normals v = (s, −c), with shape (order, C / 2, 2).
    """

    def __init__(self, normals: Tensor) -> None:
        super().__init__()
        self.normals = nn.Parameter(normals.detach().clone())

    def extra_repr(self) -> str:
        return f"channels={2 * self.normals.shape[1]}, order={len(self.normals)}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        first, second = x.unflatten(1, (-1, 2)).unbind(2)
        for normal in self.normals:
            sine, cosine = normal.view(-1, *[1] * (x.ndim - 2), 2).unbind(-1)
            inside = (second * cosine - first * sine).clamp_min(0)
            first, second = first + 2 * inside * sine, second - 2 * inside * cosine
        return torch.stack([first, second], dim=2).flatten(1, 2)


@lowering(Householder, Householder2)
def _lowered(module: _Reflections, shape: Shape) -> nn.Module:
    """Sines and cosines of half angles, as float64 computes them once."""
    halves = module.angles.detach().double() / 2
    return StoredHouseholder(torch.stack([halves.sin(), halves.cos()], dim=-1))


@rule(StoredHouseholder)
def _stored_reflections(module: StoredHouseholder, shape: Shape) -> Bound:
    """The identity on one side of a line, I − 2vvᵀ on the other: max(1, |1 − 2‖v‖²|).

    The map is continuous, linear on both sides: its slopes along a segment are those of either.  The
    eigenvalues of I − 2vvᵀ are 1 and 1 − 2‖v‖², with ‖v‖² = s² + c², an exact fraction.  Pairs are
    disjoint coordinates; reflections one after another multiply.
    """
    if module.normals.shape[1:] != (shape[0] / 2, 2):
        raise NotCertifiedError(
            f"StoredHouseholder of {2 * module.normals.shape[1]} channels takes no examples of shape "
            f"{tuple(shape)}."
        )
    value = 1.0
    for square in _squares(module):
        value = mul_up(value, max(Fraction(1), abs(1 - 2 * square)))
    return Bound(value, "StoredHouseholder: reflections of half planes")


def _squares(module: StoredHouseholder) -> list[Fraction]:
    """The largest ‖v‖² of each reflection."""
    return [
        max(Fraction(sine) ** 2 + Fraction(cosine) ** 2 for sine, cosine in normals)
        for normals in module.normals.double().tolist()
    ]


@rounding_rule(StoredHouseholder)
def _reflections_round(
    module: StoredHouseholder, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """γ₇ (1 + 4m) ‖z‖ for each reflection, m = ‖v‖² at most; its own constant applies to those before.

    *Proof.*  Each product of s or c is rounded up to three times, with its storage and its sum: t = −vᵀz
    is off by γ₃ ‖v‖ ‖z‖, and so is max(t, 0), as max is exact.  With that, z + 2 max(t, 0) v is off by
    2 ‖v‖ times as much, and by γ₃ (‖z‖ + 2 ‖v‖² ‖z‖) in what it rounds itself: γ₃ (1 + 4m) ‖z‖ in
    all, and what is of second order, less than the difference to γ₇.  Of up to eight operations on each
    entry, underflow costs the smallest number each, times 2 ‖v‖ where it is multiplied.
    """
    a = analysis.arithmetic.elementwise
    largest = [float(square) * (1 + 2.0**-40) for square in _squares(module)]
    norm: Number = ball.norm
    local: Number = 0.0
    for square in largest:
        constant = max(1.0, abs(2 * square - 1)) * (1 + 2.0**-40)
        underflow = 8 * math.sqrt(math.prod(shape)) * (2 + 2 * square) * a.tiny
        own = a.gamma(7) * (1 + 4 * square) * norm + underflow
        local = constant * local + own
        norm = constant * norm + own
    if 4 * ball.largest * max(1.0, *largest) ** len(largest) >= a.largest:
        local = math.inf
    return analysis.step(module, shape, ball, local)


_SINGLA: dict[str, Any] = {
    "kind": "activation",
    "guarantee": "1-Lipschitz",
    "paper": "Singla, Singla & Feizi, 2022",
    "url": "https://arxiv.org/abs/2108.04062",
    "arguments": {"channels": 4},
    "shape": (4, 3),
}
add(
    "householder",
    Householder,
    Card(choose="MaxMin whose angle is learned, for a little more accuracy and time.", **_SINGLA),
)
add(
    "householder2",
    Householder2,
    Card(choose="Where two learned reflections of each pair are worth twice the time.", **_SINGLA),
)


def _normals(halves: Tensor, ndim: int) -> list[tuple[Tensor, Tensor]]:
    """Sines and cosines of half angles, each with the shape of channels of an input."""
    shape = (len(halves), -1, *[1] * (ndim - 2))
    return list(zip(halves.sin().view(shape), halves.cos().view(shape), strict=True))


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = x.reshape(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:]).unbind(2)
    return first, second


class _Reflect(Function):
    """Reflections of pairs of channels, which save their output, and of each pair whether it moved.

    With y = H(θ)z the reflected pair, dH/dθ = JH for J the rotation by π/2: the derivative of gᵀy is
    gᵀJy = y₁g₂ − y₂g₁, which any further reflection of both y and g multiplies with its determinant −1.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, halves: Tensor, saves: bool) -> Tensor:
        out = torch.empty_like(x)
        wire = _pairs(x)[0]
        masks = [torch.empty_like(wire, dtype=torch.bool) for _ in halves if saves]
        normals = _normals(halves, x.ndim)
        for part in parts(x):
            first, second = _pairs(x[part])
            for k, (sine, cosine) in enumerate(normals, start=1):
                ends = _pairs(out[part]) if k == len(normals) else (None, None)
                inside = (second * cosine).addcmul_(first, sine, value=-1)
                if saves:
                    compare(inside, 0, masks[k - 1][part])
                inside.clamp_min_(0)
                first = torch.addcmul(first, inside, sine, value=2, out=ends[0])
                second = torch.addcmul(second, inside, cosine, value=-2, out=ends[1])
        ctx.save_for_backward(out, halves, *masks)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, (out, halves, *masks) = grads[0], ctx.saved_tensors
        if not writes(grad) or torch.is_grad_enabled():
            *pair, turns = _back(grad, out, halves, masks, (None, None))
            return torch.stack(pair, dim=2).reshape(grad.shape), turns, None
        result = torch.empty_like(grad)
        turns = [
            _back(grad[p], out[p], halves, [mask[p] for mask in masks], _pairs(result[p]))[2]
            for p in parts(grad)
        ]
        return result, torch.stack(turns).sum(dim=0), None


def _back(
    grad: Tensor,
    out: Tensor,
    halves: Tensor,
    masks: Sequence[Tensor],
    ends: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives for the first and second channels of pairs, written to `ends`, and for `halves`."""
    (first, second), (left, right) = _pairs(grad), _pairs(out)
    turn = torch.addcmul(left * second, right, first, value=-1)
    over = (0, *range(2, turn.ndim))
    turns: list[Tensor] = []
    for k, (sine, cosine) in reversed(list(enumerate(_normals(halves, grad.ndim)))):
        moved = weights(masks[k], grad.dtype)
        turned = turn * moved
        turns.insert(0, 2 * turned.sum(dim=over))  # of half the angle
        if k:
            turn = torch.sub(turn, turned, alpha=2)
        inside = torch.addcmul(second * cosine, first, sine, value=-1) * moved
        first = torch.addcmul(first, inside, sine, value=2, out=None if k else ends[0])
        second = torch.addcmul(second, inside, cosine, value=-2, out=None if k else ends[1])
    return first, second, torch.stack(turns)
