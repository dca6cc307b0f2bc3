"""Convolutions of any size, with what is between them, in one matrix inequality for each frequency.

As in `joint`, differences of two runs are linear in a few unknowns: the difference x of inputs, and
for each activation what its secants do beyond their mean.  Here all of them are images on a torus of N
pixels along each axis, zero outside the image or not, and all linear maps are circulants with
symbols Z(θ), so that unknowns of different frequencies never meet.

**The torus.**  Let the actual difference be z = P Z v, P keeping the pixels of the image, or z = Z v.

1. A convolution without padding of a kernel of one pixel commutes with P.  Any other maps z = Z v to
   P′ S Z v on a torus of theorem C2 of `convolutions`; with circular padding P′ = 1, if N is the size of the
   image.  A stride drops pixels: ŷ(θ) = s^(−D/2) Σ x̂(θ′) over the s^D frequencies θ′ of the finer torus
   that are θ on the coarser one, for unitary transforms.
2. An activation of single entries with slopes in [a, b] maps z to w = d z, d ∈ [a, b] entry by entry.
   With a ≤ 0 ≤ b, w = d (Z v) on *the whole torus*: outside the image, d = 0 does it.  So
   w = m Z v + h s with |s| ≤ |Z v| everywhere, m = (a + b) / 2 and h = (b − a) / 2, and P is gone: where a or
   b has the wrong sign and P is there, it is replaced by 0.  (The mean m P Z v is no circulant: the
   slopes of its pixels outside the image are those that s has to undo.)
3. The projection itself is such an activation, with slopes in [0, 1]: it is one between two
   convolutions with zero padding.  (The norm of the product of their symbols bounds nothing.)
4. Sorting groups of channels maps z to w with ‖w‖ ≤ ‖Z v‖ in each group of each pixel.
5. The difference y of outputs is Y v or P Y v, which is not longer.

**Theorem.**  Let groups g of channels satisfy ‖s_g‖ ≤ ‖u_g‖ at each pixel, u = R v.  Take numbers r_g ≥ 0 and
c₀, c_g > 0, the same at all pixels, and let G(θ) be the matrix of Y(θ) above the rows r_g R_g(θ), its columns
scaled by c₀ for x and c_g for s_g.  If ‖G(θ)‖ ≤ ρ at each frequency of the torus,

    ‖y‖² ≤ (ρ / c₀)² ‖x‖² + Σ (ρ² / c_g² − r_g²) ‖u_g‖².

*Proof.*  By Parseval's equation ‖Yv‖² + Σ r_g² ‖u_g‖² ≤ ρ² (‖x‖² / c₀² + Σ ‖s_g‖² / c_g²), and ‖s_g‖ ≤ ‖u_g‖
summed over the torus.  ∎

With r_g c_g = 1 and ρ = 1 the last sum is zero; what rounding leaves of it is bounded by ‖u‖ ≤ reach ‖x‖.
That G(θ) ≤ 1 means that a Hermitian form of v, L² ‖x‖² − ‖Yv‖² + Σ t_g (‖s_g‖² − ‖R_g v‖²) with t = r², is not negative,
L = 1 / c₀: multipliers t are found by `frequency_search`, and need no proof.  Real kernels have conjugate
matrices at −θ.

**Rounding.**  Each matrix Ẑ in floats carries a bound of ‖Ẑ − Z‖_F.  For products, by A1 of `linalg`,
‖fl(ŜẐ) − SZ‖_F ≤ 3/2 γ_2K ‖Ŝ‖_F ‖Ẑ‖_F + ‖Ŝ − S‖_F ‖Ẑ‖_F + ‖S‖ ‖Ẑ − Z‖_F, up to underflow; symbols are those of
`convolutions`, ‖S(θ)‖_F ≤ ‖Σ_t |K_t|‖_F, as any entry of S is below that of the sum.

References:
    | Efficient and Accurate Estimation of Lipschitz Constants for Deep Neural Networks
    | (Fazlyab, Robey, Hassani, Morari & Pappas, 2019) https://arxiv.org/abs/1906.04893
    | A Unified Algebraic Perspective on Lipschitz Neural Networks
    | (Araujo, Havens, Delattre, Allauzen & Hu, 2023) https://arxiv.org/abs/2303.03169
"""

