"""The polar factor of a matrix, by odd polynomials of it, and the derivative of what they compute.

References:
    | The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon Algorithm
    | (Amsel, Persson, Musco & Gower, 2025) https://arxiv.org/abs/2505.16932
    | Functions of Matrices: Theory and Computation (Higham, 2008), chapter 8
"""

__all__ = ["Step", "cubic", "polar"]

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ._dense import gram, plus_transpose, tall
from ._opaque import opaque

Step = tuple[float, float, float, float]
"""Coefficients a, b, c of p(x) = ax + bx³ + cx⁵ ≤ 1 on [l, 1], and the least value of p there."""

_LOWEST = 1e-3  # the smallest end l of an interval: below, G has no digits in float32
_RESTARTS = 3  # singular values above about 1e-9 of the largest become 1
_NEAR = 5.0  # times the root of ε: errors of G, of which a last cubic leaves some units of ε
_WELL = 0.1  # least singular value, relative to the largest, for the derivative of the limit
_SOLVED = {torch.float32: 1e-4, torch.float64: 1e-14}  # residuals of linear equations
_STEPS = 100
_LANCZOS = 12  # steps
_MARGIN = 3.0  # residuals


def cubic(low: float) -> Step:
    """The cubic ρx(3 − ρ²x²) / 2 that raises the least value on [l, 1] most, without exceeding 1.

    With ρ² = 3 / (1 + l + l²), it takes both ends of [l, 1] to the same value, its least, which is
    1 − 3(1 − l)² / 8 to second order.
    """
    scale = (3 / (1 + low + low**2)) ** 0.5
    least = scale * low * (3 - (scale * low) ** 2) / 2
    return 1.5 * scale, -0.5 * scale**3, 0.0, min(least, 1.0)


def polar(name: str, step: Callable[[float], Step], order: int) -> Callable[[Tensor], Tensor]:
    """Makes a map that replaces the singular values of matrices by 1; those that vanish stay below.

    The matrix is divided by a bound of its norm, and its singular values, in [l, 1], are sent to
    [l', 1] by one polynomial after another.  Where l was estimated too high, what is left behind is
    noticed at the end, and another round begins: the result is a contraction all along.

    Arguments:
        name: The name of the map.
        step: The polynomial for an interval [l, 1].
        order: The order of convergence of the last steps: their error is a power of the one before.

    Returns:
        A map to the nearest orthogonal matrix, for matrices of any shape (M, N).
    """

    def forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        return _steps(weight, step, order)

    apply = opaque(name, forward, _backward)
    return lambda weight: tall(apply, weight)


