"""The frequency at which a convolution is largest: a search, which proves nothing."""

__all__ = ["inverse", "peak_norm"]

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ._symbols import Symbol, norm_at
from .spectral import _newton_step, _peaks

_POINTS = 8  # along an axis of the torus of the first search
_STEPS, _TOPS = 7, 5  # of Lanczos' method there, and at one frequency
_CLIMBS, _LONGEST = 4, 0.5  # steps of the ascent from there, in radians
_LANCZOS, _STARTS, _SUMMITS, _NEWTON = 48, 4, 3, 12  # in evaluation: steps, places and steps
_SMALL = 64  # channels
_ASIDE = 1e-2  # radians: frequencies θ = −θ are critical points, not always maxima


def peak_norm(kernel: Tensor, *, thorough: bool) -> Tensor:
    """Estimates the norm of a convolution on the torus, differentiable at the peak that it finds.

    Lanczos' method on images of a small torus finds which frequencies are amplified most, all of
    them at once and whatever the kernel has in common with the identity.  From the best one, a few
    steps of gradient ascent follow; thoroughly, Newton's method in float64 from several.

    Arguments:
        kernel: The kernel, with shape (O, I, H, W).
        thorough: Whether to take time for the promise to hold to a millionth.
    """
    if kernel.shape[0] < kernel.shape[1]:
        kernel = kernel.transpose(0, 1)  # the same norm, and fewer right singular vectors
    if not thorough:
        with torch.no_grad():
            slope = _quick_slope(kernel)
        return (kernel * slope).sum()
    with torch.no_grad():
        angle, right = _thorough(kernel)
    return norm_at(kernel, angle, right)


def inverse(norm: Tensor) -> Tensor:
    """1 / x, and 1 for 0."""
    return torch.where(norm > 0, norm, torch.ones_like(norm)).reciprocal()


def _quick_slope(kernel: Tensor) -> Tensor:
    """The derivative of the norm by the kernel, which gives the norm as an inner product with it.

    Gradient ascent from the best frequency of the small torus, with steps of Barzilai and Borwein.  The derivative of an eigenvalue is that at a fixed eigenvector.  The first step is short enough
    for any trigonometric polynomial of the degree of the symbol.
    """
    taps = kernel.permute(2, 3, 0, 1).flatten(0, 1).contiguous()  # (P, O, I)
    rows, columns = (torch.arange(n, device=kernel.device) for n in kernel.shape[2:])
    offsets = torch.cartesian_prod(rows, columns).double()
    symbol = Symbol(taps, offsets.to(taps))
    angles, vectors = _candidates(kernel, 1)
    angle, vector = angles[0], vectors[0]
    best = torch.zeros((), dtype=torch.float64, device=kernel.device)
    found: tuple[Tensor, ...] = ()  # the waves, the right vector and its image
    last_angle, last_slope = angle, torch.zeros_like(angle)
    for i in range(_CLIMBS):
        waves = symbol.waves(angle.to(taps))
        flat = taps.flatten(1)
        matrix = torch.complex(waves.real @ flat, waves.imag @ flat).view(taps.shape[1:])
        value, vector = _top(matrix, vector)
        pushed = torch.view_as_complex(taps @ torch.view_as_real(vector))  # K_t v, (P, O)
        mean = waves @ pushed
        along = (waves[:, None] * pushed) @ mean.conj()
        slope = -2 * (along.imag.double() @ offsets)
        higher = value > best
        best = torch.where(higher, value, best)
        now = (waves, vector, mean)
        found = tuple(map(partial(torch.where, higher), now, found)) if found else now
        if i + 1 == _CLIMBS:
            break
        safe = 2 / (value * offsets.amax().square()).clamp_min(1e-30)
        moved, turned = angle - last_angle, slope - last_slope
        fit = moved.square().sum() / (moved @ turned).abs().clamp_min(1e-30)
        rate = safe if i == 0 else torch.where(fit > 0, fit, safe)
        last_angle, last_slope = angle, slope
        angle = angle + (rate * slope).clamp(-_LONGEST, _LONGEST)
    waves, vector, image = found[0], found[1], found[2]
    outer = F.normalize(image, dim=0).conj()[:, None] * vector  # (O, I)
    slope = outer.real[..., None] * waves.real - outer.imag[..., None] * waves.imag
    return slope.view_as(kernel)


