"""Frosted glass: pixels change places with neighbours, between two blurs."""

__all__ = ["glass_blur", "through_glass"]

import torch
from torch import Tensor

from ._draws import integers
from ._filters import blur_matrix, floor_levels, separable
from ._registry import Generators, corruptions


@corruptions.register
def glass_blur(images: Tensor, constants: tuple[float, int, int], generators: Generators) -> Tensor:
    """Blurs, cuts to 8 bits, moves pixels by at most 1, and blurs again.

    From the last pixel to the first, each is exchanged for one above or to the left of it or for
    itself.  In colour images it is copied, not exchanged: the script that made CIFAR-10-C exchanges
    two views of one array, and so overwrites the first before it is read.  Numbers are exchanged.
    """
    sigma, _, rounds = constants  # swaps reach one pixel at all severities
    moves = _moves(images, rounds, generators)
    return through_glass(images, sigma, moves, copies=images.shape[1] > 1)


def through_glass(images: Tensor, sigma: float, moves: Tensor, copies: bool) -> Tensor:
    """Blurs, cuts to 8 bits, moves pixels, and blurs again.

    Arguments:
        images: The images, with shape (B, C, H, W).
        sigma: The σ of both blurs, in pixels.
        moves: Where each pixel goes, −1 or 0 rows and columns, with shape (B, rounds, H, W, 2).
        copies: Whether pixels are copied, instead of exchanged.
    """
    rows, columns = (blur_matrix(size, sigma, "edge") for size in images.shape[2:])
    levels = floor_levels(separable(images, rows, columns))
    for each in moves.to(images.device).unbind(dim=1):
        levels = _copied(levels, each) if copies else _exchanged(levels, each)
    return separable(levels / 255, rows, columns)


def _moves(images: Tensor, rounds: int, generators: Generators) -> Tensor:
    height, width = images.shape[2:]
    return integers(generators, (rounds, height, width, 2), -1, 1)


def _copied(images: Tensor, moves: Tensor) -> Tensor:
    """Pixels at rows and columns from 2 on become what lies there: sources have not changed yet."""
    height, width = images.shape[2:]
    moves = moves.clone()
    moves[:, :2] = 0
    moves[:, :, :2] = 0
    rows = torch.arange(height, device=images.device)[:, None] + moves[..., 0]
    columns = torch.arange(width, device=images.device) + moves[..., 1]
    index = (rows * width + columns).flatten(1)[:, None]
    return images.flatten(2).gather(2, index.expand(-1, images.shape[1], -1)).view_as(images)


def _exchanged(images: Tensor, moves: Tensor) -> Tensor:
    """Exchanges pixels from the last row to row 2, and in each from the last column to column 2.

    An exchange at (h, w) touches (h − 1..h, w − 1..w).  Those with the same 2h + w touch different
    pixels, and those with a larger one that touch the same come before: they go in waves.
    """
    batch, channels, height, width = images.shape
    flat = images.flatten(2).clone()
    for wave in range(2 * (height - 1) + width - 1, 5, -1):
        h = torch.arange(2, height)
        w = wave - 2 * h
        inside = (w >= 2) & (w < width)
        h, w = h[inside].to(images.device), w[inside].to(images.device)
        here = (h * width + w).expand(batch, 1, -1)  # (B, 1, S)
        move = moves[:, h, w]  # (B, S, 2)
        there = here + (move[..., 0] * width + move[..., 1])[:, None]
        here, there = (each.expand(-1, channels, -1) for each in (here, there))
        first, second = flat.gather(2, here), flat.gather(2, there)
        flat.scatter_(2, here, second)
        flat.scatter_(2, there, first)
    return flat.view_as(images)
