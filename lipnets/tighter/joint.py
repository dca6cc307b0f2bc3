"""All activations of a small network in one matrix inequality.

The differences of two runs of a network are linear in a few unknowns: the difference x of inputs, and for
each activation, what its secants do beyond their mean.  Of those, only lengths are known:

1. An activation of single entries with slopes of secants in [m − h, m + h] maps a difference z to
   m z + h s, |sᵢ| ≤ |zᵢ|.  ReLU has m = h = ½, the absolute value m = 0.
2. Sorting groups of channels maps it to z̄ + s, ‖s‖ ≤ ‖z − z̄‖ in each group, z̄ being its mean: secants of
   sorting are averages of permutation matrices, along the segment between two inputs, which keep the
   mean, map what has none to what has none, and are no longer than 1 there.  For pairs, one unknown
   is enough: z̄ ± s, |s| ≤ |z₁ − z₂| / 2.
3. A reflection of a half plane, z − 2 min(vᵀz, 0) v, maps it to z − (vᵀz) v + s v, |s| ≤ |vᵀz|, as
   t − 2 min(t, 0) = |t| for ‖v‖ = 1, and t ↦ −2 min(t, 0) has slopes in [−2, 0] for any v.
4. Any other L-Lipschitz module maps it to s, ‖s‖ ≤ L ‖z‖.

**Theorem.**  Let v be all unknowns, x the first of them, ‖x‖ ≤ ‖δ‖, uₖ = Uₖv the right-hand sides of the
conditions ‖sₖ‖ ≤ ‖uₖ‖, and y = Yv the difference of the outputs.  For any numbers tₖ ≥ 0 let

    H = x xᵀ + Σ tₖ (sₖ sₖᵀ − UₖᵀUₖ),   in the sense that vᵀHv = ‖x‖² + Σ tₖ (‖sₖ‖² − ‖uₖ‖²).

If H ≥ 0, then |gᵀy| ≤ ‖δ‖ √(wᵀHw) for every g and w with Hw = Yᵀg.

*Proof.*  vᵀHv ≤ ‖x‖² ≤ ‖δ‖², as every other term is at most 0.  By the inequality of Cauchy and Schwarz
for the form H, gᵀYv = wᵀHv ≤ √(wᵀHw) √(vᵀHv).  ∎

Any multipliers prove something.  The mean over pairs of classes of the squared bound is convex in t, and
is minimized by a quasi-Newton method: a guess that needs no proof.  This is the semidefinite bound of
Lipschitz constants, with one solve for all pairs of classes in place of a programme for each, and
structures of sorting, reflections and skip connections besides those of slopes.

**Rounding.**  Let Ĥ be the matrix in floats, L a factor of it, V a bound of ‖v‖ / ‖δ‖, from constants of
the parts.  With
    vᵀĤv ≤ ‖δ‖² (1 + α) + η ‖v‖²,   α what is known of uₖ but for errors of ‖δ‖ times εₖ, by
    (a + b)² ≤ (1 + θ) a² + (1 + 1/θ) b², θ = 2⁻⁴⁰: tₖ(1 + θ) stands for the tₖ of UₖᵀUₖ,
    η the errors of Ĥ's entries in norm, by A1 of `linalg`,
    e ≥ ‖Ĥ − LLᵀ‖, so that H′ = Ĥ + eI ≥ 0,
the theorem holds of H′, w in floats and a remainder r = Yᵀg − H′w:
    |gᵀYv| ≤ ‖r‖ V ‖δ‖ + √(wᵀH′w) √(1 + α + (η + e)V²) ‖δ‖.

References:
    | Efficient and Accurate Estimation of Lipschitz Constants for Deep Neural Networks
    | (Fazlyab, Robey, Hassani, Morari & Pappas, 2019) https://arxiv.org/abs/1906.04893
    | Novel Quadratic Constraints for Extending LipSDP beyond Slope-Restricted Activations
    | (Pauli, Havens, Araujo, Garg, Khorrami, Allgöwer & Hu, 2024) https://arxiv.org/abs/2401.14033
"""

