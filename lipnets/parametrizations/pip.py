"""Division by a bound of the norm from a few powers of the Gram matrix (PIP).

References:
    | 1-Lipschitz Layers Compared: Memory, Speed, and Certifiable Robustness
    | (Prach, Brau, Buttazzo & Lampert, 2024) https://arxiv.org/abs/2311.16833
    | Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram Iteration
    | (Delattre, Barthélemy, Araujo & Allauzen, 2023) https://arxiv.org/abs/2305.16173

What differs: power iteration with stored vectors gives a norm from below, of weights that have moved
since, and layers in evaluation that are not those of training.  Here nothing is stored: ‖W‖²ᵖ is at
most the largest absolute row sum of (W*W)ᵖ, with p = 4 by two squarings.  Row sums take the place of
Frobenius norms of the second paper: as sharp at the worst, n^(1 / 4p), and exact where W is orthogonal.  The
derivative is that at the largest row, a sum of 2p outer products, not a product of matrices for each
squaring.  Convolutions take the symbol on a coarse grid, and the factor by which it may be
larger between its points (theorem C3 of `lipnets.convolutions`).
"""

__all__ = ["PIP"]

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ._kernels import OfKernels
from ._precision import full_precision, unit_scale

_SQUARINGS = 2
_POINTS = 4  # of the grid along an axis, for each degree of the symbol
_MARGIN = 32.0  # units of rounding, times the root of the side of matrices

Parts = tuple[Tensor, Tensor]  # the real and the imaginary part


