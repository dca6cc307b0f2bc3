"""A quick search for the frequency at which a convolution is largest, which proves nothing."""

__all__ = ["inverse", "peak_norm"]

import torch
import torch.nn.functional as F
from torch import Tensor

from ._opaque import is_without_values

_POINTS = 8  # along an axis of the torus of the first search
_STEPS, _TOPS = 7, 5  # of Lanczos' method there, and at one frequency
_CLIMBS, _LONGEST = 4, 0.5  # steps of the ascent from there, in radians


def peak_norm(kernel: Tensor) -> Tensor:
    """Estimates the norm of a convolution from below, mostly to a percent, for a step of training.

    Lanczos' method on images of a small torus finds which frequency is amplified most, among all of
    them at once and whatever the kernel has in common with the identity; a few steps of gradient
    ascent follow.  `SpectralConv` takes ten times as long, and searches everywhere.

    Arguments:
        kernel: The kernel, with shape (O, I, H, W), of entries around 1.

    Returns:
        The norm, whose derivative is that at the frequency and vectors that were found.
    """
    if kernel.shape[0] < kernel.shape[1]:
        kernel = kernel.transpose(0, 1)  # the same norm, and fewer right singular vectors
    with torch.no_grad():
        if not torch.compiler.is_compiling() and is_without_values(kernel):
            slope = torch.empty_like(kernel)
        else:
            slope = _slope(kernel)
    return (kernel * slope).sum()


def inverse(norm: Tensor) -> Tensor:
    """1 / x, and 1 for 0."""
    return torch.where(norm > 0, norm, torch.ones_like(norm)).reciprocal()


def _slope(kernel: Tensor) -> Tensor:
    """The derivative of the norm by the kernel, which gives the norm as an inner product with it.

    Gradient ascent from the best frequency of the small torus, with steps of Barzilai and Borwein.
    The derivative of an eigenvalue is that at a fixed eigenvector.  The first step is short enough for
    any trigonometric polynomial of the degree of the symbol.
    """
    taps = kernel.permute(2, 3, 0, 1).flatten(0, 1).contiguous()  # (P, O, I)
    rows, columns = (torch.arange(n, device=kernel.device) for n in kernel.shape[2:])
    offsets = torch.cartesian_prod(rows, columns).double()
    angle, vector = _start(kernel)
    values, visited = [], []
    last_angle, last_slope = angle, torch.zeros_like(angle)
    for i in range(_CLIMBS):
        phases = (offsets @ angle).to(taps)
        waves = torch.polar(torch.ones_like(phases), phases)
        flat = taps.flatten(1)
        matrix = torch.complex(waves.real @ flat, waves.imag @ flat).view(taps.shape[1:])
        value, vector = _top(matrix, vector)
        pushed = torch.view_as_complex(taps @ torch.view_as_real(vector))  # K_t v, (P, O)
        mean = waves @ pushed
        along = (waves[:, None] * pushed) @ mean.conj()
        slope = -2 * (along.imag.double() @ offsets)
        values.append(value)
        visited.append((waves, vector, mean))
        if i + 1 == _CLIMBS:
            break
        safe = 2 / (value * offsets.amax().square()).clamp_min(1e-30)
        moved, turned = angle - last_angle, slope - last_slope
        fit = moved.square().sum() / (moved @ turned).abs().clamp_min(1e-30)
        rate = safe if i == 0 else torch.where(fit > 0, fit, safe)
        last_angle, last_slope = angle, slope
        angle = angle + (rate * slope).clamp(-_LONGEST, _LONGEST)
    best = torch.stack(values).topk(1).indices
    waves, vector, image = (torch.stack(each)[best][0] for each in zip(*visited, strict=True))
    outer = F.normalize(image, dim=0).conj()[:, None] * vector  # (O, I)
    slope = outer.real[..., None] * waves.real - outer.imag[..., None] * waves.imag
    return slope.view_as(kernel)


def _start(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The frequency θ, (2,), and the vector, (I,), that are amplified most on a small torus."""
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

    steps = min(total, _STEPS)
    basis, diagonal, beside = [start / start.norm().clamp_min(1e-30)], [], []
    for i in range(steps):
        image = apply(basis[i])
        diagonal.append(basis[i] @ image)
        image = image - diagonal[i] * basis[i] - (beside[i - 1] * basis[i - 1] if i else 0)
        beside.append(image.norm())
        basis.append(image / beside[i].clamp_min(1e-30))
    ritz = _ritz(diagonal, beside)[1].to(kernel)
    image = (ritz @ torch.stack(basis[:-1])).view(channels, *sizes)
    spectrum = torch.fft.rfft2(image)  # (I, N, N/2 + 1)
    energy = spectrum.abs().square().sum(dim=0).flatten()
    place = energy.topk(1).indices
    width = spectrum.shape[2]
    scale = torch.tensor(sizes, dtype=torch.float64, device=kernel.device)
    angle = torch.cat([place // width, place % width]).double() * (2 * torch.pi) / scale
    return angle, spectrum.flatten(1)[:, place][:, 0]


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
