"""Accuracy off the distribution, relative to that of others.

References:
    | mCE and relative mCE: Hendrycks & Dietterich, 2019 https://arxiv.org/abs/1903.12261
    | Effective robustness: Measuring Robustness to Natural Distribution Shifts in Image Classification
      (Taori et al., 2020) https://arxiv.org/abs/2007.00644
"""

__all__ = ["EffectiveRobustness", "Ratio", "baseline_errors", "mce", "read_records"]

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from ..records import Record

Errors = Mapping[tuple[str, int], float]  # by corruption and severity


@dataclass(frozen=True)
class Ratio:
    """Errors relative to a baseline, and their mean.

    Arguments:
        mean: The mean over the corruptions whose ratio is defined; NaN if none is.
        ratios: The ratio of each of them.
        undefined: The corruptions on which the baseline loses nothing: there is no ratio.
    """

    mean: float
    ratios: dict[str, float]
    undefined: tuple[str, ...]


def mce(
    errors: Errors,
    baseline: Errors,
    names: Iterable[str],
    clean: tuple[float, float] = (0.0, 0.0),
) -> Ratio:
    """The mean over corruptions of Σ(E − E_clean) / Σ(B − B_clean), sums over severities.

    With clean errors of 0 it is mCE, with those of the two networks it is relative mCE.

    Arguments:
        errors: The errors E, by corruption and severity.
        baseline: Those of the baseline, of the same severities.
        names: The corruptions.
        clean: The errors of both without corruption.

    Raises:
        ValueError: If a severity is missing in either.

    Example:
        >>> mce({("fog", 1): 0.25, ("fog", 2): 0.5}, {("fog", 1): 0.5, ("fog", 2): 1.0}, ["fog"]).mean
        0.5
    """
    ratios: dict[str, float] = {}
    undefined = []
    for name in names:
        cells = sorted(key for key in errors if key[0] == name)
        if not cells or cells != sorted(key for key in baseline if key[0] == name):
            raise ValueError(f"The baseline should have the same severities of '{name}'.")
        above = math.fsum(errors[cell] - clean[0] for cell in cells)
        below = math.fsum(baseline[cell] - clean[1] for cell in cells)
        if below == 0:
            undefined.append(name)
        else:
            ratios[name] = above / below
    mean = fmean(ratios.values()) if ratios else math.nan
    return Ratio(mean, ratios, tuple(undefined))


def baseline_errors(records: Iterable[Record]) -> tuple[dict[tuple[str, int], float], float]:
    """The errors that another evaluation found, by corruption and severity, and without corruption."""
    cells = [record for record in records if record.name == "corrupted_accuracy"]
    if not cells:
        raise ValueError("The baseline should have been evaluated on corruptions, and was not.")
    errors = {(r.details["corruption"], r.details["severity"]): 1 - r.value for r in cells}
    return errors, 1 - cells[0].details["clean"]


def read_records(path: str | Path) -> list[Record]:
    """Reads the records of an evaluation: a `records.jsonl`, or a run directory that has one.

    Raises:
        ValueError: If there is none, or if it is damaged.
    """
    path = Path(path)
    file = path / "evaluation" / "records.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return [Record(**json.loads(line)) for line in lines if line.strip()]
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"There are no records to compare with in '{file}': {error}") from None


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
        if len(points) < 10:
            raise ValueError(f"A fit should have at least 10 standard models, got {len(points)}.")
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
