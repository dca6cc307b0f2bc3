"""What a step did to log σ₁ of matrices, term by term.

With the step D of a matrix T, J = u₁v₁* and all of it as before the step,

    Δ log σ₁ = ⟨J, D⟩ / σ₁ + D²σ₁(D) / 2σ₁ − (⟨J, D⟩ / σ₁)² / 2 + O(D³).

The third order is of the size of |D| / (σ₁ − σ₂): where that is not small, the step is entered in parts,
along the segment from T to T + D.
"""

__all__ = ["Terms", "decomposed", "terms_of"]

from dataclasses import dataclass

import torch
from torch import Tensor

from .leading import leading
from .singular import Top, apply, top

_DECOMPOSED = 192  # rows or columns of matrices that are decomposed whole, all of a shape at once
_POWERS = 6  # steps of power iteration that estimate the norm of a step
_SIMPLE = 3.0  # the gap over the norm of a step, below which the step is entered in parts
_PARTS = 8


@dataclass
class Terms:
    """The terms of a step, of one matrix, in nats; `decay` is the part of `linear` that decay did."""

    linear: float
    curvature: float
    square: float
    decay: float
    crowded: bool = False


def is_small(matrices: Tensor) -> bool:
    """Whether matrices (F, m, n) are decomposed whole."""
    return min(matrices.shape[-2:]) <= _DECOMPOSED


def decomposed(matrices: Tensor, start: Tensor | None) -> Top:
    """The largest singular values of matrices (F, m, n), by what is faster.

    Arguments:
        matrices: The matrices; one, if it is large.
        start: Where to start from, if it is large: see `leading`.
    """
    if is_small(matrices) or start is None:
        return top(matrices)
    return leading(matrices, start)


def terms_of(
    before: Top, old: Tensor, steps: Tensor, decays: Tensor, divided: list[bool]
) -> list[Terms]:
    """The terms of one step of each of F matrices.

    Arguments:
        before: What was known before the step.
        old: The matrices before the step, with shape (F, m, n).
        steps: What they changed by, with shape (F, m, n).
        decays: The part of it that weight decay did, with shape (F, m, n).
        divided: Whether each may be entered in parts, if need be.
    """
    found = _terms(before, steps, decays)
    for row, terms in enumerate(found):
        if terms.crowded and divided[row]:
            one = slice(row, row + 1)
            found[row] = _in_parts(before, old[one], steps[one], decays[one])
    return found


def _in_parts(before: Top, old: Tensor, step: Tensor, decay: Tensor) -> Terms:
    """The terms of a step of one matrix (1, m, n), as the sums over its parts."""
    total, start = Terms(0.0, 0.0, 0.0, 0.0, crowded=True), before.start
    for part in range(_PARTS):
        here = decomposed(old + part / _PARTS * step, start)
        start = here.start
        [terms] = _terms(here, step / _PARTS, decay / _PARTS)
        total.linear += terms.linear
        total.curvature += terms.curvature
        total.square += terms.square
        total.decay += terms.decay
    return total


def _terms(before: Top, steps: Tensor, decays: Tensor) -> list[Terms]:
    pushed = apply(steps, before.right)
    pulled = apply(steps.mT, before.left.conj()).conj()
    slopes, bent = before.slope_of(pushed), before.curvature_of(pushed, pulled) / 2
    decayed = before.slope_of(apply(decays, before.right))
    lengths = _lengths(steps, pushed)
    # By Weyl's inequality, what follows the slope is at most |D| − ⟨J, D⟩: where the formula says
    # more, σ₁ is as good as not simple, and it says nothing.
    bent = torch.where(bent <= 1.1 * lengths - slopes, bent, 0.0)
    crowded = before.gap < _SIMPLE * lengths
    table = torch.stack([before.value, slopes, bent, decayed, crowded.double()]).T.tolist()
    return [
        Terms(slope / value, curve / value, -((slope / value) ** 2) / 2, decay / value, bool(flag))
        if value > 0
        else Terms(0.0, 0.0, 0.0, 0.0, crowded=True)
        for value, slope, curve, decay, flag in table
    ]


def _lengths(steps: Tensor, vectors: Tensor) -> Tensor:
    """The norms of matrices (F, m, n), estimated by power iteration that begins with (F, m)."""
    found = vectors[..., None]
    for _ in range(_POWERS):
        size = torch.linalg.vector_norm(found, dim=1, keepdim=True).clamp_min(1e-300)
        found = steps @ ((found / size).mH @ steps).mH
    return torch.linalg.vector_norm(found, dim=(1, 2)).sqrt()  # of that of D D*
