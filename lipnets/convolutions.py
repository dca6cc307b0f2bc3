"""Norms of convolutions, proved from above, rounding included.

**Polyphase taps.**  With stride s and dilation d, the tap at kernel index q reads the pixel sj + dq
for the output j.  Write dq = st + a with 0 ≤ a < s: the convolution maps the s^D phases of the
image, as channels, by the taps K_t, matrices of shape (c_out, c_in · phases).  Its symbol is
S(θ) = Σ_t K_t e^{iθ·t}, a trigonometric polynomial of degree Tᵢ = max tᵢ along axis i.  Groups act
on disjoint channels: the norm is the largest of theirs.  A transposed convolution is the adjoint.

Theorems, with S*S = Σ_s C_s e^{is·θ}, C_s = Σ_t K_t* K_{t+s}:

C1. On a torus of N pixels along each axis, s | N, the norm is max ‖S(θ)‖ over the grid of N/s points.
    *Proof.*  The Fourier transform makes the convolution block diagonal.
C2. With zero padding p, on n pixels and with m outputs, ‖T‖ ≤ max ‖S(θ)‖ over the grid of any torus
    with N ≥ max(n + p, s(m − 1) + d(k − 1) − p + 1, n, sm), s | N.  *Proof.*  The pixels that T
    reads, −p, ..., s(m − 1) + d(k − 1) − p, meet [0, n) modulo N only if they are in it, and the m
    outputs are distinct modulo N/s: T is a submatrix of the circulant.  (N = n would be false.)
C3. At any size, sup ‖S‖ ≤ max_grid ‖S‖ / Πᵢ cos(πTᵢ / 2Mᵢ) on a grid of Mᵢ > Tᵢ points.  *Proof.*
    At the maximum θ₀, with right singular vector v, p(θ) = ‖S(θ)v‖² is a trigonometric polynomial
    of degree T with 0 ≤ p ≤ μ² = p(θ₀).  Riesz' lemma for p − μ²/2 along one axis: p(θ₀ + h) ≥
    μ² cos²(Th/2) for |h| ≤ π/T, and some grid point has |h| ≤ π/M.  Axis by axis.
C4. sup ‖S‖² ≤ c + ‖C_0 − cI‖ + 2 Σ_{s>0} ‖C_s‖.  *Proof.*  Triangle inequality; C_{−s} = C_s*.
C5. sup ‖S‖² ≤ ‖Σ_s |C_s|‖.  *Proof.*  |S*S(θ)| ≤ Σ_s |C_s| entrywise, and the norm of a matrix
    is at most that of any nonnegative matrix above its moduli.
C6. With weights f_s = Πᵢ fᵢ(sᵢ), fᵢ(s) = Σⱼ aⱼaⱼ₊ₛ / Σⱼ aⱼ² for any real a₀, ..., a_R, R = Mᵢ − 1 − Tᵢ:
    sup ‖S‖² ≤ max_grid ‖S‖² + Σ_{s≠0} (1 − f_s) ‖C_s‖ on the grid of Mᵢ points.  *Proof.*
    F(θ) = Σ f_s e^{isθ} = |Σ aⱼ e^{ijθ}|² / Σ aⱼ² is not negative, of mean 1 and degree R.  The
    quadrature of F(θ − φ) S*S(φ), of degree M − 1, is exact on the grid, so F ∗ S*S(θ) averages the
    S*S of the grid; and S*S − F ∗ S*S has the coefficients (1 − f_s) C_s.

References:
    | Rigorous statements and proofs: above.  The symbol: The Singular Values of Convolutional
    | Layers (Sedghi, Gupta & Long, 2019) https://arxiv.org/abs/1805.10408
    | C5 without its sum over channels: Almost-Orthogonal Layers (Prach & Lampert, 2022)
    | https://arxiv.org/abs/2208.03160
"""

