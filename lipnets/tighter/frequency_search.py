"""Multipliers of the matrix inequalities of `frequencies`: a guess, that needs no proof.

With the unknowns s of secants eliminated, L² is the largest eigenvalue over frequencies of

    Q = RₓᵀTRₓ + YₓᵀYₓ + MᵀN⁻¹M,   M = RₛᵀTRₓ + YₛᵀYₓ,   N = T − RₛᵀTRₛ − YₛᵀYₛ > 0

(transposes are conjugate), a convex function of T.  With E = (I; N⁻¹M), its derivative in t_g is
‖R_g E q‖² − ‖E_g q‖² for the eigenvector q.  The power p of Q in a trace stands in for its eigenvalue, at
some frequencies, which those that turn out to be worst are added to.
"""

__all__ = ["Blocks", "multipliers"]

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .multipliers import minimized

_FEW = 20  # frequencies that are searched at first
_WORST = 12  # that are added
_ROOMS = (1.2, 1.5, 2.0, 3.0)  # that are tried
_ROUNDS = ((16, 40), (64, 25), (128, 25))  # powers, and evaluations


@dataclass(frozen=True)
class Blocks:
    """The matrices of some frequencies.

    Arguments:
        first: The number of unknowns of the input, which are the first.
        outputs: The matrices Y, with shape (F, K, N).
        rows: The matrices R, with shape (F, M, N).
        own: The groups of rows, and of the other unknowns in the same order, with shape (M,).
        counts: The numbers of rows of conditions, one after another, and of their unknowns.
    """

    first: int
    outputs: Tensor
    rows: Tensor
    own: Tensor
    counts: tuple[int, ...]


def multipliers(
    blocks: Callable[[Tensor], Iterator[Blocks]], grid: Tensor, effort: float
) -> tuple[float, Tensor] | None:
    """A guess of L and of multipliers t that prove it, with shape (groups,).

    Arguments:
        blocks: The matrices at some frequencies, a few at a time.
        grid: All frequencies, with shape (F, D).
        effort: The number of floating-point operations to spend, about.
    """
    chosen = torch.linspace(0, len(grid) - 1, min(_FEW, len(grid))).round().long().unique()
    if not next(iter(blocks(grid[:1]))).counts:  # no activations
        level = _largest(blocks, grid, none := torch.zeros(0, dtype=torch.float64))
        return (math.sqrt(level) * (1 + 1e-9), none) if level > 0 else None
    logs = _Problem(_joined(list(blocks(grid[chosen]))), _ROUNDS[0][0]).start()
    for power, evaluations in _ROUNDS:
        problem = _Problem(_joined(list(blocks(grid[chosen]))), power)
        logs = None if logs is None else problem.feasible(logs)
        if logs is None:
            return None
        affordable = int(effort / problem.cost())
        logs = minimized(problem.value, logs, min(evaluations, max(4, affordable)))
        levels = _levels(blocks, grid, logs)
        worst = levels.topk(min(_WORST, len(grid))).indices
        chosen = torch.cat([chosen, worst]).unique()
    return None if logs is None else _settled(blocks, grid, logs)


def _settled(
    blocks: Callable[[Tensor], Iterator[Blocks]], grid: Tensor, logs: Tensor
) -> tuple[float, Tensor] | None:
    """L for multipliers, or somewhat larger ones, for which N is positive at all frequencies."""
    for _ in range(12):
        level = _largest(blocks, grid, logs)
        if 0 < level < math.inf:
            return math.sqrt(level) * (1 + 1e-9), logs.exp()
        logs = logs + 0.02
    return None


def _largest(blocks: Callable[[Tensor], Iterator[Blocks]], grid: Tensor, logs: Tensor) -> float:
    """The largest eigenvalue of Q of all frequencies; infinite where N is not positive."""
    levels, top = _levels(blocks, grid, logs), 0.0
    if not levels.isfinite().all():
        return math.inf
    for indices in levels.argsort(descending=True).split(_WORST):
        if levels[indices[0]] * (1 + 1e-12) < top:  # no eigenvalue is above a trace of powers
            break
        top = max(top, *(_Problem(each, 1).largest(logs) for each in blocks(grid[indices])))
    return top


def _joined(parts: list[Blocks]) -> Blocks:
    outputs, rows = (torch.cat([getattr(p, name) for p in parts]) for name in ("outputs", "rows"))
    return replace(parts[0], outputs=outputs, rows=rows)


def _levels(blocks: Callable[[Tensor], Iterator[Blocks]], grid: Tensor, logs: Tensor) -> Tensor:
    """About the largest eigenvalue of Q at each frequency; infinite where N is not positive."""
    return torch.cat([_Problem(each, 128).traces(logs) for each in blocks(grid)])


