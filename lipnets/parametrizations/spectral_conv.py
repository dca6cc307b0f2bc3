"""Division of kernels by the operator norm of their convolution.

References:
    | The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
    | https://arxiv.org/abs/1802.05957

What differs: a kernel is divided by the supremum of the norm of its symbol over all frequencies, not
by the norm of a reshaped matrix, nor by that at one size of image; and no power iteration is kept
between steps, so that training and evaluation use the same function of the weight alone.  The search
for the supremum proves nothing: `lipnets.lipschitz` does.
"""

__all__ = ["SpectralConv"]

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ._kernels import OfKernels
from ._opaque import is_without_values
from ._precision import full_precision, unit_scale

_POINTS = 6  # of the coarse grid, for each degree of the symbol along an axis
_PEAKS = 4  # of the coarse grid that are refined, for each group
_RANKING, _REFINING, _FINAL = 10, 10, 16  # steps of Lanczos' method, times `effort`
_ROUNDS, _NEWTON = 6, 6  # subspaces, and steps of Newton's method within each
_ASIDE = 1e-2  # radians
_MARGIN = 2.0**-18  # by which the norm is taken to be larger, relatively, than was found


class SpectralConv(OfKernels):
    """Divides the kernel of each group by the norm of its convolution at any size of image.

    The norm is that of the convolution with its stride under circular padding, at all sizes that are
    multiples of it, which zero padding does not exceed; a dilation coprime to the stride does not
    change it.  Zeros stay zeros.  The raw weight has the shape of the constrained one, (O, I / groups,
    *K), and only its direction matters.

    The symbol is ranked on a coarse grid by a few steps of Lanczos' method from a fixed start, and
    refined by Newton's method from the highest peaks, with Ritz vectors in place of singular vectors.

    Arguments:
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.
        effort: What the steps of Lanczos' method are multiplied by: more than 1 is for kernels of
            which all singular values are nearly the same.
    """

    def __init__(self, stride: Sequence[int] = (), groups: int = 1, *, effort: int = 1) -> None:
        super().__init__(stride, groups)
        self.effort = effort

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        kernels = weight.reshape(self.groups, -1, *weight.shape[1:])  # (G, O, I, *K)
        kernels = unit_scale(kernels, dim=tuple(range(1, kernels.ndim)))
        strides = list(self.stride or (1,) * (weight.ndim - 2))
        if torch.compiler.is_compiling() or is_without_values(kernels):
            slope = torch.ops.lipnets.spectral_slope(kernels.detach(), strides, self.effort)
        else:
            slope = _slope(kernels.detach(), strides, self.effort)
        norm = (kernels * slope).flatten(1).double().sum(dim=1).to(weight.dtype)
        norm = torch.where(norm > 0, norm * (1 + _MARGIN), torch.ones_like(norm))
        return (kernels / norm.view(-1, *[1] * (kernels.ndim - 1))).view_as(weight)


@torch.no_grad()
def _slope(kernels: Tensor, strides: Sequence[int], effort: int) -> Tensor:
    """The derivative of the norm of each group, whose product with its kernel is the norm.

    With u and v the singular vectors at the best frequency θ, that of Re(u* S(θ) v).
    """
    symbol, phases = _Symbol.of(kernels, strides)
    angles, right = _search(symbol, effort)
    waves = symbol.waves(angles)  # (G, 1, P)
    left = F.normalize(symbol.times(waves, right), dim=-1)
    if symbol.transposed:
        left, right = right.conj_physical(), left.conj_physical()
    right = right.unflatten(-1, (kernels.shape[2], -1))  # (G, 1, I, A)
    index = torch.tensor(phases, device=kernels.device)  # (K, 2): of taps and of phases
    outer = left[:, 0, :, None, None].conj_physical() * right[:, 0, None][..., index[:, 1]]
    return (outer * waves[:, 0, None, None, index[:, 0]]).real.to(kernels.dtype).view_as(kernels)


@torch.library.custom_op("lipnets::spectral_slope", mutates_args=())
def _opaque_slope(kernels: Tensor, strides: list[int], effort: int) -> Tensor:
    """What the compiler, and tensors without values, see of `_slope`: they would unroll the search.

    In there conjugates have to be physical: torch ignores the bit of lazy ones below autograd.
    """
    return _slope(kernels, strides, effort).contiguous()


@_opaque_slope.register_fake
def _(kernels: Tensor, strides: list[int], effort: int) -> Tensor:
    return torch.empty_like(kernels, memory_format=torch.contiguous_format)