def _steps(
    weight: Tensor, step: Callable[[float], Step], order: int, *, proved: bool = False
) -> tuple[Tensor, Sequence[Tensor]]:
    """A chain of steps Y = XP, P = aI + bG + cG², G = XᵀX.

    Singular values above 1 would diverge: then all begins again with a bound of the norm that is
    `proved`, but larger.
    """
    eps = torch.finfo(weight.dtype).eps
    near, enough = _NEAR * eps**0.5, max(eps ** (1 / order), _NEAR * eps**0.5)
    matrix, product, scale, low = _normalized(weight, proved=proved)
    taken: list[float] = []
    saved: list[Tensor] = []
    start = matrix
    well, restarts, done = low >= _WELL, 0, False
    while not done:
        distance = _distance(product, enough, closely=1 - low <= 2 * enough)
        if not distance <= 2 * len(product) ** 0.5 and not proved:
            return _steps(weight, step, order, proved=True)
        done = distance <= enough
        if not done and 1 - low <= enough / 100:
            done = restarts == _RESTARTS
            restarts, low = restarts + 1, _lowest(product)
        if distance <= near:
            a, b, c, low = cubic(1 - distance / 2)
        else:
            a, b, c, low = step(1.0 if done else low)
        factor = product * b
        if c:
            factor.add_(gram(product), alpha=c)
        factor.diagonal().add_(a)
        saved += [matrix, product, factor]
        taken += [b, c]
        matrix = matrix @ factor
        if not done:
            product = gram(matrix)
    if well and not restarts:
        return matrix, [torch.tensor([scale], dtype=torch.float64), matrix, start]
    return matrix, [torch.tensor([scale, *taken], dtype=torch.float64), *saved]


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """With C the gradient of Y and S the symmetric part of XᵀC: CP + 2X(bS + c(GS + SG)).

    That of the limit where the matrix is well conditioned.
    """
    scale, *taken = saved[0].tolist()
    if not taken:
        return _limit_backward(saved[1], saved[2], grad).mul_(scale)
    for k in reversed(range(len(taken) // 2)):
        matrix, product, factor = saved[3 * k + 1 : 3 * k + 4]
        b, c = taken[2 * k : 2 * k + 2]
        inner = matrix.mT @ grad
        inner = plus_transpose(inner)  # 2S
        if c:
            turned = product @ inner
            inner = plus_transpose(turned).mul_(c).add_(inner, alpha=b)
        else:
            inner = inner * b
        grad = torch.addmm(grad @ factor, matrix, inner)
    return grad * scale


def _limit_backward(frame: Tensor, matrix: Tensor, grad: Tensor) -> Tensor:
    """Gradient of X from that of Q, where X = QH, with orthonormal Q and symmetric H.

    With dQ = QΩ + (I − QQᵀ) dX H⁻¹, Ω is skew and HΩ + ΩH = QᵀdX − dXᵀQ.  Hence, for a gradient C of Q
    and K = QᵀC, that of X is QY + (C − QK)H⁻¹ with HY + YH = K − Kᵀ.
    """
    root, inner = gram(frame, matrix), frame.mT @ grad
    total = frame @ _sylvester(root, plus_transpose(inner, -1))
    if frame.shape[0] > frame.shape[1]:
        rest = torch.addmm(grad, frame, inner, alpha=-1)
        total += torch.cholesky_solve(rest.mT, torch.linalg.cholesky(root)).mT
    return total


def _sylvester(root: Tensor, skew: Tensor) -> Tensor:
    """Solves HY + YH = B for skew B by conjugate gradients, with a product HY a step."""
    out, residual = torch.zeros_like(skew), skew
    direction = residual.clone()
    square = float(residual.square().sum())
    enough = _SOLVED[skew.dtype] ** 2 * square
    for _ in range(_STEPS):
        if not square > enough:
            break
        image = plus_transpose(root @ direction, -1)
        step = square / float((direction * image).sum())
        out.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        before, square = square, float(residual.square().sum())
        direction.mul_(square / before).add_(residual)
    return out


def _normalized(weight: Tensor, *, proved: bool) -> tuple[Tensor, Tensor, float, float]:
    """A matrix divided by a bound of its norm, its Gram matrix, the factor, and the least value."""
    largest = float(weight.abs().amax()) or 1.0
    scaled = weight / largest
    product = gram(scaled)
    low, high = _extremes(product)
    if proved:
        high = float(torch.linalg.matrix_norm(product, torch.inf))
    if not high > 0:
        return scaled, product, 0.0, 1.0
    return scaled * high**-0.5, product / high, high**-0.5 / largest, _least(low / high)


def _distance(product: Tensor, enough: float, *, closely: bool) -> float:
    """The norm of G − I, or a bound of it by that of Frobenius where that tells enough.

    And where it is not expected to be small, unless `closely`.

    An error of ε of the singular values is one of 2ε of G.
    """
    errors = product.clone()
    errors.diagonal().sub_(1)
    size = float(torch.linalg.matrix_norm(errors))
    if not closely or not enough < size <= enough * len(product) ** 0.5:
        return size
    low, high = _extremes(product)
    return max(abs(1 - low), abs(high - 1))


def _lowest(product: Tensor) -> float:
    return _least(_extremes(product)[0])


def _least(square: float) -> float:
    return min(max(square, _LOWEST**2) ** 0.5, 1.0)


def _extremes(product: Tensor) -> tuple[float, float]:
    """Guesses of the least and the largest eigenvalue of a matrix, a little outside.

    Lanczos' method from a fixed start, with residuals added, or some of them at the upper end.
    """
    size = product.shape[0]
    steps = min(size, _LANCZOS)
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, generator=generator, dtype=torch.float64).to(product)
    basis = product.new_zeros(steps, size)
    triangle = torch.zeros(steps, steps, dtype=torch.float64)
    norm = float(vector.norm())
    for i in range(steps):
        basis[i] = vector / norm
        vector = product @ basis[i]
        for _ in range(2):
            inside = basis[: i + 1] @ vector
            triangle[: i + 1, i] += inside.to("cpu", torch.float64)
            vector = vector - inside @ basis[: i + 1]
        norm = float(vector.norm())
        if not norm > 1e-30:
            triangle, norm = triangle[: i + 1, : i + 1], 0.0
            break
    values, vectors = torch.linalg.eigh(triangle, UPLO="U")
    residuals = norm * vectors[-1].abs()
    return float((values - residuals)[0]), float((values + _MARGIN * residuals)[-1])