__all__ = ["FrequencyBound", "frequency_bound", "frequency_costs"]

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.modules import conv

from ..bounds import Shape, chain, forward_owner, refuse_inplace
from ..convolutions import conv_norm, half_grid, torus, waves
from ..exact import Round
from ..layers.residual import Residual
from ..linalg import (
    ETA,
    U,
    add_up,
    check_arithmetic,
    gamma,
    mul_up,
    sqrt_up,
    squared_norms,
    sums_of_squares,
)
from ..program import Affine
from ..rounding import Analysis
from ..rules import padding_of
from .frequency_search import Blocks, multipliers
from .secants import group_size, mean_and_half, slopes

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BYTES = 2**26  # of the matrices that are held at a time
_LEAST = 1e10  # operations that a search may take for each of its rounds
_LARGEST = 2.0**300  # of entries, for `squared_norms`
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class FrequencyBound:
    """A bound of a chain of convolutions, and how many unknowns of secants each frequency has."""

    value: float
    secants: int


@torch.no_grad()
def frequency_bound(
    operations: Sequence[nn.Module], shape: Shape, analysis: Analysis, effort: float
) -> FrequencyBound | None:
    """Bounds the Lipschitz constant of some operations on images, all together.

    Arguments:
        operations: Operations of a program, one after another.
        shape: The shape (C, *sizes) of an example of their input.
        analysis: An analysis of the program in float64, with the constants that it knows.
        effort: The number of floating-point operations that the proof may take; the search takes
            a few times as many.

    Returns:
        The bound; None where an operation is no convolution or activation, where the matrices are too
        large, or where no multipliers were found that prove anything.
    """
    check_arithmetic()
    module = nn.Sequential(*operations).eval()
    analysis.bound(module, shape)  # refuses what rules refuse
    survey = _Survey(analysis, shape)
    points = survey.points() if len(shape) > 1 and survey.add(module) else None
    cost = survey.cost()
    if points is None or cost > effort:
        return None
    circulant = _Circulant(module, analysis, survey, points)
    found = multipliers(circulant.blocks, circulant.grid, max(cost, _LEAST))
    value = None if found is None else circulant.proved(*found)
    return None if value is None else FrequencyBound(value, circulant.count - circulant.first)


def frequency_costs(
    operations: Sequence[nn.Module], shape: Shape, analysis: Analysis
) -> list[float]:
    """About how many operations a proof of the first, of the first two, ... operations takes.

    Infinite where there is none; the list ends where no longer one has a proof.
    """
    if len(shape) < 2:
        return []
    survey, costs = _Survey(analysis, shape), []
    for module in operations:
        if not survey.add(module):
            break
        costs.append(survey.cost())
    return costs