class _Problem:
    def __init__(self, blocks: Blocks, power: int) -> None:
        self.power, self.blocks = power, blocks
        self.own = blocks.own
        self.groups = len(blocks.own.unique())
        first = blocks.first
        self.rx, self.rs = blocks.rows[..., :first], blocks.rows[..., first:]
        yx, ys = blocks.outputs[..., :first], blocks.outputs[..., first:]
        self.xx, self.sx, self.ss = yx.mH @ yx, ys.mH @ yx, ys.mH @ ys
        self.bent = bool(self.rs.any())

    def cost(self) -> float:
        """Operations of an evaluation, about."""
        count, size = self.xx.shape[0], self.xx.shape[-1]
        others = self.ss.shape[-1]
        rows = self.rx.shape[1]
        powers = 2 * math.log2(self.power) * size**3
        return 8.0 * count * (powers + others**3 + 2 * others**2 * size + 4 * rows * others * size)

    def forms(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, N⁻¹M, and whether N is positive."""
        gained = t[self.own][:, None] * self.rx
        q, m = self.xx + self.rx.mH @ gained, self.sx
        n = torch.diag_embed(t[self.own]).to(q) - self.ss
        if self.bent:
            m = m + self.rs.mH @ gained
            n = n - self.rs.mH @ (t[self.own][:, None] * self.rs)
        factor, info = torch.linalg.cholesky_ex(n)
        factor = torch.where((info == 0)[:, None, None], factor, torch.eye(n.shape[-1]).to(n))
        solved = torch.cholesky_solve(m, factor)
        q = q + m.mH @ solved
        return (q + q.mH) / 2, solved, info == 0

    def powers(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Traces of Qᵖ and the matrices Qᵖ⁻¹, for Q in units of a number."""
        unit = torch.linalg.matrix_norm(q).amax().clamp_min(1e-300)
        square = q / unit
        less = torch.eye(q.shape[-1]).to(q).expand_as(q)
        power = self.power
        while power > 1:
            less, square, power = less @ square, square @ square, power // 2
        return square.diagonal(dim1=1, dim2=2).real.sum(dim=1), less, unit

    def traces(self, logs: Tensor) -> Tensor:
        """(tr Qᵖ)^(1/p) at each frequency."""
        q, _, fine = self.forms(logs.exp())
        unit = torch.linalg.matrix_norm(q).clamp_min(1e-300)
        traces, _, whole = self.powers(q / unit[:, None, None])
        return (traces.clamp_min(0) ** (1 / self.power) * unit * whole).where(fine, math.inf)

    def largest(self, logs: Tensor) -> float:
        """The largest eigenvalue of Q; infinite where N is not positive."""
        q, _, fine = self.forms(logs.exp())
        return torch.linalg.eigvalsh(q)[:, -1].max().item() if fine.all() else math.inf

    def value(self, logs: Tensor) -> tuple[float, Tensor] | None:
        """The logarithm of (Σ tr Qᵖ)^(1/p) and its derivative; None where N is not positive."""
        t = logs.exp()
        q, solved, fine = self.forms(t)
        if not fine.all():
            return None
        traces, less, unit = self.powers(q)
        total = traces.sum()
        value = (total.log() / self.power + unit.log()).item()
        if not math.isfinite(value):
            return None
        weight = less / (total * unit)
        ahead = self.rx + self.rs @ solved if self.bent else self.rx
        pushed = ((ahead @ weight) * ahead.conj()).real.sum(dim=(0, 2))
        own = ((solved @ weight) * solved.conj()).real.sum(dim=(0, 2))
        slope = torch.zeros(self.groups, dtype=torch.float64)
        slope.index_add_(0, self.own, pushed).index_add_(0, self.own, -own)
        return value, slope * t

    def start(self) -> Tensor | None:
        """The best of some multipliers that condition after condition allows."""
        best, least = None, math.inf
        for balanced in (False, True):
            for room in _ROOMS:
                logs = self.allowed(room, balanced)
                found = None if logs is None else self.value(logs)
                if found is not None and found[0] < least:
                    best, least = logs, found[0]
        return best

    def allowed(self, room: float, balanced: bool) -> Tensor | None:
        """Multipliers that prove about what constants of the parts do: see `multipliers`.

        Arguments:
            room: How many times as much as needed, for H without outputs to be positive.
            balanced: Whether a channel counts the less, the longer its row of R is.
        """
        lengths = self.blocks.rows.abs().square().sum(dim=2).mean(dim=0)
        totals = torch.zeros(self.groups, dtype=torch.float64).index_add(0, self.own, lengths)
        totals = totals + 1e-12 * totals.max() + 1e-300
        shares = 1 / totals if balanced else torch.ones(self.groups, dtype=torch.float64)
        t, end, size = shares.clone(), 0, self.blocks.first
        form = torch.eye(size, dtype=torch.complex128).expand(len(self.xx), size, size)
        for count in self.blocks.counts:
            own = self.own[end : end + count]
            rows = self.blocks.rows[:, end : end + count, :size] * shares[own].sqrt()[:, None]
            factor, info = torch.linalg.cholesky_ex(form)
            if info.any():
                return None
            half = torch.linalg.solve_triangular(factor, rows.mH, upper=False)
            top = torch.linalg.matrix_norm(half, 2).square().max().item()
            gain = 1 / (room * max(top, 1e-250))
            groups = own.unique()
            t[groups] = shares[groups] * gain
            grown = torch.diag_embed(t[own].to(form)).expand(len(form), count, count)
            form = _stacked(form - gain * (rows.mH @ rows), grown)
            end, size = end + count, size + count
        factor, info = torch.linalg.cholesky_ex(form)
        if info.any():
            return None
        half = torch.linalg.solve_triangular(factor, self.blocks.outputs.mH, upper=False)
        level = torch.linalg.matrix_norm(half, 2).square().max().item()
        return t.log() + math.log(max(level, 1e-250) * 1.01)

    def feasible(self, logs: Tensor) -> Tensor | None:
        """The multipliers, or somewhat larger ones, for which N is positive at frequencies that are new."""
        for _ in range(40):
            if self.value(logs) is not None:
                return logs
            logs = logs + 0.05
        return None


def _stacked(one: Tensor, other: Tensor) -> Tensor:
    """Block diagonal matrices, with shape (F, N, N)."""
    pad = torch.nn.functional.pad
    first, second = one.shape[-1], other.shape[-1]
    return pad(one, (0, second, 0, second)) + pad(other, (first, 0, first, 0))
