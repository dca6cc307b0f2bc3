"""Sums of sines on [0, 1), their spectra, and how high a Lipschitz function can swing at a frequency.

References:
    | On the spectral bias of neural networks (Rahaman et al., 2019)
    | https://arxiv.org/abs/1806.08734: the target, a sum of sines
    | A computable definition of the spectral bias (Kiessling & Thor, 2022): the error split at a frequency

What differs: errors are of complex amplitudes, as a ratio of absolute values would not see a wrong phase.

Throughout, `t_j = j/N` for j = 0, ..., N − 1, without the end 1, which is 0 again: with it, sines would not be
orthogonal.  The amplitude of a function f at frequency k is

    a_k = w_k |P_k|,    P_k = 1/N Σ_j f(t_j) exp(−2πi jk/N),

with w_k = 2, but 1 for k = 0 and for k = N/2, which are their own mirror images.
"""

__all__ = [
    "ceiling",
    "energies",
    "grid",
    "open_ceiling",
    "passage",
    "sampled_ceiling",
    "sines",
    "spectrum",
    "split",
]

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def grid(points: int) -> Tensor:
    """The points j/N in [0, 1), float64, with shape (N,)."""
    return torch.arange(points, dtype=torch.float64) / points


def sines(
    points: int, frequencies: Sequence[int], amplitudes: Sequence[float], phases: Sequence[float]
) -> Tensor:
    """The sum of A sin(2π(kt + φ)) over frequencies k, with shape (N,).

    Raises:
        ValueError: If a frequency is not between 0 and N/2, where grids tell sines apart.
    """
    if not all(0 < k < points / 2 for k in frequencies):
        raise ValueError(
            f"Frequencies should be between 0 and {points}/2, both excluded, got {list(frequencies)}."
        )
    t = grid(points)
    parts = zip(frequencies, amplitudes, phases, strict=True)
    return torch.stack([a * torch.sin(2 * math.pi * (k * t + p)) for k, a, p in parts]).sum(dim=0)


def spectrum(values: Tensor) -> Tensor:
    """The complex amplitudes w_k P_k of samples (..., N), with shape (..., N//2 + 1)."""
    points = values.shape[-1]
    return torch.fft.rfft(values.double(), norm="forward") * _mirrored(points)


def energies(amplitudes: Tensor, points: int) -> Tensor:
    """The mean of squares that each frequency has of N samples: they sum to that of f (Parseval)."""
    return amplitudes.abs().square() / _mirrored(points)


def ceiling(constant: float, k: int) -> float:
    """The highest amplitude 2L/(π²k) of a 1-periodic L-Lipschitz function on the line, k ≥ 1.

    *Proof.*  By parts, |∫ f exp(−2πikt) dt| = |∫ f′ exp(−2πikt) dt| / (2πk), and for the phase θ of the integral
    it is ∫ f′ cos(2πkt + θ) dt ≤ L ∫ |cos| = 2L/π.  Doubled, that is the bound; the triangle wave, with
    f′ = L sign cos, attains it. ∎
    """
    return 2 * constant / (math.pi**2 * k)


def sampled_ceiling(constant: float, k: int, points: int) -> float:
    """The bound of a_k of N samples of a 1-periodic L-Lipschitz function, 1 ≤ k ≤ N/2.

    It is above `ceiling`, which holds of the integral: in samples, frequencies N − k, N + k, ... of the function
    count as k, and those of the triangle wave have its phase.

    *Proof.*  With d_j = f(t_j) − f(t_{j−1}), indices modulo N, and z = exp(−2πik/N), summing by parts gives
    N P_k (1 − z) = Σ_j d_j z^j, where |1 − z| = 2 sin(πk/N) and |d_j| ≤ L/N.  For the phase θ of the sum it is
    Σ_j d_j cos(2πjk/N − θ) ≤ L/N Σ_j |cos(2πjk/N − θ)|.  With M = N / gcd(N, k), the angles are M points a distance
    of 2π/M apart, each N/M times.  Modulo π they are n points a distance of π/n apart, where n = M/2 for even M
    (each twice) and n = M for odd M.  A sum of |cos| over such points is the real part of n consecutive
    terms of a geometric series, so at most 1/sin(π/2n).  Hence the sum over all N is at most N/n / sin(π/2n),
    and a_k ≤ w_k L / (2 N n sin(π/2n) sin(πk/N)).  For even M the signs of the cosines sum to 0, so that
    d is of a periodic f, which attains it: the triangle wave with its kinks on the grid, where k divides N. ∎
    """
    order = points // math.gcd(points, k)
    n = order // 2 if order % 2 == 0 else order
    doubled = float(_mirrored(points)[k])
    return (
        doubled
        * constant
        / (2 * points * n * math.sin(math.pi / (2 * n)) * math.sin(math.pi * k / points))
    )