__all__ = [
    "conv_norm",
    "filtered_conv_gains",
    "half_grid",
    "roots_of_unity",
    "tap_sums",
    "torus",
    "waves",
]

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from .linalg import (
    ETA,
    U,
    add_up,
    check_arithmetic,
    gamma,
    mul_up,
    scale_up,
    sqrt_up,
    squared_norms,
    sums_of_squares,
    unit_scale,
)

_TIGHT = 4e-6  # a cheap bound this close to the norm, relatively, is not improved upon
_FLOPS = 4e12  # grids that cost more are replaced by coarser ones, with their factor
_BYTES = 2**27  # of the symbols that are held at a time
_COARSE = 32  # points along each axis of a grid that serves any size


def conv_norm(
    kernel: Tensor,
    *,
    groups: int = 1,
    stride: Sequence[int] | int = 1,
    dilation: Sequence[int] | int = 1,
    period: Sequence[int] | None = None,
) -> tuple[float, str]:
    """Bounds the norm of a convolution, or of its transpose.

    Arguments:
        kernel: The kernel, with shape (O, I / groups, *K) in 1, 2, 3 or more dimensions.
        groups: The number of groups of channels.
        stride: The stride along each axis.
        dilation: The dilation along each axis.
        period: The size N of a torus that the image is part of, along each axis, a multiple of the
            stride: see C1, C2 and `torus`.  Without it, the bound holds at any size, for zero and
            circular padding.

    Returns:
        A number that is at least the norm, infinite if an entry is not finite; and the name of the
        theorem that gave it.

    Raises:
        UnsoundArithmeticError: If matrix products are not computed as the proofs assume.
    """
    check_arithmetic()
    axes = kernel.ndim - 2
    strides, dilations = _per_axis(stride, axes), _per_axis(dilation, axes)
    if period is not None and any(size % s for size, s in zip(period, strides, strict=True)):
        raise ValueError(f"'period' should be a multiple of the stride {strides}, got {period}.")

    if period is None:  # S(dθ) has the supremum of S(θ)
        dilations = tuple(1 if s == 1 else d for s, d in zip(strides, dilations, strict=True))
    scaled, exponent, lost = unit_scale(kernel)
    if scaled is None:
        return math.inf, "weights are not finite"
    if not scaled.any():
        return _unscaled(0.0, exponent, lost, scaled), "no weights but zeros"
    symbol = _Symbol.of(scaled, groups, strides, dilations)
    points = None if period is None else [n // s for n, s in zip(period, strides, strict=True)]
    square, theorem = _squared_norm(symbol, points)
    return _unscaled(sqrt_up(square), exponent, lost, scaled), theorem


def torus(
    size: int, outputs: int, kernel_size: int, stride: int, dilation: int, padding: int
) -> int:
    """The smallest period N of theorem C2, along one axis.

    Arguments:
        size: The number n of pixels.
        outputs: The number m of outputs.
        kernel_size: The number k of taps.
        stride: The stride s.
        dilation: The dilation d.
        padding: The number p of zeros before the first pixel.
    """
    reach = stride * (outputs - 1) + dilation * (kernel_size - 1) - padding + 1
    least = max(size + padding, reach, size, stride * outputs)
    return -(-least // stride) * stride


def tap_sums(
    kernel: Tensor, *, groups: int, stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Σ_t K_t over the polyphase taps of a kernel, in float64, with shape (G, O / G, phases · I / G).

    For a kernel that is not negative, its norm bounds that of the convolution: norms of output channels
    are at most Σ_t K_t applied to the norms of phases, as shifts lengthen no image.
    """
    double = kernel.detach().to("cpu", torch.float64)
    if all(s == 1 for s in stride):
        return double.flatten(2).sum(dim=2).unflatten(0, (groups, -1))
    return _Symbol.of(double, groups, stride, dilation).taps.sum(dim=1)


def filtered_conv_gains(kernel: Tensor, gain: Tensor) -> Tensor:
    """Bounds a circular convolution behind a filter at each frequency ω: g(ω) ‖S(ω)‖.

    The filter multiplies the Fourier coefficient of frequency ω, of every channel, by a number of
    modulus g(ω) at most; the operator is block diagonal as in C1, with blocks g(ω) S(ω).  The largest
    of the bounds, over all frequencies or over those that images are confined to, bounds its norm.

    Arguments:
        kernel: The kernel, with shape (O, I, *K).
        gain: The gains g(ω) ≥ 0 on the whole grid in the order of `torch.fft`, with shape (*N).

    Returns:
        The bounds, with shape (*N); infinite if an entry of the kernel is not finite.

    Raises:
        ValueError: If a gain is negative or not finite.
    """
    check_arithmetic()
    gain = gain.detach().to("cpu", torch.float64)
    if gain.ndim != kernel.ndim - 2 or not (gain.isfinite() & (gain >= 0)).all():
        raise ValueError(
            f"'gain' should be finite, not negative, and have {kernel.ndim - 2} axes, "
            f"got shape {tuple(gain.shape)}."
        )
    scaled, exponent, lost = unit_scale(kernel)
    if scaled is None:
        return torch.full_like(gain, math.inf)
    ones = (1,) * gain.ndim
    symbol = _Symbol.of(scaled, 1, ones, ones)
    bounds = torch.zeros_like(gain)
    for grid, squares in symbol.squared_norms_on_grid(gain.shape, common=False):
        roots = squares[0].sqrt() * (1 + 4 * U)
        for index, root in zip(grid.tolist(), roots.tolist(), strict=True):
            bound = _unscaled(root, exponent, lost, scaled)
            mirrored = tuple(-i % n for i, n in zip(index, gain.shape, strict=True))
            for place in {tuple(index), mirrored}:  # real kernels: the same norm at −ω
                bounds[place] = mul_up(gain[place].item(), bound)
    return bounds


def _per_axis(value: Sequence[int] | int, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _unscaled(norm: float, exponent: int, lost: float, scaled: Tensor) -> float:
    """Undoes `unit_scale`: what underflow took counts once for each tap, at the most."""
    taps = math.prod(scaled.shape[2:])
    return add_up(scale_up(norm, exponent), mul_up(lost, float(taps)))


def _squared_norm(symbol: "_Symbol", points: Sequence[int] | None) -> tuple[float, str]:
    """The dispatch C4/C5 → C1/C2 → min(C3, C6)."""
    if len(symbol.offsets) == 1:  # the taps of one output meet those of no other
        flat = symbol.taps[:, 0]
        return squared_norms(flat).max().item(), "one dense matrix for each window"
    lower = symbol.mean_square()
    square, theorem = symbol.from_coefficients()
    if square <= lower * (1 + _TIGHT):
        return square, theorem
    if points is not None and symbol.cost(points) <= _FLOPS:
        found, name = symbol.max_on_grid(points), "exact on the torus (C1, C2)"
    else:
        found, name = symbol.any_size()
    return (found, name) if found < square else (square, theorem)


@dataclass(frozen=True)
class _Symbol:
    """The symbol S(θ) = Σ_t K_t e^{iθ·t} of a convolution, for each group.

    Arguments:
        taps: The matrices K_t, entries below 1, with shape (G, P, O, I).
        offsets: The indices t, not negative, one for each of the P taps.
    """

    taps: Tensor
    offsets: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, kernel: Tensor, groups: int, strides: Sequence[int], dilations: Sequence[int]
    ) -> "_Symbol":
        """Collects the polyphase taps of a kernel with shape (G · O, I, *K)."""
        outs, ins = kernel.shape[0] // groups, kernel.shape[1]
        grouped = kernel.reshape(groups, outs, ins, *kernel.shape[2:])
        places: dict[tuple[int, ...], dict[tuple[int, ...], Tensor]] = {}
        for index in itertools.product(*map(range, kernel.shape[2:])):
            pixel = [d * q for d, q in zip(dilations, index, strict=True)]
            offset = tuple(p // s for p, s in zip(pixel, strides, strict=True))
            phase = tuple(p % s for p, s in zip(pixel, strides, strict=True))
            places.setdefault(offset, {})[phase] = grouped[(..., *index)]
        phases = sorted({phase for place in places.values() for phase in place})
        empty = grouped.new_zeros(groups, outs, ins)
        taps = [
            torch.cat([place.get(phase, empty) for phase in phases], dim=2)
            for place in places.values()
        ]
        return cls(torch.stack(taps, dim=1), tuple(places))

    @property
    def degrees(self) -> tuple[int, ...]:
        return tuple(map(max, zip(*self.offsets, strict=True)))

    def mean_square(self) -> float:
        """A lower estimate of sup ‖S‖², the mean of ‖S‖_F² / rank: decides, proves nothing."""
        rank = min(self.taps.shape[2:])
        return self.taps.square().sum(dim=(1, 2, 3)).max().item() / rank

    def cost(self, points: Sequence[int]) -> float:
        """Operations of a pass over a grid, about."""
        groups, _, outs, ins = self.taps.shape
        small, large = min(outs, ins), max(outs, ins)
        return math.prod(points) / 2 * groups * 8 * small**2 * (large + 2 * small)

    # Without a grid: C4 and C5

    def _coefficients(self) -> tuple[dict[tuple[int, ...], Tensor], float]:
        """C_s for s = 0 and one of each pair ±s, on the smaller side; and a bound of their errors.

        A1 with K + P roundings: the errors of all C_s sum to γ_{K+P} (Σ_t ‖K_t‖_F)² at most.  On
        the smaller side means SS* in place of S*S, which has the same norm.
        """
        groups, count, outs, ins = self.taps.shape
        rows = self.taps if outs <= ins else self.taps.transpose(2, 3)  # (G, P, n, K)
        side, inner = rows.shape[2:]
        flat = rows.reshape(groups, count * side, inner)
        found: dict[tuple[int, ...], Tensor] = {}
        for i, here in enumerate(self.offsets):
            later = [j for j, there in enumerate(self.offsets) if there >= here]
            block = rows[:, i] @ flat.mT  # (G, n, P n)
            for j in later:
                shift = tuple(b - a for a, b in zip(here, self.offsets[j], strict=True))
                part = block[:, :, j * side : (j + 1) * side]
                found[shift] = found[shift] + part if shift in found else part
        frobenius = sums_of_squares(rows.flatten(0, 1)).sqrt() * (1 + 4 * U)  # (G P,)
        total = frobenius.reshape(groups, count).sum(dim=1).max().item()
        total = mul_up(total, 1 + gamma(count + 1), total, 1 + gamma(count + 1))
        error = add_up(
            mul_up(gamma(inner + count + 1), total),
            mul_up(4 * ETA, float(count) ** 2, float(side) * (inner + count)),
        )
        return found, error

    def from_coefficients(self) -> tuple[float, str]:
        """The smaller of C4 and C5, rounded upwards."""
        found, error = self._coefficients()
        zero = (0,) * len(self.offsets[0])
        center = found[zero]  # (G, n, n)
        side = center.shape[-1]
        level = center.diagonal(dim1=1, dim2=2).mean(dim=1)
        rest = center - torch.diag_embed(level[:, None].expand(-1, side))
        # One rounding for each entry of the difference; for orthogonal kernels, what matters is C_0.
        spectral = torch.minimum(squared_norms(rest, common=False).sqrt(), _quick_norms(rest))
        terms = [level, spectral * (1 + 8 * U) + 2 * U * rest.abs().amax(dim=(1, 2))]
        terms += [2 * _quick_norms(matrix) for shift, matrix in found.items() if shift != zero]
        sums = torch.stack(terms).sum(dim=0) * (1 + 2 * gamma(len(terms) + 4))
        triangle = add_up(max(sums.max().item(), 0.0), error)

        moduli = center.abs()
        for shift, matrix in found.items():
            if shift != zero:
                moduli = moduli + matrix.abs() + matrix.abs().mT
        moduli = moduli * (1 + 2 * gamma(2 * len(found) + 4))
        absolute = add_up(sqrt_up(squared_norms(moduli).max().item()), error)
        if absolute < triangle:
            return absolute, "norm of the absolute autocorrelation (C5)"
        return triangle, "sum over the autocorrelation (C4)"

    # On a grid: C1, C2, C3 and C6

    def squared_norms_on_grid(
        self, points: Sequence[int], *, common: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Bounds of ‖S(θ)‖² for θ = 2πj/M, one of each pair ±θ, in chunks.

        The roots of unity are off by u at most (`roots_of_unity`), products of D of them by 4Du.
        By A1 on sums of P products, for the real and the imaginary part,
        ‖fl(S) − S‖ ≤ (4Du + 3/2 γ_{P+1}) ‖Σ_t |K_t|‖_F up to underflow.

        Yields:
            The indices j, with shape (F, D), and the bounds, with shape (G, F).
        """
        groups, count, outs, ins = self.taps.shape
        grid = half_grid(points)
        sizes = sums_of_squares(self.taps.abs().sum(dim=1)).sqrt() * (1 + 2 * gamma(count + 4))
        relative = add_up(4 * len(points) * U, 1.5 * gamma(count + 1))
        errors = sizes * relative * (1 + 8 * U) + 4 * count * outs * ins * ETA  # (G,)

        flat = self.taps.transpose(0, 1).reshape(count, -1)  # (P, G O I)
        width = max(1, _BYTES // (16 * groups * max(outs, ins) * min(outs, ins)))
        for chunk in grid.split(width):
            cosines, sines = waves(chunk, torch.tensor(self.offsets), points)
            symbols = torch.complex(cosines @ flat, sines @ flat)
            symbols = symbols.reshape(len(chunk) * groups, outs, ins)
            squares = squared_norms(symbols, common=common).reshape(len(chunk), groups).T
            roots = (squares.sqrt() * (1 + 4 * U) + errors[:, None]) * (1 + 4 * U)
            yield chunk, roots.square() * (1 + 4 * U)

    def max_on_grid(self, points: Sequence[int]) -> float:
        """The largest ‖S‖² over a grid, rounded upwards."""
        return max(squares.max().item() for _, squares in self.squared_norms_on_grid(points))

    def any_size(self) -> tuple[float, str]:
        """The smaller of C3 and C6, rounded upwards."""
        points = [1 if t == 0 else max(_COARSE, 8 * t) + 1 for t in self.degrees]
        while self.cost(points) > _FLOPS and any(
            n > 4 * t + 2 for n, t in zip(points, self.degrees, strict=True) if t
        ):
            pairs = zip(points, self.degrees, strict=True)
            points = [n if t == 0 else max(4 * t + 2, n - max(1, n // 4)) for n, t in pairs]
        largest = self.max_on_grid(points)
        sampled, smoothed = self.sampled(largest, points), self.smoothed(largest, points)
        if smoothed < sampled:
            return smoothed, "grid and positive kernel, any size (C6)"
        return sampled, "grid and sampling factor, any size (C3)"

    def sampled(self, largest: float, points: Sequence[int]) -> float:
        """Theorem C3, from the largest ‖S‖² on a grid.

        cos x ≥ 1 − x²/2, which is positive for x = πT/2M ≤ π/8.
        """
        factor = Fraction(1)
        for degree, count in zip(self.degrees, points, strict=True):
            factor *= 1 - (Fraction(_PI_UP) * degree / (2 * count)) ** 2 / 2
        return mul_up(largest, 1 / factor**2)

    def smoothed(self, largest: float, points: Sequence[int]) -> float:
        """Theorem C6, from the largest ‖S‖² on a grid."""
        found, error = self._coefficients()
        pairs = zip(points, self.degrees, strict=True)
        weights = [_kernel_weights(count, degree) for count, degree in pairs]
        terms = [largest, error]
        for shift, matrix in found.items():
            if any(shift):
                weight = math.prod(w[abs(s)] for w, s in zip(weights, shift, strict=True))
                norm = sqrt_up(squared_norms(matrix).max().item())
                terms.append(mul_up(norm, 2 * (1 - weight)))  # for s and −s
        return add_up(*terms)


def half_grid(points: Sequence[int]) -> Tensor:
    """One of each pair of indices ±j of a grid, with shape (F, D)."""
    half = [
        index
        for index in itertools.product(*map(range, points))
        if index <= tuple(-i % n for i, n in zip(index, points, strict=True))
    ]
    return torch.tensor(half).reshape(-1, len(points))


def waves(grid: Tensor, offsets: Tensor, points: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of e^{iθ·t} for θ = 2πj/M, each wave within 4Du of the truth.

    Arguments:
        grid: The indices j, with shape (F, D).
        offsets: The pixels t, which may be negative, with shape (P, D).
        points: The sizes M of the grid.

    Returns:
        The parts, with shape (F, P).
    """
    real = torch.ones(len(grid), len(offsets), dtype=torch.float64)
    imag = torch.zeros_like(real)
    for axis, count in enumerate(points):
        cosine, sine = roots_of_unity(count)
        turn = (grid[:, axis, None] * offsets[None, :, axis]) % count
        c, s = cosine[turn], sine[turn]
        real, imag = real * c - imag * s, real * s + imag * c
    return real, imag


def _quick_norms(matrices: Tensor) -> Tensor:
    """min(‖·‖_F, √(‖·‖₁ ‖·‖_∞)) of a batch of real matrices, rounded upwards, with shape (B,)."""
    moduli = matrices.abs()
    schur = (moduli.sum(dim=1).amax(dim=1) * moduli.sum(dim=2).amax(dim=1)).sqrt()
    schur = schur * (1 + 2 * gamma(max(matrices.shape[1:]) + 8))
    return torch.minimum(sums_of_squares(matrices).sqrt() * (1 + 4 * U), schur)


_PI_UP = math.nextafter(math.pi, 4.0)  # above π


@lru_cache(maxsize=256)
def _kernel_weights(count: int, degree: int) -> list[Fraction]:
    """The weights f(0), ..., f(T) of theorem C6 for M points, exactly, from a sine window."""
    order = count - 1 - degree
    window = [Fraction(math.sin(math.pi * (j + 1) / (order + 2))) for j in range(order + 1)]
    total = sum(a * a for a in window)
    return [
        sum((a * b for a, b in zip(window, window[s:], strict=False)), Fraction(0)) / total
        for s in range(degree + 1)
    ]


@lru_cache(maxsize=256)
def roots_of_unity(count: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2πj/M for 0 ≤ j < M, each within 2⁻⁵⁴ of the truth plus 2⁻²⁰⁰.

    Taylor's series and Machin's formula in integers, in units of 2⁻²⁵⁶: a term is cut off by one
    unit, and there are less than a thousand; then one correct rounding.
    """
    one = 1 << 256

    def arctan_inverse(n: int) -> int:
        total, power, k = 0, one // n, 0
        while power:
            total += power // (2 * k + 1) * (-1) ** k
            power, k = power // (n * n), k + 1
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    cosines, sines = [], []
    for j in range(count):
        # The series of an angle in (−π, π].
        angle = 2 * pi * (j if 2 * j <= count else j - count) // count
        sums, term = [0, 0], one
        for k in range(1, 120):
            sums[(k - 1) % 2] += term if (k - 1) % 4 < 2 else -term
            term = (term * angle) // (one * k)
        cosines.append(float(Fraction(sums[0], one)))
        sines.append(float(Fraction(sums[1], one)))
    return torch.tensor(cosines, dtype=torch.float64), torch.tensor(sines, dtype=torch.float64)