@dataclass(frozen=True)
class _Kernel:
    """A convolution as a circulant.

    Arguments:
        taps: The matrices K_t, with shape (P, O, I).
        offsets: The pixels t that they read, with shape (P, D).
        strides: The stride along each axis.
        local: Whether it reads the pixel of its output alone, and adds none.
        size: A bound of ‖S(θ)‖_F.
        norm: A bound of ‖S(θ)‖ at the frequencies of the torus.
        error: A bound of how far the symbol in floats is off, in the norm of Frobenius.
    """

    taps: Tensor
    offsets: Tensor
    strides: Sizes
    local: bool
    size: float
    norm: float
    error: float

    @classmethod
    def of(cls, module: conv._ConvNd, period: Sizes) -> "_Kernel":
        """The kernel of a module on a torus, groups as blocks of a matrix."""
        weight = module.weight.detach().double().cpu()
        axes, groups = weight.ndim - 2, module.groups
        blocks = weight.flatten(2).movedim(2, 0).unflatten(1, (groups, -1))  # (P, G, O / G, I / G)
        taps = torch.stack([torch.block_diag(*tap) for tap in blocks])
        before = [padding_of(module, axis)[0] for axis in range(axes)]
        index = itertools.product(*map(range, weight.shape[2:]))
        offsets = torch.tensor(
            [
                [d * q - p for d, q, p in zip(module.dilation, each, before, strict=True)]
                for each in index
            ]
        )
        none = not any(sum(padding_of(module, axis)) for axis in range(axes))
        count = len(taps)
        moduli = taps.abs().sum(dim=0) * (1 + 2 * gamma(count + 2))
        size = sqrt_up(float(sums_of_squares(moduli[None])))
        relative = add_up(4 * axes * U, 1.5 * gamma(count + 1), 8 * U)
        error = add_up(mul_up(relative, size), mul_up(4 * moduli.numel(), count, ETA))
        local = count == 1 and none
        norm, _ = conv_norm(weight, groups=groups, dilation=module.dilation, period=period)
        return cls(taps, offsets, tuple(module.stride), local, size, norm, error)

    def symbols(self, grid: Tensor, points: Sequence[int]) -> Tensor:
        """S(θ) for θ = 2πj/M, with shape (F, O, I)."""
        cosines, sines = waves(grid, self.offsets, points)
        flat = self.taps.flatten(1)
        parts = torch.complex(cosines @ flat, sines @ flat)
        return parts.unflatten(1, tuple(self.taps.shape[1:]))


@dataclass(frozen=True)
class _Place:
    """Activations of a network.

    Arguments:
        shape: Their shape.
        coarse: The product of strides before them, along each axis.
        masked: Whether their difference is P Z v, with zero padding.
    """

    shape: Shape
    coarse: Sizes
    masked: bool = False