__all__ = ["JointBounds", "factor_of", "frobenius", "joint_bounds", "unknowns"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..bands import linear_part
from ..bounds import Shape, chain, forward_owner, output_shape
from ..exact import Round
from ..layers.concat import Concat
from ..layers.householder_activation import StoredHouseholder
from ..layers.parallel import Parallel
from ..layers.residual import Residual
from ..linalg import (
    ETA,
    U,
    add_up,
    check_arithmetic,
    gamma,
    matrix_norm,
    mul_up,
    sqrt_up,
    sums_of_squares,
)
from ..program import Affine, AxisMaps, Gather
from ..rounding import UP, Analysis, Ball
from .multipliers import System, best_multipliers
from .secants import group_size, mean_and_half, slopes

LINEAR = (
    *(nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Round),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, Affine, AxisMaps, Gather),
)
_THETA = 2.0**-40


@dataclass(frozen=True)
class JointBounds:
    """What is proved of the differences of outputs.

    Arguments:
        joint: A bound of the Lipschitz constant.
        pairs: Bounds of those of differences of two outputs, with shape (K, K).
        secants: The number of unknowns that stand for secants.
    """

    joint: float
    pairs: Tensor
    secants: int


@dataclass(frozen=True)
class State:
    """The difference of activations, z = Mv + d with ‖d‖ ≤ `error` ‖δ‖.

    Arguments:
        matrix: The columns of M, with shape (N, *shape), N being the number of unknowns so far.
        error: A bound of ‖d‖ / ‖δ‖.
        reach: A bound of ‖z‖ / ‖δ‖.
    """

    matrix: Tensor
    error: float
    reach: float

    @property
    def shape(self) -> Shape:
        return tuple(self.matrix.shape[1:])


def unknowns(module: nn.Module, shape: Shape) -> int:
    """The number of unknowns that secants of a module need."""
    owner = forward_owner(type(module))
    if owner is nn.Sequential:
        total = 0
        for _, child in chain(module):  # `children` would skip repetitions
            total += unknowns(child, shape)
            shape = output_shape(child, shape)
        return total
    if owner in LINEAR:
        return 0
    if owner is Residual:
        parts = [part for part in (module.branch, module.shortcut) if isinstance(part, nn.Module)]
        return sum(unknowns(part, shape) for part in parts)
    if owner is Concat:
        return sum(unknowns(each, shape) for each in module.branches)  # pyright: ignore
    if owner is Parallel:
        pairs = zip(module.branches, module.split_sizes, strict=True)  # pyright: ignore
        return sum(unknowns(each, (size, *shape[1:])) for each, size in pairs)
    if owner is StoredHouseholder:
        return len(module.normals) * math.prod(shape) // 2  # pyright: ignore
    count = math.prod(shape)
    if (size := group_size(module, shape)) is not None:
        return count // 2 if size == 2 else count
    if slopes(module, shape) is not None:
        return count
    return math.prod(output_shape(module, shape))


@torch.no_grad()
def joint_bounds(
    operations: Sequence[nn.Module],
    shape: Shape,
    analysis: Analysis,
    effort: float,
    *,
    power: int = 1,
) -> JointBounds | None:
    """Bounds the Lipschitz constants of the outputs of some operations, all together.

    Arguments:
        operations: Operations of a program, one after another, the last of which gives a row of outputs.
        shape: The shape of an example of their input.
        analysis: An analysis of the program in float64, with the constants that it knows.
        effort: The number of floating-point operations to spend on multipliers.
        power: What multipliers are good for: 1 for differences of outputs, more for the Lipschitz constant.

    Returns:
        The bounds, or None where no multipliers were found that prove anything.
    """
    check_arithmetic()
    system = _Differences(analysis)
    state = system.start(list(operations), shape)
    for module in state[1]:
        state = (system.through(module, state[0]), state[1])
    return system.solve(state[0], effort, power)


