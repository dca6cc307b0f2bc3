"""Tests of the probe of calibration: the numbers are those of the metrics, of the right images."""

import dataclasses
import math

import pytest
import torch
from scipy.special import log_softmax

from lipnets.probes import Subject, calibration
from lipnets.records import Record


def by(records: list[Record], part: str, first: bool = True) -> dict[str, Record]:
    kept = [r for r in records if r.details.get("part") == part]
    kept = [r for r in kept if (r.details["temperature"] == 1.0) == first]
    return {r.name.removeprefix("calibration/"): r for r in kept}


def test_losses_are_minus_the_logarithm_of_the_label(subject: Subject) -> None:
    records = list(calibration()(subject))
    rows = zip(log_softmax(subject.logits.numpy(), axis=1), subject.labels.tolist(), strict=True)
    expected = [-row[label] for row, label in rows]
    assert records[0].name == "image/nll"
    assert records[0].details["values"] == pytest.approx(expected)
    assert by(records, "all")["nll"].value == pytest.approx(sum(expected) / 60)
    halves = [expected[i] for i in range(0, 60, 2)]
    assert by(records, "half")["nll"].value == pytest.approx(sum(halves) / 30)


def test_the_temperature_is_fitted_on_the_other_half(subject: Subject) -> None:
    changed = subject.logits.clone()
    changed[1::2] *= 100  # which only the fit sees
    records = list(calibration()(subject))
    other = list(calibration()(dataclasses.replace(subject, logits=changed)))
    before, after = by(records, "half", False)["nll"], by(other, "half", False)["nll"]
    ratio = after.details["temperature"] / before.details["temperature"]
    assert ratio == pytest.approx(100, rel=1e-6)
    assert by(records, "half")["nll"].value == by(other, "half")["nll"].value
    assert before.count == before.details["fitted_on"] == 30


def test_halves_are_of_the_same_images_in_whatever_order_they_come(subject: Subject) -> None:
    """Images of even indices are measured and those of odd ones fitted, wherever they stand."""
    logits = subject.logits.clone()
    logits[1::2] *= 100
    whole = dataclasses.replace(subject, logits=logits)
    expected = by(list(calibration()(whole)), "half", False)["nll"]
    shuffled = torch.cat([torch.arange(1, 60, 2), torch.arange(0, 60, 2)])  # odd ones first
    names = ("split", "indices", "logits")
    changed = {name: getattr(whole, name)[shuffled] for name in names}
    found = by(list(calibration()(dataclasses.replace(whole, **changed))), "half", False)["nll"]
    assert found.details["temperature"] == pytest.approx(expected.details["temperature"], rel=1e-6)
    assert found.value == pytest.approx(expected.value, rel=1e-6)


def test_a_network_whose_logits_were_scaled_is_calibrated_by_its_temperature(
    subject: Subject,
) -> None:
    scaled = dataclasses.replace(subject, logits=0.01 * subject.logits)
    records, plain = list(calibration()(scaled)), list(calibration()(subject))
    assert by(records, "half", False)["nll"].value == pytest.approx(
        by(plain, "half", False)["nll"].value
    )
    assert by(records, "half")["nll"].value == pytest.approx(math.log(4), abs=0.05)


def test_outputs_that_are_not_finite_are_left_out_and_counted(subject: Subject) -> None:
    logits = subject.logits.clone()
    logits[7] = math.nan
    records = list(calibration()(dataclasses.replace(subject, logits=logits)))
    ece = by(records, "all")["ece"]
    assert (ece.count, ece.details["left_out"]) == (59, 1)
    assert records[0].details["values"][7] == "inf"
    nothing = torch.full_like(logits, math.nan)
    assert list(calibration()(dataclasses.replace(subject, logits=nothing))) == []


def test_the_curve_holds_all_images(subject: Subject) -> None:
    curve = by(list(calibration()(subject)), "all")["curve"]
    assert sum(curve.details["held"]) == 60
    right = zip(curve.details["accuracy"], curve.details["held"], strict=True)
    hits = int((subject.logits.argmax(dim=1) == subject.labels).sum())
    assert sum(share * held for share, held in right) == pytest.approx(hits)