class _Survey:
    """Which torus some operations need, and how many unknowns: None if one of them is unknown."""

    def __init__(self, analysis: Analysis, shape: Shape) -> None:
        self.analysis = analysis
        sizes = tuple(shape[1:])
        self.start = _Place(tuple(shape), (1,) * len(sizes))
        self.total = self.start.coarse
        self.needs = [(self.total, sizes, sizes)]  # strides before, pixels of a torus, of an image
        self.rows: list[_Place] = []  # of activations
        self.circular = self.zeros = False
        self.end: _Place | None = self.start

    def add(self, module: nn.Module) -> bool:
        """Appends an operation; whether that is known."""
        if self.end is not None:
            self.end = self.through(module, self.end)
        return self.end is not None

    def through(self, module: nn.Module, place: _Place) -> _Place | None:
        owner, shape = forward_owner(type(module)), place.shape
        if owner is nn.Sequential:
            for _, child in chain(module):
                found = self.through(child, place)
                if found is None:
                    return None
                place = found
            return place
        if owner in (nn.Identity, Round):
            return place
        if owner is Residual:
            refuse_inplace(module)
            one = self.through(module.branch, place)  # pyright: ignore
            last = module.shortcut
            two = place if last is None else self.through(last, place)  # pyright: ignore
            if one is None or two is None:
                return None
            same = (one.shape, one.coarse) == (two.shape, two.coarse)
            return replace(one, masked=one.masked or two.masked) if same else None
        if owner in _CONVOLUTIONS:
            return self._convolution(module, place)  # pyright: ignore
        if owner is Affine:
            return place if _factors(module, shape) is not None else None  # pyright: ignore
        if group_size(module, shape) is None and slopes(module, shape) is None:
            return None
        self.rows.append(place)
        return replace(place, masked=False)

    def _convolution(self, module: conv._ConvNd, place: _Place) -> _Place | None:
        after = self.analysis.output_shape(module, place.shape)
        if module.padding_mode not in ("zeros", "circular"):
            return None
        needs, local, zeros = [], True, False
        for axis, (size, outputs) in enumerate(zip(place.shape[1:], after[1:], strict=True)):
            k, s, d = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
            before, behind = padding_of(module, axis)
            local &= k == 1 and before + behind == 0
            if module.padding_mode == "circular" and before + behind > 0:
                if size % s or before + behind != d * (k - 1):
                    return None
                self.circular = True
                needs.append(size)
            else:
                zeros |= k > 1 or before + behind > 0
                needs.append(torus(size, outputs, k, s, d, before))
        self.zeros |= zeros
        if place.masked and not local:
            self.rows.append(place)
        self.needs.append((place.coarse, tuple(needs), tuple(place.shape[1:])))
        coarse = tuple(c * s for c, s in zip(place.coarse, module.stride, strict=True))
        self.needs.append((coarse, tuple(after[1:]), tuple(after[1:])))
        pairs = zip(self.total, coarse, strict=True)
        self.total = tuple(max(one, other) for one, other in pairs)
        return _Place(tuple(after), coarse, zeros or (place.masked and local))

    def points(self) -> Sizes | None:
        """The size of the coarsest torus; None if there is none."""
        if self.end is None or self.end.coarse != self.total or (self.circular and self.zeros):
            return None
        least = [0] * len(self.total)
        for coarse, needs, _ in self.needs:
            for axis, (c, need) in enumerate(zip(coarse, needs, strict=True)):
                least[axis] = max(least[axis], -(-need * c // self.total[axis]))
        found = tuple(least)
        if self.circular and any(
            size * c != n * total
            for coarse, _, sizes in self.needs
            for size, c, n, total in zip(sizes, coarse, found, self.total, strict=True)
        ):
            return None
        return found

    def cost(self) -> float:
        """About how many operations a proof needs; infinite where there is none."""
        points = self.points()
        if points is None or self.end is None:
            return math.inf

        def width(place: _Place) -> int:
            pairs = zip(self.total, place.coarse, strict=True)
            return place.shape[0] * math.prod(total // c for total, c in pairs)

        secants = sum(map(width, self.rows))
        rows, columns = width(self.end) + secants, width(self.start) + secants
        return math.prod(points) / 2 * 24 * rows * columns * min(rows, columns)


def _factors(module: Affine, shape: Shape) -> Tensor | None:
    """The factors of channels, with shape (C,); None if those of pixels differ."""
    if module.scale is None:
        return torch.ones(shape[0], dtype=torch.float64)
    scale = module.scale.detach().double().cpu()
    scale = scale.reshape([1] * (len(shape) - scale.ndim) + list(scale.shape))
    if any(size > 1 for size in scale.shape[1:]):
        return None
    return scale.flatten().expand(shape[0])


@dataclass(frozen=True)
class _State:
    """Differences of activations at some frequencies θ of the coarsest torus.

    Arguments:
        matrix: Z at the frequencies of the finer torus that are θ on the coarsest one, in floats, with shape
            (F, A, C, N) for N unknowns.
        error: A bound of how far it is off, in the norm of Frobenius, with shape (F,).
        reach: A bound of ‖Z v‖ / ‖x‖ on the torus.
        finer: How many pixels of the torus are one of the coarsest, along each axis.
        masked: Whether the difference is P Z v, not Z v.
    """

    matrix: Tensor
    error: Tensor
    reach: float
    finer: Sizes
    masked: bool

    @property
    def size(self) -> Tensor:
        """Bounds of the Frobenius norms of Ẑ."""
        return sums_of_squares(self.matrix.flatten(1, 2)).sqrt() * (1 + 4 * U)


@dataclass(frozen=True)
class _Condition:
    """‖s_g‖ ≤ ‖u_g‖ for groups of channels: see `System.Condition`.

    Arguments:
        rows: The state u.
        first: The place of s among the unknowns.
        channels: The number of channels of a group.
    """

    rows: _State
    first: int
    channels: int


class _Circulant:
    """A network on the torus, at any of its frequencies."""

    def __init__(
        self, module: nn.Module, analysis: Analysis, survey: _Survey, points: Sizes
    ) -> None:
        self.module, self.shape, self.analysis = module, survey.start.shape, analysis
        self.total, self.circular, self.points = survey.total, survey.circular, points
        self.grid = half_grid(points)
        self.first = self.shape[0] * math.prod(self.total)  # unknowns of the input
        self.count = 0
        self.conditions: list[_Condition] = []
        self.frequencies = self.grid[:1]

    def at(self, frequencies: Tensor) -> _State:
        """The outputs at some frequencies, `conditions` being those there."""
        self.frequencies, self.conditions, self.count = frequencies, [], self.first
        eye = torch.eye(self.first, dtype=torch.complex128).reshape(-1, self.shape[0], self.first)
        start = eye.expand(len(frequencies), *eye.shape)
        none = torch.zeros(len(frequencies), dtype=torch.float64)
        state = _State(start, none, 1.0, self.total, False)
        return self._padded(self.through(self.module, state, self.shape))

    def chunks(self, grid: Tensor) -> Iterator[Tensor]:
        """Frequencies a few at a time."""
        out = self.at(grid[:1])
        rows = math.prod(out.matrix.shape[1:3]) + self.count
        yield from grid.split(max(1, _BYTES // (16 * self.count * rows)))

    def blocks(self, grid: Tensor) -> Iterator[Blocks]:
        """Y and R, in floats, and whose groups their rows and columns are."""
        for chunk in self.chunks(grid):
            outputs = self.at(chunk).matrix.flatten(1, 2)
            rows = [self._padded(each.rows).matrix.flatten(1, 2) for each in self.conditions]
            counts = tuple(each.shape[1] for each in rows)
            stacked = torch.cat([outputs[:, :0], *rows], dim=1)
            yield Blocks(self.first, outputs, stacked, self.owners(), counts)

    def owners(self) -> Tensor:
        """The groups of rows of R, and of the unknowns behind those of the input."""
        own, start = [torch.zeros(0, dtype=torch.long)], 0
        for each in self.conditions:
            _, aliases, width, _ = each.rows.matrix.shape
            groups = torch.arange(width) // each.channels + start
            own.append(groups.repeat(aliases))
            start += width // each.channels
        return torch.cat(own)

    # How modules act on differences

    def through(self, module: nn.Module, state: _State, shape: Shape) -> _State:
        """The difference of the outputs of a module."""
        owner = forward_owner(type(module))
        if owner is nn.Sequential:
            for _, child in chain(module):
                state = self.through(child, state, shape)
                shape = self.analysis.output_shape(child, shape)
            return state
        if owner in (nn.Identity, Round):  # the latter is the program of the identity
            return state
        if owner is Residual:
            parts = [self.through(module.branch, state, shape)]  # pyright: ignore
            last = module.shortcut
            parts.append(state if last is None else self.through(last, state, shape))  # pyright: ignore
            return self._sum(*map(self._padded, parts))
        if owner is Affine:
            return self._scaled(state, _factors(module, shape))  # pyright: ignore
        if owner in _CONVOLUTIONS:
            sizes = tuple(n * f for n, f in zip(self.points, state.finer, strict=True))
            kernel = self.analysis.once(
                module,
                ("kernel", sizes),
                lambda: _Kernel.of(module, sizes),  # pyright: ignore[reportArgumentType]
            )
            if state.masked and not kernel.local:
                state = self._bent(state, *torch.tensor([[0.0], [1.0]], dtype=torch.float64))
            return self._convolved(kernel, state)
        if (size := group_size(module, shape)) is not None:
            return self._sorted(state, size)
        ends = slopes(module, shape)
        if ends is None:
            raise TypeError(f"{owner.__name__} is no activation of single entries.")
        low, high = (each.expand(shape).flatten(1) for each in ends)
        low, high = low.amin(dim=1), high.amax(dim=1)
        if state.masked:
            low, high = low.clamp_max(0), high.clamp_min(0)
        return self._bent(state, low, high)

    def _sum(self, one: _State, other: _State) -> _State:
        """One rounding of each entry; P (Z v + Z′ v) is what the sum is if one of both is masked."""
        state = _State(
            one.matrix + other.matrix,
            one.error,
            add_up(one.reach, other.reach),
            one.finer,
            one.masked or other.masked,
        )
        error = (one.error + other.error + 2 * U * state.size) * (1 + 8 * U)
        return replace(state, error=error)

    def _scaled(self, state: _State, factors: Tensor) -> _State:
        largest = float(factors.abs().max())
        after = replace(
            state,
            matrix=state.matrix * factors[:, None],
            reach=mul_up(largest, state.reach),
        )
        return replace(after, error=self._rounded(after, largest * state.error))

    def _rounded(self, state: _State, error: Tensor) -> Tensor:
        """Adds a rounding of each entry to an error."""
        entries = math.prod(state.matrix.shape[1:])
        return (error + 2 * U * state.size + 4 * entries * ETA) * (1 + 8 * U)

    def _convolved(self, kernel: _Kernel, state: _State) -> _State:
        finer, axes = state.finer, len(state.finer)
        aliases = list(itertools.product(*map(range, finer)))
        sizes = [n * f for n, f in zip(self.points, finer, strict=True)]
        steps = torch.tensor(aliases) * torch.tensor(self.points)  # (A, D)
        places = self.frequencies[:, None] + steps  # (F, A, D)
        symbols = kernel.symbols(places.reshape(-1, axes), sizes)
        symbols = symbols.unflatten(0, places.shape[:2])  # (F, A, O, I)
        ins = kernel.taps.shape[2]
        matrix = symbols @ state.matrix
        size, entries = state.size, matrix[0].numel() * ins
        # Each of A blocks has a symbol of this size, and of this error.
        lost = 1.5 * gamma(2 * ins + 4) * (kernel.size + kernel.error) + kernel.error
        error = lost * size + kernel.norm * state.error + 8 * entries * ETA
        error = error * (1 + 16 * U)
        reach = mul_up(kernel.norm, state.reach)
        masked = not self.circular and (state.masked or not kernel.local)
        after = _State(matrix, error, reach, finer, masked)
        return self._dropped(after, kernel.strides) if max(kernel.strides) > 1 else after

    def _dropped(self, state: _State, strides: Sizes) -> _State:
        """The frequencies that a stride makes the same, averaged: see 1.

        A sum of A numbers and a product with a factor that is off by 2u; the sum of blocks is √A as long
        as all of them at most, which the factor undoes.
        """
        finer = tuple(f // s for f, s in zip(state.finer, strides, strict=True))
        matrix = state.matrix.unflatten(1, state.finer)
        for axis, (fine, stride) in enumerate(zip(finer, strides, strict=True)):
            # The alias a of M·finer points is a % fine of those that remain.
            matrix = matrix.unflatten(1 + axis, (stride, fine)).sum(dim=1 + axis)
        count = math.prod(strides)
        matrix = matrix.flatten(1, len(finer)) * (1 / math.sqrt(count))
        lost = add_up(gamma(count + 2), 4 * U)
        entries = math.prod(state.matrix.shape[1:])
        error = (state.error + lost * state.size + 4 * entries * ETA) * (1 + 8 * U)
        return replace(state, matrix=matrix, error=error, finer=finer)

    def _bent(self, state: _State, low: Tensor, high: Tensor) -> _State:
        """The mean, and what secants do beyond it: see 2."""
        mean, half = mean_and_half(low, high)
        _, aliases, width, _ = state.matrix.shape
        mean, half = mean.expand(width), half.expand(width)
        first = self._condition(state, 1)
        largest = float(mean.abs().max())
        scaled = replace(state, matrix=state.matrix * mean[:, None])
        error = self._rounded(scaled, largest * state.error)
        after = self._padded(scaled).matrix.clone()
        diagonal = torch.diag(half.repeat(aliases)).reshape(aliases, width, -1)
        after[..., first:] = diagonal.to(after)
        reach = mul_up(add_up(largest, float(half.max())), state.reach)
        return _State(after, error, reach, state.finer, False)

    def _sorted(self, state: _State, size: int) -> _State:
        """No more than a length: see 4."""
        first = self._condition(state, size)
        after = self._padded(replace(state, matrix=torch.zeros_like(state.matrix))).matrix.clone()
        _, aliases, width, _ = state.matrix.shape
        own = torch.eye(aliases * width).reshape(aliases, width, -1)
        after[..., first:] = own.to(after)
        return _State(after, torch.zeros_like(state.error), state.reach, state.finer, False)

    # What is kept of them

    def _condition(self, rows: _State, channels: int) -> int:
        """Adds unknowns for each entry of u; returns the place of the first."""
        first = self.count
        self.conditions.append(_Condition(rows, first, channels))
        self.count += math.prod(rows.matrix.shape[1:3])
        return first

    def _padded(self, state: _State) -> _State:
        """Columns of zeros for unknowns that came later."""
        missing = self.count - state.matrix.shape[-1]
        if not missing:
            return state
        return replace(state, matrix=torch.nn.functional.pad(state.matrix, (0, missing)))

    def proved(self, level: float, t: Tensor) -> float | None:
        """The theorem, for a guess of L and multipliers, one for each group."""
        gains, shrunk = t.sqrt(), 1 / t.sqrt()
        outer = 1 / level
        numbers = torch.cat([gains, shrunk, torch.tensor([level, outer], dtype=torch.float64)])
        if not bool((numbers.isfinite() & (numbers > 0)).all()):
            return None
        largest = 0.0
        for chunk in self.chunks(self.grid):
            out = self.at(chunk)
            own = self.owners()
            first = torch.full((self.first,), outer, dtype=torch.float64)
            scale = torch.cat([first, shrunk[own]])
            widest = float(scale.max())
            parts, off, start = [out.matrix.flatten(1, 2)], out.error, 0
            for each in self.conditions:
                rows = self._padded(each.rows).matrix.flatten(1, 2)
                gain = gains[own[start : start + rows.shape[1]]]
                parts.append(rows * gain[:, None])
                off = off + each.rows.error * float(gain.max())
                start += rows.shape[1]
            matrices = torch.cat(parts, dim=1) * scale
            if not bool((matrices.abs() < _LARGEST).all()):  # refuses nan
                return None
            entries = math.prod(matrices.shape[1:])
            # Two roundings of each entry, and what was known of it before.
            sizes = sums_of_squares(matrices).sqrt() * (1 + 4 * U)
            slack = 1 + (16 + 4 * len(self.conditions)) * U
            off = (off * widest + 4 * U * sizes + 8 * entries * ETA * max(widest, 1.0)) * slack
            norms = squared_norms(matrices).sqrt() * (1 + 4 * U) + off
            if not bool(norms.isfinite().all()):  # the larger of a number and nan is any of both
                return None
            largest = max(largest, float(norms.max()) * (1 + 4 * U))
        ratio, rest, start = Fraction(largest) ** 2, Fraction(0), 0
        for each in self.conditions:  # whose reaches are those of all frequencies
            stop = start + each.rows.matrix.shape[2] // each.channels
            pairs = zip(gains[start:stop].tolist(), shrunk[start:stop].tolist(), strict=True)
            over = max(ratio / Fraction(c) ** 2 - Fraction(r) ** 2 for r, c in pairs)
            rest += max(over, Fraction(0)) * Fraction(each.rows.reach) ** 2
            start = stop
        return sqrt_up(add_up(ratio / Fraction(outer) ** 2, rest))
