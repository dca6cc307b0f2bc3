"""Balls around images, within the box [0, 1]: lengths, projections, directions of ascent, noise."""

__all__ = ["Norm", "ascent", "fit", "lengths", "noise", "project", "to_plane"]

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..seeds import derived_seed

Norm = Literal["l2", "linf"]

_DOUBLINGS, _HALVINGS = 40, 30  # of steps to a plane
_ROUNDS = 30  # of the projection: each clamps more coordinates, and few are needed


def lengths(differences: Tensor, norm: Norm) -> Tensor:
    """The norm of each difference, with shape (B,)."""
    flat = differences.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1)


def project(points: Tensor, centers: Tensor, radii: Tensor, norm: Norm) -> Tensor:
    """The nearest points of the intersection of balls and the box, in ℓ2, to rounding.

    In ℓ2 it is clip(x + t (z − x)) with the largest t ≤ 1 that is within the radius: the Lagrangian
    of the ball turns z into a mean of z and x, and the box is separable.  Coordinates that reach the box
    at t stay there for larger ones, so that t grows from that of the ball alone.

    Arguments:
        points: The points z, with shape (B, *S).
        centers: The centers x, in [0, 1], with shape (B, *S).
        radii: The radii, with shape (B,).
        norm: Of the ball.
    """
    differences, radii = points - centers, per_row(radii, points)
    if norm == "linf":
        return (centers + differences.clamp(-radii, radii)).clamp(0, 1)
    flat, reach = differences.flatten(1), radii.flatten(1)
    size = flat.abs()
    room = torch.where(flat > 0, 1 - centers.flatten(1), centers.flatten(1))
    share = (reach / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp(max=1)
    for _ in range(_ROUNDS):
        free = size * share <= room
        left = reach.square() - room.masked_fill(free, 0).square().sum(dim=1, keepdim=True)
        moving = size.where(free, 0).square().sum(dim=1, keepdim=True)
        larger = (left.clamp_min(0) / moving.clamp_min(1e-30)).sqrt().clamp(max=1).maximum(share)
        if torch.equal(larger, share):
            break
        share = larger
    return (centers + differences * share.view_as(radii)).clamp(0, 1)


def fit(points: Tensor, centers: Tensor, radii: Tensor, norm: Norm) -> Tensor:
    """Points in float64 that are in the box, and within the radius however it is computed.

    Arguments:
        points: Points that are nearly so, with shape (B, *S).
        centers: The centers, in [0, 1], with shape (B, *S).
        radii: The radii, with shape (B,).
        norm: Of the ball.
    """
    centers, radii = centers.double(), radii.double()
    differences = points.double().clamp(0, 1) - centers
    # Each coordinate is rounded by 2⁻⁵³ at most, and the norm by far less than 1e-12 of it.
    inside = (radii * (1 - 1e-12) - 2**-52 * math.prod(centers.shape[1:]) ** 0.5).clamp_min(0)
    share = (inside / lengths(differences, norm).clamp_min(1e-300)).clamp(max=1)
    return (centers + differences * per_row(share, points)).clamp(0, 1)


def to_plane(centers: Tensor, normals: Tensor, points: Tensor, norm: Norm) -> Tensor:
    """The shortest ways from centers, within the box, to the planes through points with given normals.

    They are clip(x + s n) − x with the least s ≥ 0 that arrives, or for ℓ∞ with the signs of n: what
    they gain along the normal grows with s, so that s is found by bisection.

    Arguments:
        centers: The centers, in [0, 1], with shape (B, *S).
        normals: The normals, with shape (B, *S).
        points: The points of the planes, relative to the centers, with shape (B, *S).
        norm: Of the lengths of ways.

    Returns:
        The ways, with shape (B, *S): not finite where none arrives, or where normals are not.
    """
    normals = normals / per_row(normals.flatten(1).abs().amax(dim=1), normals)
    gains = (normals * points).flatten(1).sum(dim=1)
    steps = normals if norm == "l2" else normals.sign()

    def way(size: Tensor) -> Tensor:
        return (centers + per_row(size, centers) * steps).clamp(0, 1) - centers

    def arrives(size: Tensor) -> Tensor:
        return (normals * way(size)).flatten(1).sum(dim=1) >= gains

    low, high = torch.zeros_like(gains), lengths(points, "linf")
    for _ in range(_DOUBLINGS):
        there = arrives(high)
        if there.all():
            break
        high = torch.where(there, high, 2 * high)
    far = torch.where(arrives(high), 0.0, torch.nan)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        there = arrives(middle)
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return way(high) + per_row(far, centers)


def ascent(
    gradients: Tensor, points: Tensor, otherwise: Callable[[], Tensor], norm: Norm
) -> Tensor:
    """Steps of length 1 along gradients, as far as the box leaves room.

    Arguments:
        gradients: The gradients, with shape (B, *S).
        points: Where they were taken, with shape (B, *S).
        otherwise: Gives directions to go in where gradients are zero or not finite.
        norm: Of the steps.
    """
    outwards = torch.where(gradients > 0, points >= 1, points <= 0)
    flat = gradients.masked_fill(outwards, 0).flatten(1)
    largest = flat.abs().amax(dim=1, keepdim=True)
    usable = largest.isfinite() & (largest > 0)
    flat = flat / largest.where(usable, 1)
    if not usable.all():
        flat = flat.where(usable, otherwise().flatten(1))
    if norm == "linf":
        return flat.sign().view_as(points)
    return (flat / flat.norm(dim=1, keepdim=True)).view_as(points)


def noise(images: Tensor, indices: Tensor, norm: Norm, seed: int) -> Tensor:
    """A random direction of length 1 for each image, a function of the seed and its index.

    Arguments:
        images: What they should be like, with shape (·, *S).
        indices: The index of each image, with shape (B,).
        norm: Of the directions.
        seed: Which draw.
    """
    drawn = []
    for index in indices.tolist():
        generator = torch.Generator().manual_seed(derived_seed(seed, "attack", index))
        drawn.append(torch.randn(images.shape[1:], generator=generator, dtype=torch.float32))
    flat = torch.stack(drawn).to(images).flatten(1)
    scale = flat.norm(dim=1, keepdim=True) if norm == "l2" else flat.abs()
    return (flat / scale.clamp_min(1e-30)).view(-1, *images.shape[1:])


def per_row(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each row, in a shape that broadcasts to it."""
    return numbers.view(-1, *[1] * (like.ndim - 1))
