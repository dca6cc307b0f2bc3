"""Whether probabilities are what they say.

References:
    | On Calibration of Modern Neural Networks (Guo et al., 2017) https://arxiv.org/abs/1706.04599
    | Verification of forecasts expressed in terms of probability (Brier, 1950)
    | Mitigating bias in calibration error estimation (Roelofs et al., 2022), for bins of equal numbers
    | https://arxiv.org/abs/2012.08668
"""

__all__ = [
    "Bins",
    "brier",
    "calibration_error",
    "fit_temperature",
    "log_probabilities",
    "negative_log_likelihoods",
    "reliability",
]

from dataclasses import dataclass
from typing import Any, cast

import torch
from scipy.optimize import brentq
from torch import Tensor

from .classification import correct


@dataclass(frozen=True)
class Bins:
    """Images in bins by the confidence of their prediction; bins without images are left out.

    Arguments:
        confidence: The mean confidence in each bin.
        accuracy: The share that is right in each bin.
        count: The number of images in each bin.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logarithms of the softmax of logits over a temperature, in float64.

    Arguments:
        logits: The logits, with shape (B, K).
        temperature: What logits are divided by.

    Raises:
        ValueError: If there are no logits, if one is not finite, or the temperature is not positive.
    """
    if logits.ndim != 2 or logits.numel() == 0 or not logits.isfinite().all():
        raise ValueError(
            f"Probabilities need finite logits of shape (B, K), got {tuple(logits.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"'temperature' should be positive, got {temperature}.")
    return (logits.double() / temperature).log_softmax(dim=1)


def negative_log_likelihoods(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Minus the logarithm of the probability of each label, in nats, with shape (B,)."""
    return -log_probabilities(logits, temperature).gather(1, labels[:, None])[:, 0]


def brier(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """The mean of Σ_k (p_k − [k is the label])², from 0 to 2."""
    probabilities = log_probabilities(logits, temperature).exp()
    target = torch.nn.functional.one_hot(labels, logits.shape[1])
    return float((probabilities - target).square().sum(dim=1).mean())


def reliability(
    logits: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    *,
    bins: int = 15,
    adaptive: bool = False,
) -> Bins:
    """Confidence and accuracy of predictions, in bins by confidence.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, with shape (B,).
        temperature: What logits are divided by.
        bins: The number of bins: ((m − 1)/M, m/M] of equal width, or of about as many images each.
        adaptive: Whether bins hold about as many images each; equal confidences share a bin.
    """
    if bins < 1:
        raise ValueError(f"'bins' should be at least 1, got {bins}.")
    confidence = log_probabilities(logits, temperature).amax(dim=1).exp()
    right = correct(logits, labels).double()
    if adaptive:
        shares = torch.arange(1, bins, dtype=torch.float64) / bins
        inner = confidence.quantile(shares, interpolation="lower")
    else:
        inner = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.searchsorted(inner, confidence)  # those at an edge belong below it
    count = torch.bincount(place, minlength=bins)
    held = count > 0
    mean, share = (
        torch.zeros(bins, dtype=torch.float64).index_add(0, place, each)[held] / count[held]
        for each in (confidence, right)
    )
    return Bins(tuple(mean.tolist()), tuple(share.tolist()), tuple(count[held].tolist()))


def calibration_error(bins: Bins) -> float:
    """The mean distance of confidence and accuracy over bins, by their numbers of images: ECE."""
    rows = zip(bins.confidence, bins.accuracy, bins.count, strict=True)
    return sum(count * abs(mean - share) for mean, share, count in rows) / sum(bins.count)


def fit_temperature(logits: Tensor, labels: Tensor, largest: float = 1e4) -> float:
    """The temperature at which the mean negative log-likelihood is least.

    It is convex in the inverse temperature β, and its derivative there is the mean of Σ_k p_k z_k − z_y.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, with shape (B,).
        largest: Where the search ends, of β and of 1/β, both times the size of logits.  It ends there if all
            labels lead, since no temperature is too small then, or if chance does better.

    Returns:
        The temperature; 1 if logits are all the same.
    """
    log_probabilities(logits)  # which refuses what is not finite
    logits = logits.double() - logits.double().mean(dim=1, keepdim=True)
    size = float(logits.abs().amax(dim=1).mean())
    if size == 0:
        return 1.0
    own = logits.gather(1, labels[:, None])[:, 0]

    def slope(scale: float) -> float:
        probabilities = (logits * (scale / size)).softmax(dim=1)
        return float(((probabilities * logits).sum(dim=1) - own).mean())

    if slope(1 / largest) >= 0:
        return size * largest
    if slope(largest) <= 0:
        return size / largest
    tolerance: Any = 1e-13
    return size / cast(float, brentq(slope, 1 / largest, largest, xtol=1e-14, rtol=tolerance))
