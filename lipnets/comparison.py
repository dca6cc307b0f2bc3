"""Several evaluations on the same images: differences, and whether chance explains them.

Images are drawn once and seen by all networks, so that differences are taken image by image: intervals
are paired, and p values are McNemar's, exact.  Neither knows of the chance in training: another seed may
differ by as much.
"""

__all__ = ["compare"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .metrics import mcnemar, paired_difference, standard_radii
from .records import Record


def compare(runs: Mapping[str, Sequence[Record]]) -> list[Record]:
    """Compares evaluations, all others against the first, on the images that they share.

    It needs the columns `image/...`, one number for each image, which probes yield.  Records are
    `difference/accuracy`; `difference/certified_accuracy` and `difference/attacked_accuracy` at each standard
    radius; `difference/mean_radius`, with radii clipped to the diameter of the space of images;
    `difference/nll`; and `difference/corrupted_accuracy`, of means over the same corruptions, which is called
    relative robustness (Taori et al., 2020, https://arxiv.org/abs/2007.00644).  The value is that of the run
    minus that of the baseline; details are the `run`, the `baseline`, the ends `low` and `high` of the paired
    bootstrap interval of 95 %, and of shares the `p` value of McNemar's test with the numbers of images that
    only one has right.

    Arguments:
        runs: The records of each evaluation, by its name; the first is the baseline.

    Raises:
        ValueError: If there are fewer than two, if one lacks the columns, or if images are not the same.
    """
    if len(runs) < 2:
        raise ValueError(f"A comparison needs two evaluations at least, got {len(runs)}.")
    tables = {name: _Table(name, records) for name, records in runs.items()}
    (base, first), *others = tables.items()
    found = []
    for name, table in others:
        table.refuse_other_images(first)
        where = {"run": name, "baseline": base, "data": first.data, "sha256": first.sha256}
        found += list(_compared(first, table, where))
    return found


class _Table:
    """What an evaluation says of each image.

    Arguments:
        name: The name of the evaluation.
        records: Its records.
    """

    def __init__(self, name: str, records: Sequence[Record]) -> None:
        self.name = name
        columns = {r.name.removeprefix("image/"): r for r in records if r.name.startswith("image/")}
        missing = [each for each in ("label", "prediction") if each not in columns]
        if missing:
            raise ValueError(
                f"'{name}' does not say the {' and the '.join(missing)} of each image: evaluate it again, "
                "with the probe `certified`."
            )
        self.columns = {
            each: torch.tensor([float(value) for value in r.details["values"]], dtype=torch.float64)
            for each, r in columns.items()
        }
        self.places = {each: list(r.details["indices"]) for each, r in columns.items()}
        details = columns["label"].details
        self.data, self.sha256 = details.get("data", ""), details.get("sha256", "")
        self.proved = any(record.name == "certified_curve" for record in records)
        curves = [record for record in records if record.name == "mean_radius"]
        self.corrupted = [
            (r.details["corruptions"], r.details["severities"])
            for r in records
            if r.name == "corruption_mean" and r.details["family"] == "all"
        ]
        self.diameter = curves[0].details.get("diameter", torch.inf) if curves else torch.inf

    @property
    def right(self) -> Tensor:
        """Whether each prediction is the label."""
        return self.columns["label"] == self.columns["prediction"]

    def refuse_other_images(self, first: "_Table") -> None:
        """Refuses to be compared with what was measured on other images."""
        ways = "evaluate both with the same --data-dir and the same --limit"
        if self.sha256 != first.sha256 or self.data != first.data:
            raise ValueError(
                f"'{first.name}' and '{self.name}' were evaluated on other data, {first.data} "
                f"({first.sha256[:12]}) and {self.data} ({self.sha256[:12]}): {ways}."
            )
        if self.places["label"] != first.places["label"]:
            raise ValueError(
                f"'{first.name}' and '{self.name}' were evaluated on other images, "
                f"{len(first.places['label'])} and {len(self.places['label'])} of {self.data}: {ways}."
            )
        if not torch.equal(self.columns["label"], first.columns["label"]):
            raise ValueError(
                f"'{first.name}' and '{self.name}' have other labels of the same images: {ways}."
            )

    def shared(self, other: "_Table", column: str) -> tuple[Tensor, Tensor] | None:
        """Both columns; None if they are not of the same images."""
        if column not in self.columns or column not in other.columns:
            return None
        if self.places[column] != other.places[column]:
            return None
        return self.columns[column], other.columns[column]


def _compared(first: _Table, second: _Table, where: Mapping[str, Any]) -> Iterator[Record]:
    yield _shares("accuracy", first.right, second.right, {"kind": "measured", **where})
    radii = standard_radii(first.data)
    certified = first.shared(second, "radius")
    if certified and (first.proved or second.proved):
        ours, theirs = certified
        for radius in radii:
            details = {"radius": radius, "kind": "proved", **where}
            yield _shares("certified_accuracy", ours > radius, theirs > radius, details)
        largest = min(first.diameter, second.diameter)  # the same, of all that say it
        ours, theirs = (each.clamp(0.0, largest) for each in (ours, theirs))
        if ours.isfinite().all() and theirs.isfinite().all():
            yield _means("mean_radius", ours, theirs, "l2 pixels", {"kind": "proved", **where})
    attacked = first.shared(second, "attacked_radius")
    if attacked:
        ours, theirs = attacked
        for radius in radii:
            if radius > 0:
                details = {"radius": radius, "kind": "attained", **where}
                yield _shares("attacked_accuracy", ours > radius, theirs > radius, details)
    corrupted = first.shared(second, "right_when_corrupted")
    if corrupted and first.corrupted == second.corrupted:
        details = {"kind": "measured", **where}
        yield _means("corrupted_accuracy", *corrupted, "fraction", details)
    losses = first.shared(second, "nll")
    if losses and losses[0].isfinite().all() and losses[1].isfinite().all():
        yield _means("nll", losses[0], losses[1], "nats", {"kind": "measured", **where})


def _shares(name: str, first: Tensor, second: Tensor, details: Mapping[str, Any]) -> Record:
    found = paired_difference(first, second)
    more = {
        "first": float(first.double().mean()),
        "second": float(second.double().mean()),
        "low": found.low,
        "high": found.high,
        "p": mcnemar(first, second),
        "only_first": int((first & ~second).sum()),
        "only_second": int((second & ~first).sum()),
    }
    details = {**details, **more}
    return Record(f"difference/{name}", found.value, "fraction", len(first), details=details)


def _means(
    name: str, first: Tensor, second: Tensor, unit: str, details: Mapping[str, Any]
) -> Record:
    found = paired_difference(first, second)
    more = {"first": float(first.mean()), "second": float(second.mean())}
    details = {**details, **more, "low": found.low, "high": found.high}
    return Record(f"difference/{name}", found.value, unit, len(first), details=details)
