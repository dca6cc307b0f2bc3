"""What a step did to log σ₁ of matrices, term by term.

With the step D of a matrix T, J = u₁v₁* and all of it as before the step,

    Δ log σ₁ = ⟨J, D⟩ / σ₁ + D²σ₁(D) / 2σ₁ − (⟨J, D⟩ / σ₁)² / 2 + O(D³).

Each order is to the one before as |D| to σ₁ − σ₂: where that is not small, the step is entered in parts,
along the segment from T to T + D, and the terms are the sums over them.
"""

__all__ = ["Terms", "decomposed", "terms_of"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .leading import leading
from .singular import Top, apply, top

_DECOMPOSED = 192  # rows or columns of matrices that are decomposed whole, all of a shape at once
_POWERS = 4  # steps of power iteration that estimate the norm of a step
_CROWDED = 3.0  # the gap over the norm of a step, below which the terms say little of a whole step
_FINE = 20.0  # the gap over the norm of a part of a step
_PARTS = 24  # of a step, at most
_LARGE_PARTS = 4  # of a step of a large matrix


@dataclass
class Terms:
    """The terms of a step, of one matrix, in nats.

    Arguments:
        linear: ⟨J, D⟩ / σ₁.
        curvature: D²σ₁(D) / 2σ₁.
        square: −(⟨J, D⟩ / σ₁)² / 2.
        decay: The part of `linear` that weight decay did.
        ratio: The norm of the step over σ₁ − σ₂ before it.
        most: What the curvature can be.  By Weyl's inequality, what σ₁ changes by beyond the slope is
            at most |D| − ⟨J, D⟩; and it is never negative, as σ₁ is convex.  Where the formula says more, or
            less than 0, σ₁ is as good as not simple, and it says nothing.
    """

    linear: float
    curvature: float
    square: float
    decay: float
    ratio: float
    most: float = 0.0

    @property
    def crowded(self) -> bool:
        """Whether the step was not small beside the gap."""
        return self.ratio * _CROWDED > 1

    def of(self, part: float) -> "Terms":
        """The terms of a part of the step, in (0, 1]."""
        curvature = self.curvature * part**2 if 0 <= self.curvature * part <= self.most else 0.0
        square, decay = self.square * part**2, self.decay * part
        return Terms(self.linear * part, curvature, square, decay, self.ratio)


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
        if divided[row] and terms.ratio > 1 / _FINE and before.value[row] > 0:
            one = slice(row, row + 1)
            found[row] = _in_parts(before.start, old[one], steps[one], decays[one])
            found[row].ratio = terms.ratio
        else:
            found[row] = terms.of(1.0)
    return found


def _in_parts(start: Tensor | None, old: Tensor, step: Tensor, decay: Tensor) -> Terms:
    """The terms of a step of one matrix (1, m, n), as the sums over parts.

    The gap changes by twice a part at most: parts in proportion to it stay small beside it.
    """
    total, done = Terms(0.0, 0.0, 0.0, 0.0, 0.0), 0.0
    least = 1 / (_PARTS if is_small(step) else _LARGE_PARTS)
    while done < 1:
        here = decomposed(old + done * step, start)
        start = here.start
        [whole] = _terms(here, step, decay)
        part = min(max(1 / (_FINE * whole.ratio), least), 1 - done) if whole.ratio else 1 - done
        terms = whole.of(part)
        total.linear += terms.linear
        total.curvature += terms.curvature
        total.square += terms.square
        total.decay += terms.decay
        done = 1.0 if done + part > 1 - 1e-9 else done + part
    return total


def _terms(before: Top, steps: Tensor, decays: Tensor) -> list[Terms]:
    pushed = apply(steps, before.right)
    pulled = apply(steps.mT, before.left.conj()).conj()
    slopes, bent = before.slope_of(pushed), before.curvature_of(pushed, pulled) / 2
    decayed = before.slope_of(apply(decays, before.right))
    lengths = _lengths(steps, pushed)
    ratios = torch.where(
        lengths > 0, lengths / before.gap.clamp_min(0), 0.0
    )  # infinite where there is no gap
    most = 1.1 * lengths - slopes  # estimated lengths are too short, by little
    table = torch.stack([before.value, slopes, bent, decayed, ratios, most]).T.tolist()
    found = []
    for value, slope, curve, decay, ratio, limit in table:
        if value > 0:
            linear = slope / value
            terms = (linear, curve / value, -(linear**2) / 2, decay / value)
            found.append(Terms(*terms, ratio, limit / value))
        else:
            found.append(Terms(0.0, 0.0, 0.0, 0.0, math.inf))
    return found


def _lengths(steps: Tensor, vectors: Tensor) -> Tensor:
    """The norms of matrices (F, m, n), estimated by power iteration that begins with (F, m)."""
    found, adjoint = vectors[..., None], steps.mH
    for _ in range(_POWERS):
        size = torch.linalg.vector_norm(found, dim=1, keepdim=True).clamp_min(1e-300)
        found = torch.bmm(steps, torch.bmm(adjoint, found / size))
    return torch.linalg.vector_norm(found, dim=(1, 2)).sqrt()  # of that of D D*