def _thorough(kernel: Tensor) -> tuple[Tensor, Tensor]:
    symbol = _Exact.of(kernel)
    angles = torch.cat(
        [_candidates(kernel.double(), _STARTS)[0], _peaks(symbol, kernel.shape[2:]) + _ASIDE]
    )
    squares, vectors = symbol.singular(angles)
    trust = torch.ones_like(angles[:, :1])
    for i in range(_NEWTON):
        if i == _NEWTON // 4:  # all have climbed: go on with the highest
            kept = squares[:, -1].topk(min(_SUMMITS, len(squares))).indices
            angles, squares, vectors, trust = (
                each[kept] for each in (angles, squares, vectors, trust)
            )
        tried = angles + trust * _newton_step(symbol, angles, squares, vectors)
        new_squares, new_vectors = symbol.singular(tried)
        higher = (new_squares[:, -1] > squares[:, -1])[:, None]
        angles = torch.where(higher, tried, angles)
        squares = torch.where(higher, new_squares, squares)
        vectors = torch.where(higher[..., None], new_vectors, vectors)
        trust = torch.where(higher, 1.0, trust / 4)
    best = squares[:, -1].topk(1).indices
    return angles[best][0], vectors[best][0, :, -1]


class _Exact(Symbol):
    """A symbol whose norms are found by eigenvalues, where matrices are small."""

    def approximate_norms(self, angles: Tensor) -> Tensor:
        if self.taps.shape[2] > _SMALL:
            return super().approximate_norms(angles)
        symbols = self(angles)
        return torch.linalg.eigvalsh(symbols.mH @ symbols)[:, -1].clamp_min(0).sqrt()


def _candidates(kernel: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Angles (F, 2), and vectors (F, I), that are amplified most on a small torus."""
    sizes = [1 if k == 1 else max(_POINTS, 4 * (k - 1)) for k in kernel.shape[2:]]
    reach = (kernel.shape[3] - 1, kernel.shape[2] - 1)
    channels = kernel.shape[1]
    total = channels * sizes[0] * sizes[1]
    start = torch.arange(total, dtype=torch.float64, device=kernel.device)
    start = (start.square() * 0.618).cos().to(kernel)  # of no symmetry
    mirrored = kernel.transpose(0, 1).flip(2, 3).contiguous()

    def apply(flat: Tensor) -> Tensor:
        image = flat.view(1, channels, *sizes)
        out = F.conv2d(F.pad(image, (0, reach[0], 0, reach[1]), mode="circular"), kernel)
        out = F.pad(out, (reach[0], 0, reach[1], 0), mode="circular")
        return F.conv2d(out, mirrored).flatten()

    steps = min(total, _STEPS if count == 1 else _LANCZOS)
    basis, diagonal, beside = [start / start.norm().clamp_min(1e-30)], [], []
    for i in range(steps):
        image = apply(basis[i])
        diagonal.append(basis[i] @ image)
        image = image - diagonal[i] * basis[i] - (beside[i - 1] * basis[i - 1] if i else 0)
        if count > 1:  # in float64 too, many steps lose orthogonality
            before = torch.stack(basis)
            image = image - before.mT @ (before @ image)
        beside.append(image.norm())
        basis.append(image / beside[i].clamp_min(1e-30))
    ritz = _ritz(diagonal, beside)[1].to(kernel)
    image = (ritz @ torch.stack(basis[:-1])).view(channels, *sizes)
    spectrum = torch.fft.rfft2(image)  # (I, N, N/2 + 1)
    energy = spectrum.abs().square().sum(dim=0).flatten()
    places = energy.topk(min(count, len(energy))).indices
    width = spectrum.shape[2]
    rows, columns = places // width, places % width
    scale = torch.tensor(sizes, dtype=torch.float64, device=kernel.device)
    angles = torch.stack([rows, columns], dim=1).double() * (2 * torch.pi) / scale
    # The symbol Σ K_t e^{iθ·t} meets waves e^{iθ·x}: x̂(θ) is its vector.
    return angles, spectrum.flatten(1)[:, places].mT


def _top(matrix: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The largest squared singular value of a matrix, and its right vector, by Lanczos' method."""
    adjoint = matrix.mH.contiguous()
    basis, diagonal, beside = [F.normalize(start, dim=0)], [], []
    steps = min(_TOPS, matrix.shape[1])
    for i in range(steps):
        image = adjoint @ (matrix @ basis[i])
        diagonal.append(torch.vdot(basis[i], image).real)
        image = image - diagonal[i] * basis[i] - (beside[i - 1] * basis[i - 1] if i else 0)
        beside.append(torch.linalg.vector_norm(image))
        basis.append(image / beside[i].clamp_min(1e-30))
    values, ritz = _ritz(diagonal, beside)
    return values, F.normalize(ritz.to(matrix) @ torch.stack(basis[:-1]), dim=0)


def _ritz(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue of a tridiagonal matrix, and its vector, in float64."""
    matrix = torch.diag(torch.stack(diagonal).double())
    if len(diagonal) > 1:
        links = torch.stack(beside[:-1]).double()
        matrix = matrix + torch.diag(links, 1) + torch.diag(links, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values[-1], vectors[:, -1]