def open_ceiling(constant: float, k: int, points: int, jump: float | None = None) -> float:
    """The bound of a_k of N samples of an L-Lipschitz function on [0, 1), periodic or not, 1 ≤ k ≤ N/2.

    A network on [0, 1) need not end where it began, and what it jumps by has all frequencies: the bound is
    w_k L / (2 N sin(πk/N)), about L/(πk) for small k, π/2 times that of periodic functions.  The ramp f = Lt
    attains it.

    *Proof.*  As in `sampled_ceiling`, N P_k (1 − z) = Σ_j d_j z^j, where now |d_j| ≤ L/N for j = 1, ..., N − 1
    only, and d_0 = f(t_0) − f(t_{N−1}) = −Σ_{j≥1} d_j.  Hence the sum is Σ_{j≥1} d_j (z^j − 1).  For its phase θ it
    is at most L/N Σ_j |cos(2πjk/N + θ) − cos θ|, and |cos(2a + θ) − cos θ| = 2 |sin a| |sin(a + θ)|
    ≤ sin² a + sin²(a + θ), where a = πjk/N.  As j goes through 0, ..., N − 1, sums of sin² of both are N/2, for
    k is no multiple of N.  Hence |N P_k (1 − z)| ≤ L. ∎

    Arguments:
        constant: The constant L.
        k: The frequency.
        points: The number N of samples.
        jump: The jump |f(t_0) − f(t_{N−1})|, if it is known: then the bound of periodic functions holds with
            what d_0 exceeds L/N by added, w_k (jump − L/N)₊ / (2N sin(πk/N)), which is often less.
    """
    reach = float(_mirrored(points)[k]) / (2 * points * math.sin(math.pi * k / points))
    bound = constant * reach
    if jump is None:
        return bound
    excess = max(0.0, jump - constant / points)
    return min(bound, sampled_ceiling(constant, k, points) + excess * reach)


def passage(steps: Sequence[int], errors: Sequence[float], threshold: float) -> float:
    """The first step at which an error is at most a threshold; infinite if it never is.

    Example:
        >>> passage([0, 10, 20], [1.0, 0.04, 0.2], threshold=0.05)
        10
    """
    return next((s for s, e in zip(steps, errors, strict=True) if e <= threshold), math.inf)


def split(residuals: Tensor, target: Tensor, points: int) -> tuple[int, float, Tensor]:
    """How much more of an error is at high frequencies than at low ones.

    The frequency between both halves the target, and not the error at the start, which is the same for networks
    that begin near 0 alone: one that begins elsewhere has most of it in its mean.

    Arguments:
        residuals: The amplitudes of the error over time, with shape (T, N//2 + 1).
        target: The amplitudes of the target, with shape (N//2 + 1,).
        points: The number N of samples.

    Returns:
        The frequency ω₀ for which the energies of the target below it, and from it on, are nearest to half
        each; SB = (e_high − e_low) / (e_high + e_low) in [−1, 1] of the target; and SB of the error, with
        shape (T,), nan without error.
    """
    below = energies(target, points).cumsum(dim=0)  # up to k, included
    off = (below[:-1] / below[-1] - 0.5).abs()
    edge = int((off * 1e9).round().argmin()) + 1  # the lower of two that differ by rounding alone

    def bias(amplitudes: Tensor) -> Tensor:
        energy = energies(amplitudes, points)
        low, high = energy[..., :edge].sum(dim=-1), energy[..., edge:].sum(dim=-1)
        return (high - low) / (high + low)

    return edge, bias(target).item(), bias(residuals)


def _mirrored(points: int) -> Tensor:
    """How many frequencies of all N are k or its mirror image, with shape (N//2 + 1,)."""
    weights = torch.full((points // 2 + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1
    if points % 2 == 0:
        weights[-1] = 1
    return weights