def _search(symbol: "_Symbol", effort: int) -> tuple[Tensor, Tensor]:
    """The best frequency of each group, with shape (G, 1, D), and its right singular vector."""
    groups, places = symbol.taps.shape[0], symbol.taps.shape[-1]
    angles, find = _grid(symbol)
    grid = angles.expand(groups, -1, -1)
    steps = torch.arange(places, dtype=symbol.taps.dtype, device=angles.device).square()
    begin = torch.polar(torch.ones_like(steps), steps).expand(groups, angles.shape[0], -1)
    values, vectors = symbol.ritz(symbol.waves(grid), begin, effort * _RANKING)
    chosen = find(values[..., -1])  # (G, N)
    angles = grid.gather(1, chosen[..., None].expand(-1, -1, grid.shape[2]))
    start = vectors[..., -1].gather(1, chosen[..., None].expand(-1, -1, places))
    angles, start, values = _climb(symbol, angles + _ASIDE, start, effort * _REFINING)
    best = values.topk(1, dim=1).indices[..., None]
    angles = angles.gather(1, best.expand(-1, -1, angles.shape[2]))
    start = start.gather(1, best.expand(-1, -1, places))
    _, vectors = symbol.ritz(symbol.waves(angles), start, effort * _FINAL)
    return angles, vectors[..., -1]


def _grid(symbol: "_Symbol") -> tuple[Tensor, "_Finder"]:
    """Angles of half a grid, (F, D), and what finds the highest peaks among values there."""
    points = [max(1, _POINTS * degree) for degree in symbol.degrees]
    whole = list(itertools.product(*map(range, points)))
    mirror = {at: tuple(-i % n for i, n in zip(at, points, strict=True)) for at in whole}
    half = {at: number for number, at in enumerate(at for at in whole if at <= mirror[at])}
    device = symbol.taps.device
    places = torch.tensor([half[min(at, mirror[at])] for at in whole], device=device)
    firsts = torch.tensor([at in half for at in whole], device=device)
    sizes = torch.tensor(points, dtype=symbol.taps.dtype, device=device)
    angles = torch.tensor(list(half), dtype=symbol.taps.dtype, device=device)
    angles = 2 * math.pi * angles.view(-1, len(points)) / sizes
    return angles, _Finder(tuple(points), places, firsts, len(half))


@dataclass(frozen=True)
class _Finder:
    """Finds the highest local maxima on a grid, of which one of each pair ±θ was computed."""

    points: tuple[int, ...]
    places: Tensor
    firsts: Tensor
    count: int

    def __call__(self, values: Tensor) -> Tensor:  # (G, F) -> (G, N)
        whole = values[:, self.places].unflatten(1, self.points)
        axes = tuple(range(1, whole.ndim))
        around = whole
        for shift in itertools.product((-1, 0, 1), repeat=len(axes)):
            around = around.maximum(whole.roll(shift, axes))
        peaks = torch.where((whole >= around).flatten(1) & self.firsts, whole.flatten(1), -1.0)
        return self.places[peaks.topk(min(_PEAKS, self.count), dim=1).indices]


