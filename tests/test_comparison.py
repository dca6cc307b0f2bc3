"""Tests of comparisons: of evaluations in which every image is known."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from scipy.stats import binomtest

from lipnets.comparison import compare
from lipnets.records import Record


def run(
    radii: Sequence[float],
    attacked: Sequence[float] | None = None,
    *,
    labels: Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    sha256: str = "ab",
    proved: bool = True,
) -> list[Record]:
    """An evaluation with given certified radii: images of a negative one are wrong."""
    count = len(radii)
    labels = list(labels or [index % 3 for index in range(count)])
    guesses = [
        label if radius >= 0 else (label + 1) % 3
        for label, radius in zip(labels, radii, strict=True)
    ]
    columns: dict[str, Sequence[Any]] = {"label": labels, "prediction": guesses, "radius": radii}
    if attacked is not None:
        columns["attacked_radius"] = attacked
    origin = {"indices": list(indices or range(count)), "data": "patterns", "sha256": sha256}
    records = []
    for name, values in columns.items():
        texts = [value if math.isfinite(value) else str(value) for value in values]
        details = {"values": texts, **origin}
        records.append(Record(f"image/{name}", 0.0, "1", count, details=details))
    if proved:
        details = {"diameter": 3.0}
        records.append(Record("certified_curve", 0.0, "l2 pixels", count))
        records.append(Record("mean_radius", 0.0, "l2 pixels", count, details=details))
    return records


BASE = [0.1, 0.2, 0.3, 0.5, -1.0, -1.0, 0.0, 2.0]
OTHER = [0.2, 0.2, -1.0, 0.5, 0.6, 0.3, 0.1, math.inf]


def found(records: Sequence[Record], name: str, radius: float | None = None) -> Record:
    (record,) = [
        r
        for r in records
        if r.name == f"difference/{name}" and (radius is None or r.details["radius"] == radius)
    ]
    return record


def test_differences_are_those_of_the_run_from_the_baseline() -> None:
    records = compare({"base": run(BASE), "other": run(OTHER)})
    accuracy = found(records, "accuracy")
    assert accuracy.value == pytest.approx(7 / 8 - 6 / 8)
    assert (accuracy.details["run"], accuracy.details["baseline"]) == ("other", "base")
    assert (accuracy.details["only_first"], accuracy.details["only_second"]) == (1, 2)
    assert accuracy.details["p"] == pytest.approx(binomtest(1, 3).pvalue)
    for radius in (0.0, 36 / 255, 1.0):
        ours, theirs = (sum(r > radius for r in radii) / 8 for radii in (BASE, OTHER))
        record = found(records, "certified_accuracy", radius)
        assert record.value == pytest.approx(theirs - ours)
        assert (record.details["first"], record.details["second"]) == (ours, theirs)
        assert record.details["low"] <= record.value <= record.details["high"]
        assert record.details["kind"] == "proved"


def test_accuracies_under_the_same_corruptions_are_compared() -> None:
    def corrupted(radii: Sequence[float], shares: Sequence[float], severity: int) -> list[Record]:
        details = {"family": "all", "corruptions": ["fog"], "severities": [severity]}
        column = {"values": list(shares), "indices": list(range(8))}
        return [
            *run(radii),
            Record("image/right_when_corrupted", 0.0, "fraction", 8, details=column),
            Record("corruption_mean", 0.0, "fraction", 8, details=details),
        ]

    ours, theirs = [0.0, 0.25, 0.5, 1.0] * 2, [0.5, 0.25, 0.5, 1.0] * 2
    first = corrupted(BASE, ours, 1)
    record = found(
        compare({"base": first, "other": corrupted(OTHER, theirs, 1)}), "corrupted_accuracy"
    )
    assert record.value == pytest.approx(0.125)
    assert (record.details["first"], record.details["second"]) == (0.4375, 0.5625)
    assert 0 <= record.details["low"] <= 0.125 <= record.details["high"] <= 0.5
    for other in (corrupted(OTHER, theirs, 2), run(OTHER)):
        names = [each.name for each in compare({"base": first, "other": other})]
        assert "difference/corrupted_accuracy" not in names


def test_infinite_radii_are_clipped_to_the_diameter_and_wrong_ones_to_zero() -> None:
    record = found(compare({"base": run(BASE), "other": run(OTHER)}), "mean_radius")
    assert record.details["first"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.5 + 2) / 8)
    assert record.details["second"] == pytest.approx((0.2 + 0.2 + 0.5 + 0.6 + 0.3 + 0.1 + 3) / 8)


def test_the_interval_is_paired() -> None:
    """One network is better by a hair on every image: intervals of each alone would overlap."""
    base = [0.01 * index for index in range(100)]
    record = found(compare({"a": run(base), "b": run([r + 0.01 for r in base])}), "mean_radius")
    assert record.details["low"] == pytest.approx(0.01)
    assert record.details["high"] == pytest.approx(0.01)


def test_attacked_radii_are_compared_where_both_were_attacked() -> None:
    first, second = run(BASE, [0.5] * 8), run(OTHER, [0.5, 0.1, 0.0, 0.6, 0.7, 0.5, 0.3, math.inf])
    record = found(compare({"a": first, "b": second}), "attacked_accuracy", 108 / 255)
    assert (record.details["first"], record.details["second"]) == (1.0, 5 / 8)
    assert record.details["kind"] == "attained"
    names = {r.name for r in compare({"a": first, "b": run(OTHER)})}
    assert "difference/attacked_accuracy" not in names


def test_a_run_is_no_better_than_itself() -> None:
    for record in compare({"a": run(BASE), "b": run(BASE)}):
        assert record.value == 0
        assert record.details["low"] == record.details["high"] == 0
        assert record.details.get("p", 1.0) == 1.0


def test_all_others_are_compared_with_the_first() -> None:
    records = compare({"a": run(BASE), "b": run(OTHER), "c": run(BASE)})
    pairs = {(r.details["baseline"], r.details["run"]) for r in records}
    assert pairs == {("a", "b"), ("a", "c")}
    assert json.loads(json.dumps([record.to_dict() for record in records]))


def test_nothing_is_proved_of_two_networks_without_a_certificate() -> None:
    plain = run([0.0 if r >= 0 else -1.0 for r in BASE], proved=False)
    names = {r.name for r in compare({"a": plain, "b": plain})}
    assert names == {"difference/accuracy"}
    assert "difference/certified_accuracy" in {
        r.name for r in compare({"a": plain, "b": run(OTHER)})
    }


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (run(OTHER, sha256="cd"), "other data.*same --data-dir and the same --limit"),
        (run(OTHER[:4]), "other images, 8 and 4"),
        (run(OTHER, indices=[9, *range(1, 8)]), "other images"),
        (run(OTHER, labels=[1] * 8), "other labels"),
        ([Record("accuracy", 1.0, "fraction", 8)], "the label and the prediction.*`certified`"),
    ],
)
def test_what_is_not_of_the_same_images_is_refused(other: list[Record], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        compare({"base": run(BASE), "other": other})


def test_columns_of_other_images_are_not_paired() -> None:
    """A probe may see fewer images than others, and of each network others, as many of them."""

    def attacked(chosen: range) -> list[Record]:
        details = {"values": [1.0] * len(chosen), "indices": list(chosen)}
        details |= {"data": "patterns", "sha256": "ab"}
        column = Record("image/attacked_radius", 1.0, "l2 pixels", len(chosen), details=details)
        return [*run(BASE), column]

    few, same = attacked(range(4)), attacked(range(4))
    assert any("attacked" in r.name for r in compare({"a": few, "b": same}))
    for other in (range(4, 8), range(6)):
        records = compare({"a": few, "b": attacked(other)})
        assert records
        assert not any("attacked" in r.name for r in records)


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="two evaluations at least, got 1"):
        compare({"base": run(BASE)})
