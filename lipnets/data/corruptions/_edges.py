"""Edges of images, and how far from them pixels are.

References:
    | A Computational Approach to Edge Detection (Canny, 1986)
    | https://doi.org/10.1109/TPAMI.1986.4767851
    | Distance Transforms of Sampled Functions (Felzenszwalb & Huttenlocher, 2012)
    | https://doi.org/10.4086/toc.2012.v008a019
"""

__all__ = ["canny", "distances", "grown"]

import torch
from torch import Tensor
from torch.nn import functional as F

from ._filters import Border, correlate, settle

_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def canny(
    images: Tensor, low: float, high: float, *, border: Border, absolute: bool = False
) -> Tensor:
    """Thin edges, strong somewhere and nowhere weak.

    Where the Sobel gradient is no less than at both points one step along it and against it, found
    by linear interpolation, is a ridge; an edge is a connected part of ridges above `low` that is
    somewhere above `high`.

    Arguments:
        images: Grey images, with shape (B, 1, H, W).
        low: The least gradient of an edge.
        high: The least of its largest one.
        border: What the gradient sees beyond the border; the outermost pixels are no edges.
        absolute: Whether to measure gradients by |gy| + |gx|, not by their ℓ2 norm.

    Returns:
        Booleans, with shape (B, 1, H, W).
    """
    kernel = torch.tensor(_SOBEL, dtype=torch.float64)
    gx, gy = (settle(correlate(images, each, border)) for each in (kernel, kernel.T))
    size = gx.abs() + gy.abs() if absolute else settle((gx.square() + gy.square()).sqrt())
    ridge = _is_ridge(size, gy, gx)
    ridge[:, :, (0, -1)] = False
    ridge[:, :, :, (0, -1)] = False
    return grown(ridge & (size >= high), ridge & (size >= low))


def _is_ridge(size: Tensor, gy: Tensor, gx: Tensor) -> Tensor:
    """Whether gradients are largest across their edge, and there are any."""
    padded = F.pad(size, [1, 1, 1, 1])
    height, width = size.shape[2:]

    def at(down: Tensor, right: Tensor) -> Tensor:
        rows = torch.arange(height, device=size.device)[:, None] + 1 + down
        columns = torch.arange(width, device=size.device) + 1 + right
        index = (rows * (width + 2) + columns).flatten(1)
        return padded.flatten(1).gather(1, index).view_as(size)

    sy, sx = gy.sign().long(), gx.sign().long()
    steep = gy.abs() >= gx.abs()
    long, short = torch.where(steep, gy, gx).abs(), torch.where(steep, gx, gy).abs()
    share = short / torch.where(long == 0, 1, long)  # how far to the diagonal
    peak = long > 0
    for sign in (1, -1):
        diagonal = at(sign * sy, sign * sx)
        straight = at(sign * sy * steep, sign * sx * ~steep)
        peak = peak & (settle(share * diagonal + (1 - share) * straight) <= size)
    return peak


def grown(seeds: Tensor, within: Tensor) -> Tensor:
    """The parts of a set, connected by sides or corners, that hold a seed.

    Arguments:
        seeds: Booleans, with shape (B, 1, H, W).
        within: The set, in the same shape.
    """
    reached = seeds & within
    while True:
        wider = F.max_pool2d(reached.float(), 3, stride=1, padding=1).bool() & within
        if torch.equal(wider, reached):
            return reached
        reached = wider


def distances(edges: Tensor, most: float) -> Tensor:
    """How far each pixel is from the nearest edge, at most `most`.

    Arguments:
        edges: Booleans, with shape (B, 1, H, W).
        most: The distance in pixels from which on distances do not matter.
    """
    height, width = edges.shape[2:]
    far = torch.where(edges, 0.0, most**2).double()
    for size in (height, width):  # along the columns, then along the rows
        line = torch.arange(size, dtype=torch.float64, device=edges.device)
        apart = (line[:, None] - line).square()  # (size, size)
        far = (far.mT[..., None, :] + apart).amin(dim=-1)  # of (B, 1, W, H) and again
    return far.clamp(max=most**2).sqrt()
