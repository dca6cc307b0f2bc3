"""Multipliers of the matrix inequality of `joint`: a guess, that needs no proof.

The mean over pairs of outputs of the squared bound is, up to a factor, tr(Ỹ H(t)⁻¹ Ỹᵀ) with the
outputs Ỹ about their mean, a convex function of t.  With W = H⁻¹Ỹᵀ, its derivative in tₖ is
‖Uₖ W‖² − ‖W_sₖ‖².  It is minimized in the logarithms of t by the method of Broyden, Fletcher, Goldfarb and
Shanno with a limited memory, a barrier −μ log det H keeping H positive by far.  For the Lipschitz constant itself, the largest
eigenvalue of Y H⁻¹ Yᵀ, the norm of order p of its eigenvalues stands in.
"""

__all__ = ["System", "best_multipliers", "minimized"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MEMORY = 12
_ENOUGH = 1e-4  # decrease of a logarithm
_BARRIERS = (0.3, 0.02)  # over the number of unknowns


@dataclass(frozen=True)
class System:
    """Unknowns, the first of which are the input, conditions on the others, and outputs.

    Arguments:
        first: The number of unknowns of the input.
        count: The number N of all.
        conditions: What is known of the others.
        outputs: The matrix Yᵀ of outputs, with shape (N, K).
    """

    @dataclass(frozen=True)
    class Condition:
        """Of unknowns s′, scale ‖s′‖ ≤ gain ‖u‖ in each of some groups of equal sizes.

        Arguments:
            rows: The matrix U of u, with shape (rows, unknowns before).
            error: A bound of how far u is from Uv, in units of ‖δ‖.
            first: The place of s′ among the unknowns.
            count: How many they are.
            groups: The number of groups of rows, and of unknowns.
            gain: The number `gain`.
            scale: The number `scale`.
            room: How much more than needed is a good start.
        """

        rows: Tensor
        error: float
        first: int
        count: int
        groups: int
        gain: float
        scale: float
        room: float

    first: int
    count: int
    conditions: list["System.Condition"]
    outputs: Tensor


def best_multipliers(system: System, effort: float, power: int = 1) -> Tensor | None:
    """Square roots of multipliers that give small bounds, one for each group of each condition.

    Arguments:
        system: The unknowns and what is known of them.
        effort: The number of floating-point operations that may be spent.
        power: The power p of tr((Y H⁻¹ Yᵀ)ᵖ); 1 for the mean over pairs of outputs.
    """
    problem = _Problem(system, power)
    logs = problem.start()
    if logs is None:
        return None
    if len(logs):
        cost = system.count**3 + 2 * problem.rows.numel() * system.count
        evaluations = int(min(300, max(12, effort / cost)))
        for barrier in _BARRIERS:
            problem.barrier = barrier / system.count
            logs = minimized(problem.value, logs, evaluations // len(_BARRIERS))
    return (logs / 2).exp()


class _Problem:
    def __init__(self, system: System, power: int) -> None:
        self.system, self.power = system, power
        self.barrier = 0.0
        self.outputs = system.outputs
        if power == 1:
            self.outputs = system.outputs - 0.75 * system.outputs.mean(dim=1, keepdim=True)
        if not self.outputs.any():
            self.outputs = system.outputs
        rows = []
        owner_rows, owner_unknowns = [], []
        groups = 0
        for each in system.conditions:
            pad = (0, system.count - each.rows.shape[1])
            rows.append(torch.nn.functional.pad(each.rows * each.gain, pad))
            numbers = torch.arange(groups, groups + each.groups)
            owner_rows.append(numbers.repeat_interleave(len(each.rows) // each.groups))
            owner_unknowns.append(numbers.repeat_interleave(each.count // each.groups))
            groups += each.groups
        self.groups = groups
        empty = torch.zeros(0, system.count, dtype=torch.float64)
        self.rows = torch.cat([empty, *rows])
        none = torch.zeros(0, dtype=torch.long)
        self.owner_rows = torch.cat([none, *owner_rows])
        self.owner_unknowns = torch.cat([none, *owner_unknowns])
        scales = [torch.full((e.count,), e.scale, dtype=torch.float64) for e in system.conditions]
        self.squares = torch.cat([torch.zeros(0, dtype=torch.float64), *scales]).square()

    def value(self, logs: Tensor) -> tuple[float, Tensor] | None:
        """The logarithm of the objective and its derivative; None where H is not positive."""
        t = logs.exp()
        scaled = self.rows * t[self.owner_rows].sqrt()[:, None]
        form = -(scaled.mT @ scaled)
        diagonal = form.diagonal()
        diagonal[: self.system.first] += 1
        diagonal[self.system.first :] += t[self.owner_unknowns] * self.squares
        factor, info = torch.linalg.cholesky_ex(form)
        if int(info) != 0:
            return None
        solved = torch.cholesky_solve(self.outputs, factor)
        if self.power == 1:
            weights, value = solved, math.log(max((self.outputs * solved).sum().item(), 1e-300))
            mixed = solved / math.exp(value)
        else:  # the derivative of log tr(Aᵖ) / p is tr(Aᵖ⁻¹ dA) / tr(Aᵖ)
            values, vectors = torch.linalg.eigh(self.outputs.mT @ solved)
            values = values.clamp_min(1e-300)
            top = values[-1]
            shares = (values / top) ** (self.power - 1)
            total = (shares * values / top).sum()
            value = (top.log() + total.log() / self.power).item()
            weights = solved
            mixed = (solved @ vectors * (shares / (total * top))) @ vectors.mT
        if not math.isfinite(value):
            return None
        own = self.squares * (weights * mixed)[self.system.first :].sum(dim=1)
        pushed = self.rows @ weights
        other = (pushed * (self.rows @ mixed)).sum(dim=1)
        slope = torch.zeros(self.groups, dtype=torch.float64)
        if self.barrier:
            inverse = torch.cholesky_inverse(factor)
            value -= self.barrier * 2 * factor.diagonal().log().sum().item()
            own += self.barrier * self.squares * inverse.diagonal()[self.system.first :]
            other += self.barrier * ((self.rows @ inverse) * self.rows).sum(dim=1)
        slope.index_add_(0, self.owner_rows, other).index_add_(0, self.owner_unknowns, -own)
        return value, slope * t

    def start(self) -> Tensor | None:
        """Multipliers that prove about what constants of the parts do, one condition after another.

        H is positive if t⁻¹ > ‖U H₀⁻¹ Uᵀ‖ for the unknowns before, with their form H₀: the norm is the
        square of how far u reaches.  Of an activation with slopes in [m − h, m + h], 1 + |m| / h times
        as much is best where nothing else is known.
        """
        logs = torch.zeros(0, dtype=torch.float64)
        form = torch.eye(self.system.first, dtype=torch.float64)
        for each in self.system.conditions:
            factor, info = torch.linalg.cholesky_ex(form)
            if int(info) != 0:
                return None
            rows = each.rows * each.gain
            ahead = torch.nn.functional.pad(rows, (0, len(form) - rows.shape[1]))
            half = torch.linalg.solve_triangular(factor, ahead.mT, upper=False)
            gram = half @ half.mT if half.shape[0] < half.shape[1] else half.mT @ half
            top = torch.linalg.eigvalsh(gram)[-1].item()
            room = max(top, each.scale**2 * 2.0**-40, 2.0**-500) * max(each.room, 1.05)
            size, t = len(form), 1 / room
            grown = torch.zeros(size + each.count, size + each.count, dtype=torch.float64)
            grown[:size, :size] = form - t * (ahead.mT @ ahead)
            grown.diagonal()[size:] = t * each.scale**2
            form = grown
            logs = torch.cat([logs, torch.full((each.groups,), math.log(t), dtype=torch.float64)])
        return logs


def minimized(
    function: Callable[[Tensor], tuple[float, Tensor] | None], logs: Tensor, evaluations: int
) -> Tensor:
    """The best of the points that a quasi-Newton method visits.

    Arguments:
        function: The function and its derivative; None where it is infinite.
        logs: The point to start from.
        evaluations: How often it may be evaluated.
    """
    found = function(logs)
    if found is None:
        return logs
    value, slope = found
    pairs: list[tuple[Tensor, Tensor, float]] = []
    used, small = 1, 0
    while used < evaluations and slope.abs().sum() > 1e-7:
        step = -_direction(slope, pairs)
        if (step @ slope).item() >= 0:
            pairs.clear()
            step = -slope
        length = min(1.0, 4.0 / step.abs().max().item())
        before = (value, slope, logs)
        while used < evaluations:
            tried = function(logs + length * step)
            used += 1
            if tried is not None and tried[0] <= value + 1e-4 * length * (step @ slope).item():
                logs = logs + length * step
                value, slope = tried
                break
            length /= 2 if tried is not None else 4
            if length < 1e-12:
                return logs
        moved, turned = logs - before[2], slope - before[1]
        curvature = (moved @ turned).item()
        if curvature > 1e-14:
            pairs = [*pairs[1 - _MEMORY :], (moved, turned, curvature)]
        small = small + 1 if before[0] - value < _ENOUGH else 0
        if small == 3:
            break
    return logs


def _direction(slope: Tensor, pairs: list[tuple[Tensor, Tensor, float]]) -> Tensor:
    """The slope times a guess of the inverse of the second derivative."""
    out, factors = slope.clone(), []
    for moved, turned, curvature in reversed(pairs):
        factor = (moved @ out) / curvature
        factors.append(factor)
        out = out - factor * turned
    if pairs:
        _, turned, curvature = pairs[-1]
        out = out * (curvature / (turned @ turned))
    else:
        out = out / slope.abs().max().clamp_min(1e-300)
    for (moved, turned, curvature), factor in zip(pairs, reversed(factors), strict=True):
        out = out + moved * (factor - (turned @ out) / curvature)
    return out
