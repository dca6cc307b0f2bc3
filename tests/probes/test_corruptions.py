"""Tests of the probe of corruptions."""

import dataclasses

import pytest
import torch
from torch import nn

from lipnets.certify import certified_radii
from lipnets.data.corruptions import applicable, corrupt
from lipnets.probes import Subject, corruptions


def test_there_is_a_cell_for_every_corruption_and_severity(subject: Subject) -> None:
    records = list(corruptions()(subject))
    for name in ("corrupted_accuracy", "corrupted_certified_accuracy"):
        cells = [
            (record.details["corruption"], record.details["severity"])
            for record in records
            if record.name == name
        ]
        assert cells == [(each, severity) for each in applicable(1) for severity in range(1, 6)]


def test_shares_are_those_of_images_corrupted_one_by_one(
    subject: Subject, model: nn.Sequential
) -> None:
    probe = corruptions(names=["gaussian_noise", "contrast"], severities=[5], radius=0.05, seed=3)
    records = [record for record in probe(subject) if record.unit == "fraction"]
    for record in records[:4]:
        right, moved = 0, 0.0
        for index, (image, label) in enumerate(zip(subject.images, subject.labels, strict=True)):
            changed = corrupt(image[None], record.details["corruption"], 5, [index], seed=3)
            moved += (changed - image).double().norm().item() / len(subject)
            if record.name == "corrupted_accuracy":
                right += int(model(changed.double()).argmax() == label)
            else:
                right += int(certified_radii(model, changed, label[None]) > 0.05)
        assert record.value == right / len(subject)
        assert record.details["distance"] == pytest.approx(moved, rel=1e-6)


def test_every_cell_says_what_the_share_of_clean_images_is(subject: Subject) -> None:
    for record in corruptions(severities=[1], radius=0.1)(subject):
        if record.name == "corrupted_accuracy":
            right = subject.logits.argmax(dim=1) == subject.labels
            assert record.details["clean"] == right.double().mean()
        elif record.name == "corrupted_certified_accuracy":
            assert record.details["clean"] == (subject.radii > 0.1).double().mean()


def test_a_limit_takes_images_evenly(subject: Subject) -> None:
    records = list(corruptions(names=["gaussian_noise"], limit=6)(subject))
    assert {record.count for record in records if record.unit == "fraction"} == {6}
    assert records[0].details["images"] == "6 of 60, evenly spaced"


def test_the_order_of_images_does_not_matter(subject: Subject) -> None:
    order = torch.randperm(len(subject))
    shuffled = dataclasses.replace(
        subject,
        split=subject.split[order],
        indices=subject.indices[order],
        logits=subject.logits[order],
    )
    probe = corruptions(names=["impulse_noise", "speckle_noise"])
    values = [
        [record.value for record in probe(each) if not record.name.startswith("check/")]
        for each in (subject, shuffled)
    ]
    assert values[0] == values[1]


def test_what_was_checked_is_recorded(subject: Subject) -> None:
    checks = {r.name: r for r in corruptions()(subject) if r.name.startswith("check/")}
    cells = 5 * len(applicable(1))
    assert checks["check/lipschitz"].count == cells * len(subject)
    assert 0 < checks["check/lipschitz"].value <= 1
    assert 0 < checks["check/radius"].count < cells * len(subject)  # some are near, some are not
    assert 0 < checks["check/radius"].value < 1


def test_an_unknown_corruption_is_named(subject: Subject) -> None:
    with pytest.raises(ValueError, match="did you mean 'gaussian_noise'"):
        list(corruptions(names=["gausian_noise"])(subject))
