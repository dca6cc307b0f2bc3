"""Errors on corrupted images, relative to those of another network.

References:
    | Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (Hendrycks &
    | Dietterich, 2019), for mCE and relative mCE https://arxiv.org/abs/1903.12261
"""

__all__ = ["Ratio", "baseline_errors", "mce", "read_records"]

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

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
            raise ValueError(
                f"The baseline should have the same severities of '{name}': evaluate both with the same "
                "of --quick and --full."
            )
        above = math.fsum(errors[cell] - clean[0] for cell in cells)
        below = math.fsum(baseline[cell] - clean[1] for cell in cells)
        if below == 0:
            undefined.append(name)
        else:
            ratios[name] = above / below
    mean = fmean(ratios.values()) if ratios else math.nan
    return Ratio(mean, ratios, tuple(undefined))


def baseline_errors(
    records: Iterable[Record], provenance: Mapping[str, Any] | None = None
) -> tuple[dict[tuple[str, int], float], float]:
    """The errors that another evaluation found, by corruption and severity, and without corruption.

    Arguments:
        records: Its records.
        provenance: What records of this evaluation say of their data, which should be the same.

    Raises:
        ValueError: If it was not evaluated on corruptions, or on other data.
    """
    cells = [record for record in records if record.name == "corrupted_accuracy"]
    if not cells:
        raise ValueError("The baseline should have been evaluated on corruptions, and was not.")
    for key in ("data", "sha256"):
        ours, theirs = (provenance or {}).get(key), cells[0].details.get(key)
        if ours and theirs and ours != theirs:
            raise ValueError(
                "The baseline should have been evaluated on the same data: there 'corrupted_accuracy' "
                f"says {key} = {theirs}, here it is {ours}. Evaluate it on these, or name another."
            )
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
