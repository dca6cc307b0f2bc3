"""Tests of the probe of natural shifts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lipnets.data import Split
from lipnets.data.digits import digits
from lipnets.metrics import clopper_pearson
from lipnets.probes import Subject, shifts
from lipnets.probes.shifts import difference


def _subject(name: str, data_dir: Path | None, channels: int = 1, side: int = 28) -> Subject:
    images = torch.rand(40, channels, side, side, dtype=torch.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 10)).eval()
    directory = None if data_dir is None else str(data_dir)
    split = Split(images, torch.arange(40) % 10)
    return Subject.of(model, split, provenance={"data": name}, data_dir=directory)


def test_digits_of_scikit_learn_are_a_shift_of_mnist() -> None:
    subject = _subject("mnist", None)
    records = {r.name: r for r in shifts(limit=50)(subject)}
    assert records["shifts"].value == 1
    accuracy = records["shifted_accuracy"]
    assert (accuracy.count, accuracy.details["shift"]) == (50, "digits")
    whole = digits()
    images = torch.cat([whole.train.images, whole.test.images])
    labels = torch.cat([whole.train.labels, whole.test.labels])
    chosen = torch.arange(50) * len(labels) // 50
    larger = nn.functional.interpolate(images[chosen], size=(28, 28), mode="bilinear")
    right = int((subject.model(larger.double()).argmax(dim=1) == labels[chosen]).sum())
    assert accuracy.value == right / 50
    low, high = clopper_pearson(right, 50)
    assert (accuracy.details["low"], accuracy.details["high"]) == (low, high)
    gap = records["shift_gap"]
    assert gap.value == pytest.approx(accuracy.details["clean"] - accuracy.value)
    assert gap.details["low"] < gap.value < gap.details["high"]


def test_nothing_is_found_for_other_data_or_images() -> None:
    for subject in (_subject("patterns", None), _subject("mnist", None, side=8)):
        (record,) = shifts()(subject)
        assert (record.value, record.details["says"]) == (0, "none found")


def test_cifar_10_1_is_read_where_it_is(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "cifar10.1_v6_data.npy", arrays)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", np.arange(30) % 10)
    subject = _subject("cifar10", tmp_path, channels=3, side=32)
    records = [r for r in shifts()(subject) if r.name == "shifted_certified_accuracy"]
    assert [(r.details["shift"], r.count) for r in records] == [("cifar10.1_v6", 30)]


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # Table II of Newcombe (1998), method 10: 56/70 − 48/80 and 9/10 − 3/10.
    assert difference((56, 70), (48, 80)) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )
    assert difference((9, 10), (3, 10)) == (
        pytest.approx(0.1705, abs=5e-5),
        pytest.approx(0.8090, abs=5e-5),
    )
