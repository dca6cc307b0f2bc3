"""How much better a network does off the distribution than its accuracy on it lets expect.

Accuracies of standard models on a shifted test set are close to a line in those on the test split, both as
logits log(p / (1 − p)).  Effective robustness is the height above that line.  Which models are standard,
trained on the same data and for accuracy alone, is for the user to say: no record tells.

References:
    | Measuring Robustness to Natural Distribution Shifts in Image Classification (Taori et al., 2020)
    | https://arxiv.org/abs/2007.00644
"""

__all__ = ["EffectiveRobustness", "effective_robustness"]

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..records import Record

LEAST = 10  # standard models of a fit

_ORIGIN = ("data", "sha256", "split", "weights", "images", "dtype")
# What must be the same of accuracies on one line: the test split, and what was made of it or taken beside it.
_ALIKE = ("data", "sha256", "split", "images", "of_shift", "corruptions", "severities", "seed")


def effective_robustness(
    records: Iterable[Record], standard: Sequence[Sequence[Record]]
) -> list[Record]:
    """Compares a network with what standard models of its accuracy have off the distribution.

    For each natural shift, and for the mean over all main corruptions, it is `effective_robustness`: the
    accuracy off the distribution minus `predicted`, that on the line at `clean`, the accuracy on it.  Details
    are the `shift`; the `slope`, the `intercept` and `r2` of the line; the number `standard` of models that
    it was fitted to, without the network itself; the accuracies `from` and `to` that they have; whether the
    network's is `extrapolated`, outside of these; and the ends `low` and `high` of the interval of the
    accuracy off the distribution, the line taken as it is.

    Arguments:
        records: The records of the network's evaluation, with the probes `shifts` or `corruptions`.
        standard: Those of standard models, with the same probes on the same images.

    Returns:
        The records; none if the network was not evaluated off the distribution.

    Raises:
        ValueError: If fewer than 10 standard models are others than the network, if one was not evaluated on
            the same shifts and images, or if an accuracy is 0 or 1.
    """
    return list(_compared(list(records), standard))


def _compared(records: list[Record], standard: Sequence[Sequence[Record]]) -> Iterator[Record]:
    for shift, record in _shifted(records).items():
        own = record.details.get("weights")
        points: dict[Any, tuple[float, float]] = {}
        for place, theirs in enumerate(standard):
            other = _shifted(theirs).get(shift)
            if other is None or any(
                other.details.get(key) != record.details.get(key) for key in _ALIKE
            ):
                raise ValueError(
                    f"Standard models should have been evaluated on the same images of '{shift}', and "
                    f"number {place + 1} was not: evaluate it with the same data and the same limit."
                )
            weights = other.details.get("weights")
            if weights is None or weights != own:  # a copy is no other model
                points[weights or place] = other.details["clean"], other.value
        line = EffectiveRobustness.fit(list(points.values()))
        clean = record.details["clean"]
        predicted = line.predicted(clean)
        details = {
            "shift": shift,
            "clean": clean,
            "accuracy": record.value,
            "predicted": predicted,
            "low": record.details["low"] - predicted,
            "high": record.details["high"] - predicted,
            "slope": line.slope,
            "intercept": line.intercept,
            "r2": line.r2,
            "standard": line.count,
            "from": line.reach[0],
            "to": line.reach[1],
            "extrapolated": line.extrapolates(clean),
            "kind": "estimate",
            **{k: record.details[k] for k in _ORIGIN if k in record.details},
        }
        yield Record(
            "effective_robustness",
            line(clean, record.value),
            "fraction",
            record.count,
            details=details,
        )


def _shifted(records: Iterable[Record]) -> dict[str, Record]:
    """Accuracies off the distribution, by the shift."""
    found: dict[str, Record] = {}
    for record in records:
        if record.name == "shifted_accuracy":
            found[record.details["shift"]] = record
        elif record.name == "corruption_mean" and record.details["family"] == "all":
            found["corruptions"] = record
    return found


@dataclass(frozen=True)
class EffectiveRobustness:
    """How far accuracy off the distribution is above what that on it predicts of standard models.

    Accuracies off the distribution are a line in those on it, both as logits log(p / (1 − p)).

    Arguments:
        slope: The slope of the line.
        intercept: Its height at an accuracy of 50 %.
        r2: The share of variance that it explains.
        reach: The least and the largest accuracy that it was fitted to.
        count: The number of models that it was fitted to.

    Example:
        >>> points = [(0.5 + 0.04 * i, 0.5 + 0.04 * i) for i in range(10)]
        >>> line = EffectiveRobustness.fit(points)
        >>> round(line(0.7, 0.75), 3), line.extrapolates(0.7), line.extrapolates(0.95)
        (0.05, False, True)
    """

    slope: float
    intercept: float
    r2: float
    reach: tuple[float, float]
    count: int

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]]) -> "EffectiveRobustness":
        """Fits the line by least squares.

        Arguments:
            points: Accuracies of standard models on and off the distribution, in (0, 1).

        Raises:
            ValueError: If there are fewer than 10, if an accuracy is not in (0, 1), or if all models
                are as good.
        """
        if len(points) < LEAST:
            raise ValueError(
                f"A fit should have at least {LEAST} standard models, got {len(points)}."
            )
        if not all(0 < share < 1 for point in points for share in point):
            raise ValueError("Accuracies should be in (0, 1): those of 0 and 1 have no logit.")
        x, y = ([_logit(point[axis]) for point in points] for axis in (0, 1))
        mean_x, mean_y = fmean(x), fmean(y)
        spread = math.fsum((each - mean_x) ** 2 for each in x)
        if spread == 0:
            raise ValueError("Models should differ in accuracy, and all have the same.")
        slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
        intercept = mean_y - slope * mean_x
        left = math.fsum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
        total = math.fsum((each - mean_y) ** 2 for each in y)
        r2 = 1 - left / total if total else 1.0
        on = [point[0] for point in points]
        return cls(slope, intercept, r2, (min(on), max(on)), len(points))

    def predicted(self, accuracy: float) -> float:
        """What standard models with this accuracy have off the distribution."""
        if not 0 < accuracy < 1:
            raise ValueError(f"'accuracy' should be in (0, 1), got {accuracy}.")
        return 1 / (1 + math.exp(-self.intercept - self.slope * _logit(accuracy)))

    def extrapolates(self, accuracy: float) -> bool:
        """Whether no model was as bad, or none as good."""
        return not self.reach[0] <= accuracy <= self.reach[1]

    def __call__(self, accuracy: float, shifted: float) -> float:
        """The effective robustness of a model: accuracy off the distribution, minus the predicted."""
        return shifted - self.predicted(accuracy)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
