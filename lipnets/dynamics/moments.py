"""What drives the norm of a weight in one step of SGD: means, variances, and how well they are known.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588: drift, diffusion and the curvature that noise feels
    | Sampling Techniques (Cochran, 1977), chapter 2: batches without replacement
    | Bootstrap methods: another look at the jackknife (Efron, 1979), for the errors

With the change D = −η g of a weight, log σ₁ changes by ⟨J,D⟩/σ₁ + D²σ₁(D)/(2σ₁) − (⟨J,D⟩/σ₁)²/2 up to
third order.  Over batches g = ḡ + ξ, where ξ has mean zero and covariance Σ, this has the mean

    −η⟨ḡ,J⟩/σ₁                            drift
    + η²⟨H,Σ⟩/(2σ₁)                       noise curvature
    − η² JᵀΣJ/(2σ₁²)                      Itô's term
    + η²(D²σ₁(ḡ)/σ₁ − ⟨ḡ,J⟩²/σ₁²)/2       deterministic: what the differential equation lacks

and the variance η² JᵀΣJ/σ₁².  What differs: the paper assumes that the noise of layers is uncorrelated; here
it is seen whether it is.
"""

__all__ = ["DRIVERS", "Estimate", "Moments", "Sampling", "moments", "network"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import Seen
from .singular import Top

DRIVERS = ("drift", "noise_curvature", "ito", "deterministic", "variance")


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn from the examples to train on, and how the examples that are looked at.

    These are drawn without replacement: with S² the covariance of the population, of divisor N − 1, the
    mean of n of them has covariance S² (1/n − 1/N), and the mean over samples of what they say of S² is S².

    Arguments:
        population: The number N of examples to train on.
        batch: The number B of examples of a batch.
        unit: The number b of examples that each gradient is the mean of.
        replacement: Whether batches are drawn with replacement.
    """

    population: int
    batch: int
    unit: int = 1
    replacement: bool = False

    @property
    def of_batch(self) -> float:
        """The covariance of the mean of a batch, in units of S²."""
        if self.replacement:
            return (1 - 1 / self.population) / self.batch
        return max(0.0, 1 / self.batch - 1 / self.population)

    def of_units(self, count: Tensor) -> Tensor:
        """The covariance of the mean of some gradients, in units of S²."""
        return (1 / (self.unit * count) - 1 / self.population).clamp_min(0)


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Moments:
    """The drivers of one weight, or of a network, in one step.

    Arguments:
        parts: For each of `DRIVERS`, its estimate, then the same without one of the U gradients each,
            with shape (1 + U,).
        changes: The change of log σ₁, to first order, by a step along each of the U gradients alone.
        sampling: How examples were drawn.
    """

    parts: dict[str, Tensor]
    changes: Tensor
    sampling: Sampling

    def __getitem__(self, name: str) -> Estimate:
        value, *_ = numbers = self.parts[name].tolist()
        without = torch.tensor(numbers[1:], dtype=torch.float64)
        count = len(without)
        left = max(0.0, 1 - self.sampling.unit * count / self.sampling.population)
        spread = without.var(correction=0) * (count - 1) * left
        return Estimate(value, math.sqrt(spread.item()))

    @property
    def mean(self) -> float:
        """The mean of the change of log σ₁ in a step."""
        names = ("drift", "noise_curvature", "ito", "deterministic")
        return sum(self.parts[name][0].item() for name in names)

    @property
    def spread(self) -> float:
        """The variance of what a step is seen to change less what is said here it would.

        The mean is of few examples itself: its own noise adds to that of the batch.
        """
        count = torch.tensor(len(self.changes), dtype=torch.float64)
        both = self.sampling.of_batch + self.sampling.of_units(count).item()
        if not self.sampling.of_batch:
            return self.sampling.unit * self.changes.var().item() * both
        return self.parts["variance"][0].item() * both / self.sampling.of_batch


def moments(top: Top, seen: Seen, lr: float, sampling: Sampling) -> Moments:
    """The drivers of the norm of a weight in one step of SGD.

    Squares of what is estimated are corrected for the noise of the estimate, so that each mean is that of
    the population, whatever the number of gradients.

    Arguments:
        top: The largest singular value of one matrix.
        seen: What is seen of U gradients, at least 3.
        lr: The learning rate.
        sampling: How examples were drawn.

    Raises:
        ValueError: If there are fewer than 3 gradients.
    """
    if len(seen.pushed) < 3:
        raise ValueError(f"Errors are of 3 gradients or more, got {len(seen.pushed)}.")

    def curved(pushed: Tensor, pulled: Tensor) -> Tensor:
        return lr**2 * (top.curvature_of(pushed[:, None], pulled[:, None]) / top.value)[:, 0].cpu()

    first = -lr * (top.slope_of(seen.pushed) / top.value).cpu()  # (U,)
    second = curved(seen.pushed, seen.pulled)
    of_mean = curved(_means(seen.pushed), _means(seen.pulled))  # (1 + U,)
    drift = _means(first)
    count = torch.full_like(drift, len(first) - 1)
    count[0] += 1
    scale = sampling.unit * count / (count - 1)
    noise = (scale * (_means(first.square()) - drift.square())).clamp_min(0)  # η² JᵀS²J / σ₁²
    felt = (scale * (_means(second) - of_mean)).clamp_min(0)  # η² ⟨H,S²⟩ / σ₁
    own = sampling.of_units(count)
    variance = sampling.of_batch * noise
    parts = {
        "drift": drift,
        "noise_curvature": sampling.of_batch * felt / 2,
        "ito": -variance / 2,
        "deterministic": ((of_mean - own * felt) - (drift.square() - own * noise)) / 2,
        "variance": variance,
    }
    return Moments(parts, first, sampling)


def network(layers: Sequence[Moments]) -> Moments:
    """The drivers of the sum of log σ₁ over layers, of the same gradients.

    Drivers are sums.  The variance is that of the sum; the one under the assumption that layers have
    uncorrelated noise, the sum of variances, is minus twice Itô's term.
    """
    sampling = layers[0].sampling
    parts = {name: sum_of([each.parts[name] for each in layers]) for name in DRIVERS}
    changes = sum_of([each.changes for each in layers])
    mean = _means(changes)
    count = torch.full_like(mean, len(changes) - 1)
    count[0] += 1
    noise = count / (count - 1) * (_means(changes.square()) - mean.square())
    parts["variance"] = sampling.of_batch * sampling.unit * noise.clamp_min(0)
    return Moments(parts, changes, sampling)


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(tensors)).sum(dim=0)


def _means(values: Tensor) -> Tensor:
    """The mean of U values, then that without each of them, with shape (1 + U, ...)."""
    total, count = values.sum(dim=0, keepdim=True), len(values)
    return torch.cat([total / count, (total - values) / (count - 1)])
