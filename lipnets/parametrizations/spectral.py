"""Division by the largest singular value, of matrices and of convolutions.

References:
    | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)
    | https://arxiv.org/abs/1802.05957
    | The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408

What differs: no power iteration is kept between steps, so that training and evaluation use the
same function of the weight alone; and a kernel is divided by the operator norm of its convolution,
the supremum of its symbol over all frequencies, not by the norm of a reshaped matrix.  The search
for the supremum proves nothing: `lipnets.lipschitz` does.
"""

__all__ = ["Spectral"]

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._precision import full_precision, unit_scale
from ._symbols import Symbol, grid, norm_at

_POINTS = 8  # of the coarse grid, for each degree of the symbol along an axis
_PEAKS, _SUMMITS = 6, 3  # frequencies at which norms are exact, and those that are refined
_ASIDE = 1e-2  # radians
_STEPS = 5  # of Newton's method


class Spectral(nn.Module):
    """Divides a matrix by its largest singular value, or a kernel by the norm of its convolution.

    The norm is that at stride 1 under circular padding at any size, which zero padding does not
    exceed.  Zeros stay zeros.  The raw weight has the shape of the constrained one.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) or (O, I, H, W)
        weight = unit_scale(weight)
        norm = _matrix_norm(weight) if weight.ndim == 2 else _conv_norm(weight)
        return weight / torch.where(norm > 0, norm, torch.ones_like(norm))


def _matrix_norm(matrix: Tensor) -> Tensor:
    """The norm, which autograd sees as uᵀWv with fixed singular vectors."""
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.mT
    with torch.no_grad():
        wide = matrix.double()
        right = torch.linalg.eigh(wide.mT @ wide).eigenvectors[:, -1]
        left = F.normalize(wide @ right, dim=0)
    return (left @ (matrix.double() @ right)).to(matrix.dtype)


def _conv_norm(kernel: Tensor) -> Tensor:
    """Estimates sup ‖S(θ)‖: a coarse grid, its highest peaks, then Newton's method."""
    if kernel.shape[0] < kernel.shape[1]:
        kernel = kernel.transpose(0, 1)  # the same norm, and fewer right singular vectors
    with torch.no_grad():
        symbol = Symbol.of(kernel)
        start = _peaks(symbol, kernel.shape[2:])
        highest = symbol.singular(start)[0][:, -1].topk(min(_SUMMITS, len(start))).indices
        angles = start[highest]
        angles = angles + _ASIDE  # frequencies θ = −θ are critical points, not always maxima
        squares, vectors = symbol.singular(angles)
        trust = torch.ones_like(angles[:, :1])
        for _ in range(_STEPS):
            tried = angles + trust * _newton_step(symbol, angles, squares, vectors)
            new_squares, new_vectors = symbol.singular(tried)
            higher = (new_squares[:, -1] > squares[:, -1])[:, None]
            angles = torch.where(higher, tried, angles)
            squares = torch.where(higher, new_squares, squares)
            vectors = torch.where(higher[..., None], new_vectors, vectors)
            trust = torch.where(higher, 1.0, trust / 4)
        best = squares[:, -1].topk(1).indices
        angle, right = angles[best][0], vectors[best][0, :, -1]
    return norm_at(kernel, angle, right)


def _peaks(symbol: Symbol, kernel_size: torch.Size) -> Tensor:
    """The highest local maxima of the norm on a coarse grid, with shape (_PEAKS, 2)."""
    points = [max(1, _POINTS * (length - 1)) for length in kernel_size]
    angles = grid(points, symbol.taps)
    norms = symbol.approximate_norms(angles.flatten(0, 1)).view(angles.shape[:2])
    # The other half of the grid: S(−θ) is the conjugate of S(θ).
    mirrored = norms.flip(0).roll(1, 0)[:, 1 : (points[1] + 1) // 2].flip(1)
    whole = torch.cat([norms, mirrored], dim=1)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    around = torch.stack([whole.roll(shift, (0, 1)) for shift in shifts]).amax(dim=0)
    peaks = torch.where(norms >= around[:, : norms.shape[1]], norms, 0).flatten()
    return angles.flatten(0, 1)[peaks.topk(min(_PEAKS, len(peaks))).indices]


def _newton_step(symbol: Symbol, angles: Tensor, squares: Tensor, vectors: Tensor) -> Tensor:
    """A step towards a maximum of the largest eigenvalue λ of S*S, with shape (F, 2).

    With v its eigenvector and vⱼ the others: ∂ₖλ = 2 Re⟨Sv, Sₖv⟩, and ∂ₖₗλ = 2 Re(⟨Sₖv, Sₗv⟩ + ⟨Sv, Sₖₗv⟩)
    + 2 Re Σⱼ ⟨wₖ, vⱼ⟩⟨vⱼ, wₗ⟩ / (λ − λⱼ), where wₖ = S*Sₖv + Sₖ*Sv.  Where the curvature is not
    negative, and at the most, the step is half the spacing of the grid.
    """
    top = vectors[..., -1]
    waves, taps, offsets = symbol.waves(angles), symbol.taps.to(vectors), symbol.offsets
    slopes = 1j * waves[:, None] * offsets.mT  # (F, 2, P): e^{iθ·t} differentiated
    images = torch.einsum("poi,fi->fpo", taps, top)
    value = torch.einsum("fp,fpo->fo", waves, images)  # S v
    first = torch.einsum("fkp,fpo->fko", slopes, images)  # Sₖ v
    second = torch.einsum("fkp,pl,fpo->fklo", slopes, 1j * offsets, images)  # Sₖₗ v
    gradient = 2 * torch.einsum("fo,fko->fk", value.conj(), first).real

    pulled = torch.einsum("fp,poi,fko->fki", waves.conj(), taps, first)
    pulled = pulled + torch.einsum("fkp,poi,fo->fki", slopes.conj(), taps, value)
    others = torch.einsum("fij,fki->fkj", vectors.conj(), pulled)[..., :-1]
    gaps = (squares[:, -1:] - squares[:, :-1]).clamp_min(1e-9)
    hessian = torch.einsum("fko,flo->fkl", first.conj(), first)
    hessian = hessian + torch.einsum("fo,fklo->fkl", value.conj(), second)
    hessian = hessian + torch.einsum("fkj,flj->fkl", others.conj() / gaps[:, None], others)
    curvatures, axes = torch.linalg.eigh(2 * hessian.real)
    slopes = torch.einsum("fkl,fk->fl", axes, gradient)
    longest = torch.pi / _POINTS / symbol.offsets.amax().clamp_min(1.0)
    along = torch.where(curvatures < 0, -slopes / curvatures, longest * slopes.sign())
    return torch.einsum("fkl,fl->fk", axes, along.clamp(-longest, longest))
