"""How far a number of some examples may be from that of all.

References:
    | The use of confidence or fiducial limits (Clopper & Pearson, 1934)
    | https://doi.org/10.1093/biomet/26.4.404
    | The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality (Massart, 1990)
    | https://doi.org/10.1214/aop/1176990746
    | Note on the sampling error of the difference between correlated proportions (McNemar, 1947)
    | https://doi.org/10.1007/BF02295996
"""

__all__ = [
    "Difference",
    "bootstrap_mean",
    "clopper_pearson",
    "clopper_pearson_low",
    "dkw",
    "mcnemar",
    "paired_difference",
]

import math
from dataclasses import dataclass

import torch
from scipy.special import bdtr, betaincinv
from torch import Tensor


def clopper_pearson(successes: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Exact interval of a proportion: holds it with probability at least 1 − `alpha`.

    Arguments:
        successes: The number of successes.
        trials: The number of independent trials; without any, the interval is [0, 1].
        alpha: The probability of missing, split between both sides.

    Returns:
        The ends of the interval, with 0 ≤ low ≤ successes / trials ≤ high ≤ 1.
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"'successes' should be in [0, trials], got {successes} of {trials} trials."
        )
    if not 0 < alpha < 1:
        raise ValueError(f"'alpha' should be in (0, 1), got {alpha}.")
    failures = trials - successes
    low = betaincinv(successes, failures + 1, alpha / 2) if successes else 0.0
    high = betaincinv(successes + 1, failures, 1 - alpha / 2) if failures else 1.0
    return float(low), float(high)


def clopper_pearson_low(successes: int, trials: int, alpha: float) -> float:
    """The lower end of the one-sided exact interval: the proportion is above it with 1 − `alpha`.

    Arguments:
        successes: The number of successes.
        trials: The number of independent trials.
        alpha: The probability of missing, all of it below.
    """
    if not 0 <= successes <= trials:
        raise ValueError(
            f"'successes' should be in [0, trials], got {successes} of {trials} trials."
        )
    if not 0 < alpha < 1:
        raise ValueError(f"'alpha' should be in (0, 1), got {alpha}.")
    return float(betaincinv(successes, trials - successes + 1, alpha)) if successes else 0.0


def dkw(count: int, alpha: float = 0.05) -> float:
    """Half the width of a band that holds a whole distribution function with 1 − `alpha` at least.

    A certified curve is one minus such a function: the band is the curve, plus and minus this.

    Arguments:
        count: The number of examples.
        alpha: The probability that the band misses anywhere.
    """
    if count < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"A band needs 'count' ≥ 1 and 'alpha' in (0, 1), got {count} and {alpha}."
        )
    return math.sqrt(math.log(2 / alpha) / (2 * count))


def bootstrap_mean(
    values: Tensor, resamples: int = 2000, alpha: float = 0.05, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of a mean, by percentiles: of about 1 − `alpha`, not exact.

    Arguments:
        values: One finite number an example, with shape (B,).
        resamples: The number of times that as many examples are drawn with replacement.
        alpha: The probability of missing, split between both sides.
        seed: Which draw.

    Returns:
        The ends of the interval.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"'values' should have shape (B,), B > 0, got {tuple(values.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    values, means = values.detach().cpu().double(), []
    for _ in range(resamples):
        draw = torch.randint(len(values), (len(values),), generator=generator)
        means.append(values[draw].mean())
    ends = torch.tensor([alpha / 2, 1 - alpha / 2], dtype=torch.float64)
    low, high = torch.stack(means).quantile(ends).tolist()
    return low, high


@dataclass(frozen=True)
class Difference:
    """The mean of one thing minus that of another, measured on the same examples.

    Arguments:
        value: The difference.
        low: The lower end of its bootstrap interval.
        high: The upper end.
    """

    value: float
    low: float
    high: float


def paired_difference(
    first: Tensor, second: Tensor, resamples: int = 2000, alpha: float = 0.05, seed: int = 0
) -> Difference:
    """The mean of `second` minus the mean of `first`, on the same examples.

    Examples are drawn together with both of their numbers, so that what makes an example hard for
    both does not widen the interval.

    Arguments:
        first: One finite number an example, with shape (B,).
        second: Another one, with shape (B,).
        resamples: The number of times that as many examples are drawn with replacement.
        alpha: The probability of missing, split between both sides.
        seed: Which draw.
    """
    if first.shape != second.shape:
        raise ValueError(
            "Pairs should be of the same examples, got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    differences = second.double() - first.double()
    low, high = bootstrap_mean(differences, resamples, alpha, seed)
    return Difference(float(differences.mean()), low, high)


def mcnemar(first: Tensor, second: Tensor) -> float:
    """The exact p value of McNemar's test that two classifiers are right equally often.

    Only examples that one has right and the other has wrong tell them apart: if both were as good,
    each of these would be a toss of a fair coin.

    Arguments:
        first: What the first has right, booleans with shape (B,).
        second: What the second has right, of the same examples.

    Returns:
        The p value, two-sided; 1 if no example tells them apart.
    """
    if first.shape != second.shape or first.dtype != torch.bool or second.dtype != torch.bool:
        raise ValueError(
            "McNemar's test takes two rows of booleans of the same examples, got "
            f"{tuple(first.shape)} of {first.dtype} and {tuple(second.shape)} of {second.dtype}."
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    tail = float(bdtr(min(only_first, only_second), only_first + only_second, 0.5))
    return min(1.0, 2 * tail)
