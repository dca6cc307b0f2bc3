"""Metrics: what one number an example, or an average of examples, says about a classifier.

All are pure functions of logits, labels and radii.  Conventions:

- The prediction is the class of the largest logit, the first one on ties.  A row that holds a
  logit that is not finite predicts nothing: it is wrong, whatever the label.
- An average is a total over all examples divided by their number, never a mean of batch means.
- Certified accuracy is strict: radius > ε.  The ball that a radius certifies is open, and a tie
  has radius 0, so that the certified accuracy at 0 leaves ties out, where the accuracy does not.

References:
    | The use of confidence or fiducial limits (Clopper & Pearson, 1934)
    | https://doi.org/10.1093/biomet/26.4.404
    | MACER, for the average certified radius (Zhai et al., 2020) https://arxiv.org/abs/2001.02378
"""

__all__ = [
    "RADII",
    "CertifiedCurve",
    "accuracy",
    "bootstrap_mean",
    "certified_accuracy",
    "clopper_pearson",
    "correct",
    "margins",
    "mean_radius",
    "mean_radius_of_correct",
    "predictions",
]

import math
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor

RADII = (0.0, 36 / 255, 72 / 255, 108 / 255, 1.0)  # where the field reports: ℓ2, [0, 1] pixels


def predictions(logits: Tensor) -> Tensor:
    """The class of the largest logit, the first one on ties.

    Arguments:
        logits: The logits, with shape (B, K).

    Returns:
        The classes, with shape (B,); −1 where a logit is not finite.
    """
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"'logits' should have shape (B, K), K > 0, got {tuple(logits.shape)}.")
    finite = logits.isfinite().all(dim=1)
    return torch.where(finite, logits.argmax(dim=1), -1)


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the prediction is the label.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, integers in [0, K), with shape (B,).

    Returns:
        Booleans, with shape (B,).

    Raises:
        ValueError: If the shapes do not fit, or if a label is not a class.
    """
    predicted = predictions(logits)
    _check_labels(logits, labels)
    return predicted == labels


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit of the label, minus the largest of the others.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, integers in [0, K), with shape (B,).

    Returns:
        The margins in float64, with shape (B,): −∞ where a logit is not finite, otherwise ∞ if
        there is one class only.
    """
    _check_labels(logits, labels)
    finite, logits = logits.isfinite().all(dim=1), logits.double()
    of_label = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    margin = (of_label - others).amin(dim=1)
    return torch.where(finite, margin, -torch.inf)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of predictions that are right.

    Raises:
        ValueError: If there are no examples, if the shapes do not fit, or a label is not a class.
    """
    return _share(correct(logits, labels))


def certified_accuracy(radii: Tensor, radius: float) -> float:
    """Share of examples with a certified radius above `radius`.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        radius: The radius ε, not negative, in the same unit.

    Raises:
        ValueError: If there are no examples, or if `radius` is negative.
    """
    return CertifiedCurve.of(radii)(radius)


def mean_radius(radii: Tensor, largest: float = math.inf) -> float:
    """Average certified radius: wrong predictions count as 0.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        largest: What radii are clipped to, such as the diameter of the space of images.

    Raises:
        ValueError: If there are no examples.
    """
    return CertifiedCurve.of(radii, largest).integral


def mean_radius_of_correct(radii: Tensor, largest: float = math.inf) -> float:
    """Average of the radii that are positive, 0 if none is: blind to the wrong predictions.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        largest: What radii are clipped to, such as the diameter of the space of images.
    """
    curve = CertifiedCurve.of(radii, largest)
    return math.fsum(curve.steps) / max(len(curve.steps), 1)


@dataclass(frozen=True)
class CertifiedCurve:
    """Certified accuracy as a function of the radius: the exact step function.

    It falls by 1 / count at each certified radius, is continuous from the right, and its integral
    is the average certified radius.

    Arguments:
        steps: The positive radii, in ascending order.
        count: The number of examples, those of radius 0 included.

    Example:
        >>> curve = CertifiedCurve.of(torch.tensor([0.5, -1.0, 0.25, 0.0]))
        >>> curve(0.0), curve(0.25), curve(0.5), curve.integral
        (0.5, 0.25, 0.0, 0.1875)
    """

    steps: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, radii: Tensor, largest: float = math.inf) -> "CertifiedCurve":
        """The curve of some examples.

        Arguments:
            radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
            largest: What radii are clipped to.

        Raises:
            ValueError: If there are no examples, or if a radius is not a number.
        """
        if radii.ndim != 1 or len(radii) == 0:
            raise ValueError(f"'radii' should have shape (B,), B > 0, got {tuple(radii.shape)}.")
        if radii.isnan().any():
            raise ValueError(f"Radius {radii.isnan().nonzero()[0].item()} is not a number.")
        positive = radii[radii > 0].double().clamp(max=largest)
        return cls(tuple(positive.sort().values.tolist()), len(radii))

    def __call__(self, radius: float) -> float:
        """Share of examples certified beyond `radius`."""
        if not radius >= 0:
            raise ValueError(f"'radius' should not be negative, got {radius}.")
        return self.certified(radius) / self.count

    def certified(self, radius: float) -> int:
        """Number of examples certified beyond `radius`."""
        return sum(step > radius for step in self.steps)

    @property
    def integral(self) -> float:
        """Area under the curve: the average certified radius."""
        return math.fsum(self.steps) / self.count


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


def _share(mask: Tensor) -> float:
    if mask.numel() == 0:
        raise ValueError("There is no average over no examples: the data are empty.")
    return int(mask.sum()) / mask.numel()


def _check_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "'logits' and 'labels' should have shapes (B, K) and (B,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"'labels' should be integers, got {labels.dtype}.")
    outside = ((labels < 0) | (labels >= logits.shape[1])).nonzero().flatten()
    if len(outside):
        index = int(outside[0])
        raise ValueError(
            f"Labels should be classes 0 to {logits.shape[1] - 1}, "
            f"got {int(labels[index])} at index {index}."
        )