class PIP(OfKernels):
    """Divides a matrix, or the kernel of each group of a convolution, by a bound of its norm.

    A matrix comes out with a norm of 1 / n^(1/16) at least, which is 0.65 for n = 1024, and of 1 where it
    is orthogonal; a kernel of 3 × 3 with 0.85 of that.  Only the direction of the raw weight matters,
    which has the shape of the constrained one, (O, I) or (O, I / groups, *K).  Zeros stay zeros.

    Arguments:
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        kernels = weight.reshape(self.groups, -1, *weight.shape[1:])  # (G, O, I, *K)
        kernels = unit_scale(kernels, dim=tuple(range(1, kernels.ndim)))
        slope = _slope(kernels.detach(), self.stride or (1,) * (weight.ndim - 2))
        # A function of degree 1 is its derivative times its argument.
        norms = (kernels * slope).flatten(1).sum(dim=1)
        norms = torch.where(norms > 0, norms, torch.ones_like(norms))
        return (kernels / norms.view(-1, *[1] * (kernels.ndim - 1))).view_as(weight)


@torch.no_grad()
def _slope(kernels: Tensor, stride: Sequence[int]) -> Tensor:
    """The derivative of the bound of each group, with the shape of the kernels."""
    groups, rows = kernels.shape[:2]
    taps, offsets = _taps(kernels, stride)  # (T, G, O, N)
    degrees = [max(along) for along in zip(*offsets, strict=True)]
    points = [_POINTS * degree or 1 for degree in degrees]
    angles, factor = _half_grid(points), 1.0
    for degree, count in zip(degrees, points, strict=True):
        factor /= math.cos(math.pi * degree / (2 * count))
    turns = (
        torch.tensor(angles, dtype=torch.float64) @ torch.tensor(offsets, dtype=torch.float64).mT
    )
    phases = (2 * math.pi * turns).to(kernels.device)
    cosines, sines = phases.cos().to(kernels), phases.sin().to(kernels)
    flat = taps.flatten(1)
    symbols = [(wave @ flat).view(-1, rows, taps.shape[3]) for wave in (cosines, sines)]
    wide = rows < taps.shape[3]
    parts = tuple(part.mT for part in symbols) if wide else tuple(symbols)
    one = len(taps) == 1  # a matrix, its own symbol
    bounds, powers = _real_bounds(parts[0]) if one else _bounds((parts[0], parts[1]))
    best = bounds.view(-1, groups).argmax(dim=0)  # (G,)
    chosen = best * groups + torch.arange(groups, device=best.device)
    bounds = bounds[chosen]
    scale = torch.where(bounds > 0, bounds, torch.ones_like(bounds))[:, None, None]
    if one:
        outer = _outer(parts[0][chosen] / scale, powers[0][chosen])
    else:
        real, imaginary = (part[chosen] / scale for part in parts)
        outer = _outer(torch.complex(real, imaginary), torch.complex(*(p[chosen] for p in powers)))
    if wide:
        outer = outer.mT
    side = min(rows, taps.shape[3])
    outer = outer * (factor * (1 + _MARGIN * side**0.5 * torch.finfo(kernels.dtype).eps))
    if not one:
        here, there = cosines[best].mT[:, :, None, None], sines[best].mT[:, :, None, None]
        outer = here * outer.real + there * outer.imag
    return _untapped(outer, kernels.shape, stride)


def _bounds(symbols: Parts) -> tuple[Tensor, Parts]:
    """Bounds of the norms of matrices S, (B,), and their (S*S)ᵖ over the largest row sums, (B, N, N).

    S*S is Hermitian: real parts are symmetric, imaginary ones skew.
    """
    real, imaginary = symbols
    stacked = torch.cat([real, imaginary], dim=1)
    mixed = torch.bmm(real.mT, imaginary)
    grams = (torch.bmm(stacked.mT, stacked), mixed - mixed.mT)
    total = torch.ones_like(real[:, 0, 0])
    for step in range(_SQUARINGS + 1):
        if step:
            mixed = torch.bmm(grams[0], grams[1])
            square = torch.bmm(grams[0], grams[0]).sub_(torch.bmm(grams[1], grams[1]))
            grams = (square, mixed - mixed.mT)
        sums = torch.hypot(*grams).sum(dim=2).amax(dim=1)
        total = total * sums ** (0.5 ** (step + 1))
        safe = torch.where(sums > 0, sums, torch.ones_like(sums))[:, None, None]
        grams = (grams[0] / safe, grams[1] / safe)
    return total, grams


def _real_bounds(matrices: Tensor) -> tuple[Tensor, Parts]:
    """As `_bounds`, for real matrices."""
    power, total = torch.bmm(matrices.mT, matrices), torch.ones_like(matrices[:, 0, 0])
    for step in range(_SQUARINGS + 1):
        power = torch.bmm(power, power) if step else power
        sums = power.abs().sum(dim=2).amax(dim=1)
        total = total * sums ** (0.5 ** (step + 1))
        power = power / torch.where(sums > 0, sums, torch.ones_like(sums))[:, None, None]
    return total, (power, power.new_empty(0))


def _outer(matrices: Tensor, powers: Tensor) -> Tensor:
    """The derivative of the bound by S, where the bound is 1, from S and (S*S)ᵖ.

    The row sum is Re(s* Gᵖ e) with G = S*S, e the unit vector of the row and s the phases of its
    entries: its derivative is the sum of S yᵢ xⱼ* + S xⱼ yᵢ* over i + j = p − 1, with yᵢ = Gⁱ s and
    xⱼ = Gʲ e; that of its root of order 2p takes 1 / 2p of it.
    """
    count = 2**_SQUARINGS
    rows = powers.abs().sum(dim=2).argmax(dim=1)  # (B,)
    each = torch.arange(len(rows), device=rows.device)
    column = powers[each, :, rows]
    phases = torch.where(column == 0, torch.zeros_like(column), torch.sgn(column))
    unit = F.one_hot(rows, powers.shape[1]).to(column)
    pairs, images = [torch.stack([unit, phases], dim=2)], []  # (B, N, 2), (B, M, 2)
    for _ in range(count):
        images.append(matrices @ pairs[-1])
        pairs.append(matrices.mH @ images[-1])
    xs, ys = (torch.stack([pair[..., i] for pair in pairs[:-1]], dim=2) for i in (0, 1))
    image_xs, image_ys = (torch.stack([pair[..., i] for pair in images], dim=2) for i in (0, 1))
    total = image_ys @ xs.flip(2).mH + image_xs.flip(2) @ ys.mH
    return total / (2 * count)


def _taps(kernels: Tensor, stride: Sequence[int]) -> tuple[Tensor, list[tuple[int, ...]]]:
    """The matrices K_t of kernels of phases, (T, G, O, I · phases), and the indices t."""
    axes = len(stride)
    pads = [
        pad for k, s in zip(kernels.shape[:2:-1], stride[::-1], strict=True) for pad in (0, -k % s)
    ]
    phases = F.pad(kernels, pads)
    for axis in range(axes):
        phases = phases.unflatten(3 + 2 * axis, (-1, stride[axis]))
    counts = phases.shape[3::2]
    order = [*range(3, 3 + 2 * axes, 2), 0, 1, 2, *range(4, 4 + 2 * axes, 2)]
    taps = phases.permute(order).reshape(
        -1, *kernels.shape[:2], kernels.shape[2] * math.prod(stride)
    )
    return taps, list(itertools.product(*map(range, counts)))


def _untapped(taps: Tensor, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """The inverse of `_taps`."""
    axes = len(stride)
    counts = [-(-k // s) for k, s in zip(shape[3:], stride, strict=True)]
    phases = taps.reshape(*counts, *shape[:3], *stride)
    order = [axes, axes + 1, axes + 2]
    for axis in range(axes):
        order += [axis, axes + 3 + axis]
    kernels = phases.permute(order).reshape(
        *shape[:3], *(n * s for n, s in zip(counts, stride, strict=True))
    )
    for axis in range(axes):
        kernels = kernels.narrow(3 + axis, 0, shape[3 + axis])
    return kernels


def _half_grid(points: Sequence[int]) -> list[list[float]]:
    """Fractions j / M of a turn along each axis, of one of each pair ±j."""
    kept = []
    for index in itertools.product(*map(range, points)):
        mirrored = tuple(-j % count for j, count in zip(index, points, strict=True))
        if index <= mirrored:
            kept.append([j / count for j, count in zip(index, points, strict=True)])
    return kept