class _Differences:
    """The unknowns v, and what is known of them.

    Unknowns s are scaled by powers of two c, s = c s′ with ‖s′‖ ≤ ‖δ‖: V² is one more than their kinds.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.count = 0  # of unknowns
        self.kinds = 1
        self.first = 0  # unknowns of the input
        self.conditions: list[System.Condition] = []

    def start(self, operations: list[nn.Module], shape: Shape) -> tuple[State, list[nn.Module]]:
        """The difference of inputs, or of what affine operations make of it, where that is smaller.

        *Theorem.*  If WWᵀ ≤ LLᵀ, then Wδ = Lx for some x with ‖x‖ ≤ ‖δ‖.  *Proof.*  Let x = L⁺Wδ: the
        range of L holds that of W, and ‖L⁺W‖² = ‖L⁺WWᵀL⁺ᵀ‖ ≤ 1.  ∎  For L = chol(WWᵀ + μI), in floats,
        it is so if μ exceeds the norm of what rounding adds.
        """
        if operations and type(operations[0]) is nn.Linear and len(shape) == 1:
            weight = operations[0].weight.detach().double().cpu()
            factor = factor_of(weight.mT) if len(weight) < shape[0] else None
            if factor is not None:
                self.count = self.first = len(weight)
                reach = self.analysis.lipschitz(operations[0], shape)
                return State(factor.mT.contiguous(), 0.0, reach), operations[1:]
        leading = operations
        count = next(
            (i for i, each in enumerate(leading) if forward_owner(type(each)) not in LINEAR),
            len(leading),
        )
        inner, best, sizes = shape, 0, [math.prod(shape)]
        shapes = [tuple(shape)]
        for module in leading[:count]:
            inner = output_shape(module, inner)
            shapes.append(inner)
            sizes.append(math.prod(inner))
        best = min(range(len(sizes)), key=sizes.__getitem__)
        eye = torch.eye(sizes[0], dtype=torch.float64).reshape(-1, *shape)
        whole = State(eye, 0.0, 1.0)
        self.count = self.first = sizes[0]
        if sizes[best] >= sizes[0]:
            return whole, operations
        for module in leading[:best]:
            whole = self.through(module, whole)
        factor = factor_of(whole.matrix.flatten(1))
        if factor is None:
            return State(eye, 0.0, 1.0), operations
        self.count = self.first = sizes[best]
        state = State(factor.T.reshape(-1, *shapes[best]), whole.error, whole.reach)
        return state, operations[best:]

    # How modules act on differences

    def through(self, module: nn.Module, state: State) -> State:
        """The difference of the outputs of a module."""
        owner = forward_owner(type(module))
        shape = state.shape
        if owner is nn.Sequential:
            for _, child in chain(module):  # `children` would skip repetitions
                state = self.through(child, state)
            return state
        if owner is Round:  # the program of the identity
            return state
        constant = self.analysis.lipschitz(module, shape)
        if owner in LINEAR:
            after = self._linear(module, state, constant)
        elif owner is Residual:
            after = self._residual(module, state)  # pyright: ignore
        elif owner is Concat:
            parts = [self.through(each, state) for each in module.branches]  # pyright: ignore
            after = self._stacked(parts)
        elif owner is Parallel:
            pieces = state.matrix.split(module.split_sizes, dim=1)  # pyright: ignore
            branches = zip(module.branches, pieces, strict=True)  # pyright: ignore
            parts = [self.through(b, replace(state, matrix=piece)) for b, piece in branches]
            after = self._stacked(parts)
        elif owner is StoredHouseholder:
            after = state
            for normal in module.normals:  # pyright: ignore
                after = self._reflected(normal.detach().double().cpu(), after)
        elif (size := group_size(module, shape)) is not None:
            after = self._paired(state) if size == 2 else self._sorted(state, size)
        elif (range_ := slopes(module, shape)) is not None:
            after = self._bent(state, *range_)
        else:
            after = self._opaque(module, state, constant)
        return replace(after, reach=min(after.reach, mul_up(constant, state.reach)))

    def _linear(self, module: nn.Module, state: State, constant: float) -> State:
        """Column by column; what is rounded is known by `rounding` for the longest of them."""
        part = linear_part([module]).cpu()
        columns = state.matrix
        longest = _largest_norm(columns)
        after = torch.cat([part(chunk) for chunk in columns.split(512)])
        local = float(Analysis("float64")(part, state.shape, Ball(norm=longest)).error)
        off = mul_up(local, sqrt_up(float(len(columns))), self._spread())
        return State(after, add_up(mul_up(constant, state.error), off), math.inf)

    def _residual(self, module: Residual, state: State) -> State:
        start = state if module.shortcut is None else self.through(module.shortcut, state)
        branch = self.through(module.branch, state)
        both = self._padded(start) + self._padded(branch)
        error = add_up(start.error, branch.error, self._rounded(both, 2))
        return State(both, error, add_up(start.reach, branch.reach))

    def _stacked(self, parts: list[State]) -> State:
        matrix = torch.cat([self._padded(part) for part in parts], dim=1)
        error, reach = (
            add_up(*(getattr(part, name) for part in parts)) for name in ("error", "reach")
        )
        return State(matrix, error, reach)

    def _bent(self, state: State, low: Tensor, high: Tensor) -> State:
        mean, half = (each.expand(state.shape) for each in mean_and_half(low, high))
        moving = (half > 0).flatten()
        if not moving.any():
            after = mean * state.matrix
            error = add_up(mul_up(float(mean.abs().max()), state.error), self._rounded(after, 2))
            return State(after, error, math.inf)
        rows = state.matrix.flatten(1)[:, moving].T
        room = 1 + float((mean.abs() / half)[half > 0].median())
        scale = self._condition(rows, state.error, state.reach, len(rows), room=room)
        spread = torch.zeros(len(rows), moving.numel(), dtype=torch.float64)
        spread[torch.arange(len(rows)), moving.nonzero()[:, 0]] = half.flatten()[moving] * scale
        after = torch.cat([mean * state.matrix, torch.zeros(self.count - len(state.matrix) - len(rows), *state.shape), spread.reshape(-1, *state.shape)])  # fmt: skip
        error = add_up(mul_up(float(mean.abs().max()), state.error), self._rounded(after, 4))
        return State(after, error, math.inf)

    def _paired(self, state: State) -> State:
        first, second = state.matrix.unflatten(1, (-1, 2)).unbind(2)
        mean, half = (first + second) / 2, (first - second) / 2
        added = self._rounded(state.matrix, 4)
        rows = half.flatten(1).T
        scale = self._condition(rows, add_up(state.error, added), state.reach, len(rows))
        mean = self._padded(replace(state, matrix=mean))
        signed = torch.zeros_like(mean)
        signed[-len(rows) :] = scale * torch.eye(len(rows)).reshape(-1, *half.shape[1:])
        after = torch.stack([mean + signed, mean - signed], dim=2).flatten(1, 2)
        return State(after, add_up(state.error, added), math.inf)

    def _sorted(self, state: State, size: int) -> State:
        groups = state.matrix.unflatten(1, (-1, size))  # (N, C / g, g, ...)
        mean = groups.mean(dim=2, keepdim=True).expand_as(groups)
        added = self._rounded(state.matrix, 2 * size + 8)
        rest = (groups - mean).movedim(2, -1)  # (N, C / g, ..., g)
        rows, count = rest.flatten(1).T, rest[0].numel()
        error = add_up(state.error, added)
        scale = self._condition(rows, error, state.reach, count // size)
        mean = self._padded(replace(state, matrix=mean.flatten(1, 2))).unflatten(1, (-1, size))
        own = scale * torch.eye(count, dtype=torch.float64).reshape(-1, *rest.shape[1:])
        after = mean.clone()
        after[-count:] = own.movedim(-1, 2)
        return State(after.flatten(1, 2), error, math.inf)

    def _reflected(self, normal: Tensor, state: State) -> State:
        pair = state.matrix.unflatten(1, (-1, 2))
        shape = (len(normal), *[1] * (pair.ndim - 3))
        sine, cosine = (normal[:, i].reshape(shape) for i in (0, 1))
        first, second = pair.unbind(2)
        along = sine * first - cosine * second  # vᵀz
        norm = add_up(float((normal.square().sum(dim=1)).max().sqrt()), 2.0**-40)
        added = self._rounded(state.matrix, 16)
        rows = along.flatten(1).T
        error = mul_up(norm, add_up(state.error, added))
        scale = self._condition(rows, error, mul_up(norm, state.reach), len(rows))
        along = -self._padded(replace(state, matrix=along))
        along[-len(rows) :] += scale * torch.eye(len(rows)).reshape(-1, *along.shape[1:])
        pair = self._padded(replace(state, matrix=pair))
        moved = torch.stack([along * sine, -along * cosine], dim=2)
        after = (pair + moved).flatten(1, 2)
        grown = add_up(1.0, mul_up(norm, norm))
        error = add_up(mul_up(grown, state.error), self._rounded(after, 16), mul_up(norm, added))
        return State(after, error, mul_up(grown + mul_up(norm, norm), state.reach))

    def _opaque(self, module: nn.Module, state: State, constant: float) -> State:
        after = output_shape(module, state.shape)
        count, rows = math.prod(after), state.matrix.flatten(1).T
        scale = self._condition(
            rows, state.error, state.reach, 1, count=count, gain=constant, room=1.1
        )
        columns = torch.zeros(self.count, count, dtype=torch.float64)
        columns[-count:] = scale * torch.eye(count, dtype=torch.float64)
        return State(columns.reshape(-1, *after), 0.0, math.inf)

    # What is kept of them

    def _condition(
        self,
        rows: Tensor,
        error: float,
        reach: float,
        groups: int,
        *,
        count: int | None = None,
        gain: float = 1.0,
        room: float = 1.5,
    ) -> float:
        """Adds unknowns s with ‖s‖ ≤ gain ‖u‖ in each of some groups of equal sizes; returns their scale."""
        count = len(rows) if count is None else count
        scale = math.ldexp(1.0, math.frexp(max(mul_up(gain, reach), 2.0**-500))[1])  # not below it
        self.conditions.append(
            System.Condition(rows, error, self.count, count, groups, gain, scale, room)
        )
        self.count += count
        self.kinds += 1
        return scale

    def _padded(self, state: State) -> Tensor:
        """Columns of zeros for unknowns that came later."""
        missing = self.count - len(state.matrix)
        zeros = torch.zeros(missing, *state.matrix.shape[1:], dtype=torch.float64)
        return torch.cat([state.matrix, zeros])

    def _spread(self) -> float:
        """A bound V of ‖v‖ / ‖δ‖."""
        return sqrt_up(float(self.kinds))

    def _rounded(self, matrix: Tensor, roundings: int) -> float:
        """A bound of what some roundings of each entry change, in units of ‖δ‖."""
        size = frobenius(matrix.flatten(1))
        lost = mul_up(roundings, U, size)
        return mul_up(add_up(lost, mul_up(ETA, matrix.numel(), roundings)), 2 * self._spread())

    def solve(self, state: State, effort: float, power: int) -> JointBounds | None:
        """Bounds of the outputs, by the best multipliers that are found."""
        outputs = self._padded(state).flatten(1)  # (N, K), the transpose of Y
        system = System(self.first, self.count, self.conditions, outputs)
        roots = best_multipliers(system, effort, power)
        if roots is None:
            return None
        return self._proved(system, roots, state.error)

    def _proved(self, system: System, roots: Tensor, error: float) -> JointBounds | None:
        """The theorem with rounding, for multipliers that are squares of some numbers."""
        spread, outputs = self._spread(), system.outputs
        rows, diagonal, tail = [], torch.ones(system.count, dtype=torch.float64), 0.0
        start = 0
        for each in system.conditions:
            root = roots[start : start + each.groups]
            start += each.groups
            stretched = (root * (1 + _THETA) * (each.gain * (1 + 4 * U)))[:, None]
            scaled = each.rows.unflatten(0, (each.groups, -1)) * stretched[..., None]
            rows.append(torch.nn.functional.pad(scaled.flatten(0, 1), (0, system.count - each.rows.shape[1])))  # fmt: skip
            own = (root * each.scale).square() * (1 - 8 * U)
            diagonal[each.first : each.first + each.count] = own.repeat_interleave(
                each.count // each.groups
            )
            top = float((root * each.gain).max()) * UP
            tail = add_up(tail, mul_up(1 + 2 * 2.0**40, top, top, each.error, each.error))
        stacked = torch.cat(rows) if rows else torch.zeros(1, system.count, dtype=torch.float64)
        form = torch.diag(diagonal) - stacked.mT @ stacked
        form = (form + form.mT) / 2
        n, m = system.count, len(stacked)
        factor, info = torch.linalg.cholesky_ex(form)
        if int(info) != 0:
            return None
        factor = factor.tril()
        square, factors = _square(stacked), _square(factor)
        largest = float(form.diagonal().abs().max())
        off = add_up(
            mul_up(gamma(m + 32), square),
            mul_up(4 * U, add_up(largest, square)),
            mul_up(4 * n * m, ETA),
        )
        residual = form - factor @ factor.mT
        lost = add_up(frobenius(residual) * (1 + 4 * U), mul_up(gamma(n + 4), factors), mul_up(4 * n * n, ETA))  # fmt: skip
        shifted = form + lost * torch.eye(n, dtype=torch.float64)
        weights = torch.cholesky_solve(outputs, factor)  # (N, K), any
        moved = shifted @ weights
        # shifted is off by u of its diagonal, its product by γ_n.
        slip = mul_up(gamma(n + 4), frobenius(shifted), frobenius(weights))
        slip = add_up(slip, mul_up(2 * U, add_up(largest, lost), frobenius(weights)), mul_up(4 * n, n, ETA))  # fmt: skip
        energy = weights.mT @ moved
        energy = (energy + energy.mT) / 2
        weak = mul_up(gamma(n + 4), frobenius(weights), frobenius(moved))
        weak = add_up(weak, mul_up(frobenius(weights), slip), mul_up(4 * n, n, ETA))
        remainder = outputs - moved
        allowed = add_up(1.0, tail, mul_up(add_up(off, lost), spread, spread))
        root = sqrt_up(allowed)
        rest = add_up(frobenius(remainder) * (1 + 4 * U), slip)
        joint = add_up(
            error,
            mul_up(rest, spread),
            mul_up(
                sqrt_up(add_up(matrix_norm(energy), weak, mul_up(4 * U, frobenius(energy)))), root
            ),
        )
        # Pairs: ‖(e_i − e_j)‖² = 2 at the most.
        values = energy.diagonal()
        gaps = (values[:, None] + values - 2 * energy).clamp_min(0)
        gaps = gaps + 8 * U * (values[:, None].abs() + values.abs() + 2 * energy.abs()) + 2 * weak
        remains = torch.cdist(
            remainder.mT, remainder.mT, compute_mode="donot_use_mm_for_euclid_dist"
        )
        remains = remains * (1 + 2 * gamma(n + 8)) + 2 * slip + 4 * U * rest
        pairs = (gaps.sqrt() * root + remains * spread + 2 * error) * (1 + 16 * U)
        pairs = pairs * (1 - torch.eye(len(pairs), dtype=torch.float64))
        if not (math.isfinite(joint) and pairs.isfinite().all()):
            return None
        return JointBounds(joint, pairs, system.count - system.first)


def _square(matrix: Tensor) -> float:
    """The squared Frobenius norm, rounded upwards."""
    return float(sums_of_squares(matrix.flatten()[None, None]))


def frobenius(matrix: Tensor) -> float:
    """The Frobenius norm, rounded upwards."""
    return sqrt_up(_square(matrix))


def _largest_norm(columns: Tensor) -> float:
    flat = columns.flatten(1)
    return sqrt_up(float(sums_of_squares(flat[:, None]).max())) if flat.numel() else 0.0


def factor_of(columns: Tensor) -> Tensor | None:
    """A lower triangular L with WWᵀ ≤ LLᵀ, for the columns of W in floats, with shape (n, m).

    fl(WWᵀ) + μI = LLᵀ + R in floats: LLᵀ − WWᵀ ≥ μ − ‖R‖ − γ_n ‖W‖_F² − γ_m ‖L‖_F² − u max |diagonal| − u ‖·‖.
    """
    gram = columns.mT @ columns  # (m, m)
    count, size = columns.shape
    top = float(gram.diagonal().max()) if size else 0.0
    if not 0 < top < math.inf:
        return None
    slack = max(2.0**-44, 16 * (count + size) * U * size) * top
    for _ in range(6):
        target = gram + slack * torch.eye(size, dtype=torch.float64)
        factor, info = torch.linalg.cholesky_ex(target)
        if int(info) == 0:
            factor = factor.tril()
            residual = frobenius(target - factor @ factor.mT)
            off = add_up(
                mul_up(residual, 1 + 8 * U),
                mul_up(gamma(count + 4), _square(columns)),
                mul_up(gamma(size + 4), _square(factor)),
                mul_up(4 * U, add_up(top, slack)),
                mul_up(8 * size, count + size, ETA),
            )
            if off <= slack * (1 - 4 * U):
                return factor
        slack *= 16
    return None
