"""Slopes that are attained, hence lower estimates of Lipschitz constants: never a `Bound`."""

__all__ = ["attained_slope"]

import torch
from torch import Tensor, nn


def attained_slope(
    module: nn.Module, points: Tensor, *, steps: int = 40, ascents: int = 2
) -> float:
    """Largest norm of the Jacobian of `module` that is found near some points.

    At each point, power iteration on JᵀJ finds the direction of steepest change; the point then
    follows the gradient of that slope, and is kept where it became steeper.

    Arguments:
        module: A module in evaluation mode, in float64 for the slope to be exact to rounding.
        points: The points to start from, with shape (B, *S); examples must not interact.
        steps: The number of power iterations at each point.
        ascents: How many times the points are moved.

    Returns:
        The slope ‖J(x)v‖ / ‖v‖ of one point x and direction v: the Lipschitz constant in exact
        arithmetic is not smaller.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    directions = _unit(noise.to(points))
    best, best_slopes = points.detach(), torch.zeros(len(points)).to(points)
    moved, scale = best, points.detach().flatten(1).norm(dim=1).mean().clamp_min(1.0)
    for ascent in range(ascents + 1):
        tried, slopes = _power_iteration(module, moved, directions, steps)
        better = slopes > best_slopes
        keep = better.view(-1, *[1] * (points.ndim - 1))
        best, best_slopes = torch.where(keep, moved, best), torch.where(better, slopes, best_slopes)
        directions = torch.where(keep, tried, directions)
        if ascent < ascents:
            gradients = _slope_gradients(module, best, directions)
            moved = best + 0.1 * scale * 2.0**-ascent * _unit(gradients)
    return best_slopes.max().item()


def _power_iteration(
    module: nn.Module, points: Tensor, directions: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Directions that J stretches most, and by how much, with shapes (B, *S) and (B,)."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        outputs = module(points.clone())  # which may work in place
        dual = torch.zeros_like(outputs, requires_grad=True)
        if not outputs.requires_grad:  # a constant function
            return directions, torch.zeros(len(points)).to(points)
        (pulled,) = torch.autograd.grad(
            outputs, points, dual, create_graph=True, materialize_grads=True
        )
    slopes = torch.zeros(len(points)).to(points)
    for step in range(steps + 1):
        pushed = _push(pulled, dual, directions)  # J v
        slopes = pushed.flatten(1).norm(dim=1) / directions.flatten(1).norm(dim=1)
        if step == steps or not slopes.any():
            break
        (back,) = torch.autograd.grad(outputs, points, pushed, retain_graph=True)
        zero = ~back.flatten(1).any(dim=1).view(-1, *[1] * (points.ndim - 1))
        directions = torch.where(zero, directions, _unit(back))
    return directions, slopes


def _push(pulled: Tensor, dual: Tensor, directions: Tensor) -> Tensor:
    """J v, as the derivative of Jᵀu in u: works for every module that has a double backward."""
    if not pulled.requires_grad:
        return torch.zeros_like(dual)
    (pushed,) = torch.autograd.grad(
        pulled, dual, directions, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return pushed


def _slope_gradients(module: nn.Module, points: Tensor, directions: Tensor) -> Tensor:
    """Gradients of ‖J(x)v‖² in x; zero for piecewise linear functions, noise then takes over."""
    points = points.detach().requires_grad_()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64).to(points)
    with torch.enable_grad():
        outputs = module(points.clone())
        if not outputs.requires_grad:  # a constant function
            return noise
        dual = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(
            outputs, points, dual, create_graph=True, materialize_grads=True
        )
        if not pulled.requires_grad:
            return noise
        (pushed,) = torch.autograd.grad(
            pulled, dual, directions, create_graph=True, allow_unused=True, materialize_grads=True
        )
        if not pushed.requires_grad:
            return noise
        (gradients,) = torch.autograd.grad(
            pushed.square().sum(), points, allow_unused=True, materialize_grads=True
        )
    flat = gradients.flatten(1)
    dead = ~(flat.isfinite().all(dim=1) & flat.any(dim=1))
    return torch.where(dead.view(-1, *[1] * (points.ndim - 1)), noise, gradients)


def _unit(vectors: Tensor) -> Tensor:
    norms = vectors.flatten(1).norm(dim=1).clamp_min(1e-300)
    return vectors / norms.view(-1, *[1] * (vectors.ndim - 1))