def _climb(
    symbol: "_Symbol", angles: Tensor, start: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Maximizes the largest eigenvalue λ of S*S from several frequencies of each group.

    In turns: singular vectors at the frequencies reached so far span subspaces, in which λ is
    maximized by Newton's method.  Within a subspace λ is nowhere larger, and equal where it was
    spanned, with its slope: the maxima converge faster than linearly.

    Returns:
        The frequencies, (G, N, D), singular vectors, (G, N, I), and the maxima, (G, N).
    """
    best = angles.new_zeros(angles.shape[:2], dtype=torch.float64)
    known: list[Tensor] = []
    for _ in range(_ROUNDS):
        _, basis = symbol.ritz(symbol.waves(angles), start, steps)
        here = basis[..., -1]
        for vector in known:
            basis = _with(basis, vector)
        known.append(here)
        coefficients, lags = symbol.within(basis)
        reached, inside, best = _newton(coefficients, lags, angles.double())
        angles = reached.to(angles.dtype)
        start = (basis @ inside.to(basis.dtype)[..., None])[..., 0]
    return angles, start, best


def _with(basis: Tensor, vector: Tensor) -> Tensor:
    """An orthonormal basis (G, N, I, M) and one more vector, of zeros if it is in its span."""
    for _ in range(2):
        inside = basis.mT.conj_physical() @ vector[..., None]
        vector = vector - (basis @ inside)[..., 0]
        size = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        outside = size > 1e-4
        vector = torch.where(outside, vector / torch.where(outside, size, 1), 0)
    return torch.cat([basis, vector[..., None]], dim=-1)


def _newton(coefficients: Tensor, lags: Tensor, angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's method for the largest eigenvalue λ of H(θ) = Σ_s C_s e^{is·θ}.

    With v its eigenvector and vⱼ the others: ∂ₖλ = v*Hₖv, and ∂ₖₗλ = v*Hₖₗv + 2 Re Σⱼ v*Hₖvⱼ vⱼ*Hₗv / (λ − λⱼ).
    Where the curvature is not negative, and at the most, the step is half the spacing of the grid.
    """
    longest = torch.pi / _POINTS / lags.amax().clamp_min(1.0)

    def sums(weights: Tensor) -> Tensor:  # (G, N, ..., L) -> (G, N, ..., M, M)
        flat = coefficients.flatten(3)  # (G, N, L, M²)
        return (weights.flatten(2, -2) @ flat).view(*weights.shape[:-1], *coefficients.shape[3:])

    def waves(angles: Tensor) -> Tensor:  # (G, N, D) -> (G, N, L)
        turns = angles @ lags.mT
        return torch.polar(torch.ones_like(turns), turns)

    values, vectors = torch.linalg.eigh(sums(waves(angles)[:, :, None])[:, :, 0])
    trust = torch.ones_like(angles[..., :1])
    for _ in range(_NEWTON):
        wave = waves(angles)[:, :, None]
        first = sums(1j * wave * lags.mT)  # (G, N, D, M, M)
        second = sums((wave * lags.mT)[..., None, :] * -lags.mT)  # (G, N, D, D, M, M)
        top, conjugate = vectors[..., -1], vectors[..., -1].conj_physical()
        pulled = torch.einsum("gnkab,gnb->gnka", first, top)
        gradient = torch.einsum("gna,gnka->gnk", conjugate, pulled).real
        others = (pulled @ vectors.conj_physical())[..., :-1]  # (G, N, D, M − 1)
        gaps = values[..., -1:] - values[..., :-1]
        smallest = 1e-12 * values[..., -1:] + torch.finfo(values.dtype).tiny
        gaps = torch.maximum(gaps, smallest)[..., None, :]
        hessian = torch.einsum("gna,gnklab,gnb->gnkl", conjugate, second, top)
        hessian = hessian + 2 * (others.conj_physical() / gaps) @ others.mT
        curvatures, axes = torch.linalg.eigh(hessian.real)
        along = (gradient[..., None, :] @ axes)[..., 0, :]
        steps = torch.where(curvatures < 0, -along / curvatures, longest * along.sign())
        step = (axes @ steps.clamp(-longest, longest)[..., None])[..., 0]

        tried = angles + trust * step
        new_values, new_vectors = torch.linalg.eigh(sums(waves(tried)[:, :, None])[:, :, 0])
        higher = new_values[..., -1:] > values[..., -1:]
        angles = torch.where(higher, tried, angles)
        values = torch.where(higher, new_values, values)
        vectors = torch.where(higher[..., None], new_vectors, vectors)
        trust = torch.where(higher, torch.ones_like(trust), trust / 4)
    return angles, vectors[..., -1], values[..., -1]


@dataclass(frozen=True)
class _Symbol:
    """The symbols S(θ) = Σ_t K_t e^{iθ·t} of the groups of a convolution.

    Arguments:
        taps: The matrices K_t, at least as high as wide, with shape (G, P, O, I).
        offsets: The indices t, with shape (P, D).
        transposed: Whether they are the transposed matrices.
    """

    taps: Tensor
    positions: tuple[tuple[int, ...], ...]
    transposed: bool

    @classmethod
    def of(cls, kernels: Tensor, strides: Sequence[int]) -> tuple["_Symbol", list[tuple[int, int]]]:
        """Collects the polyphase taps of kernels with shape (G, O, I, *K).

        Returns:
            The symbol, and for each index of the kernel those of its tap and of its phase.
        """
        indices = list(itertools.product(*map(range, kernels.shape[3:])))
        split = [[divmod(q, s) for q, s in zip(at, strides, strict=True)] for at in indices]
        offsets = [tuple(t for t, _ in parts) for parts in split]
        phases = [tuple(a for _, a in parts) for parts in split]
        taps, parts = sorted(set(offsets)), sorted(set(phases))
        where = [(taps.index(t), parts.index(a)) for t, a in zip(offsets, phases, strict=True)]
        groups, outs, ins = kernels.shape[:3]
        values = kernels.new_zeros(groups, len(taps), outs, ins, len(parts))
        at = torch.tensor(where, device=kernels.device)
        values[:, at[:, 0], :, :, at[:, 1]] = kernels.flatten(3).permute(3, 0, 1, 2)
        matrices = values.flatten(3)
        transposed = outs < matrices.shape[3]
        if transposed:
            matrices = matrices.mT.contiguous()
        return cls(matrices, tuple(taps), transposed), where

    @property
    def degrees(self) -> tuple[int, ...]:
        return tuple(map(max, zip(*self.positions, strict=True)))

    @property
    def offsets(self) -> Tensor:
        return torch.tensor(self.positions, dtype=self.taps.dtype, device=self.taps.device)

    def waves(self, angles: Tensor) -> Tensor:  # (G, N, D) -> (G, N, P)
        phases = angles @ self.offsets.mT
        return torch.polar(torch.ones_like(phases), phases)

    def images(self, vectors: Tensor) -> Tensor:  # (G, N, I) -> (G, N, P, O): each K_t v
        flat = self.taps.flatten(1, 2)  # (G, P O, I)
        real = torch.view_as_real(vectors).permute(0, 2, 1, 3).flatten(2)  # (G, I, 2 N)
        found = (flat @ real).unflatten(2, (-1, 2)).permute(0, 2, 1, 3).contiguous()
        return torch.view_as_complex(found).unflatten(2, self.taps.shape[1:3])

    def pulled(self, weights: Tensor) -> Tensor:  # (G, N, P, O) -> (G, N, I): Σ_t K_tᵀ w_t
        flat = self.taps.flatten(1, 2)
        real = torch.view_as_real(weights.flatten(2)).permute(0, 1, 3, 2)
        found = real.flatten(1, 2) @ flat  # (G, 2 N, I)
        return torch.view_as_complex(found.unflatten(1, (-1, 2)).permute(0, 1, 3, 2).contiguous())

    def times(self, waves: Tensor, vectors: Tensor) -> Tensor:  # (G, N, I) -> (G, N, O)
        return (waves[..., None] * self.images(vectors)).sum(dim=2)

    def within(self, basis: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients of V*S*SV for bases V of shape (G, N, I, M).

        Returns:
            The coefficients C_s, with shape (G, N, L, M, M), and the lags s, with shape (L, D).
        """
        groups, count, _, size = basis.shape
        images = self.images(basis.mT.flatten(1, 2))  # (G, N M, P, O)
        images = images.unflatten(1, (count, size)).movedim(3, 2).flatten(2, 3)  # (G, N, P M, O)
        products = (
            (images.conj_physical() @ images.mT).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        )
        products = products.permute(0, 1, 2, 4, 3, 5).flatten(2, 3)  # (G, N, P P, M, M)
        shifts = [
            tuple(b - a for a, b in zip(one, two, strict=True))
            for one, two in itertools.product(self.positions, repeat=2)
        ]
        lags = sorted(set(shifts))
        index = torch.tensor([lags.index(shift) for shift in shifts], device=basis.device)
        found = products.new_zeros(groups, count, len(lags), size, size)
        found = found.index_add_(2, index, products).to(torch.complex128)
        return found, torch.tensor(lags, dtype=torch.float64, device=basis.device)

    def ritz(self, waves: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Ritz values of S*S, increasing, (G, N, M), and vectors, (G, N, I, M), after M steps."""
        count = min(steps, start.shape[-1])
        smallest = 100 * torch.finfo(self.taps.dtype).eps
        basis = start.new_zeros(*start.shape[:2], count, start.shape[2])  # (G, N, M, I)
        images = start.new_zeros(*start.shape[:2], count, self.taps.shape[2])
        vector = F.normalize(start, dim=-1)
        for i in range(count):
            basis[:, :, i] = vector
            images[:, :, i] = image = self.times(waves, vector)
            if i + 1 < count:
                vector = self.pulled(waves[..., None].conj_physical() * image[:, :, None])
                scale = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
                known = basis[:, :, : i + 1]
                for _ in range(2):
                    inside = vector[:, :, None] @ known.mT.conj_physical()
                    vector = vector - (inside @ known)[:, :, 0]
                norm = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
                ended = norm <= smallest * scale  # what is left of it is rounding
                vector = torch.where(ended, 0, vector / torch.where(ended, 1, norm))
        values, small = torch.linalg.eigh(images.conj_physical() @ images.mT)
        return values, basis.mT @ small
