"""Tests of the probe of certified accuracy: against distances to the boundaries of half-spaces."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from lipnets.data import Split
from lipnets.metrics import clopper_pearson
from lipnets.probes import Subject, certified


def distances(model: nn.Sequential, split: Split) -> list[float]:
    """Signed distances to the nearest boundary of the label's cell."""
    weight, bias = (tensor.detach().numpy() for tensor in model.get_submodule("head").parameters())
    found = []
    for image, label in zip(split.images.double().flatten(1).numpy(), split.labels, strict=True):
        normals, offsets = weight[label] - weight, bias[label] - bias
        others = [j for j in range(len(weight)) if j != label]
        planes = [(normals[j] @ image + offsets[j]) / np.linalg.norm(normals[j]) for j in others]
        found.append(min(planes))
    return found


def test_certified_accuracy_counts_distances_to_boundaries(
    subject: Subject, model: nn.Sequential, split: Split
) -> None:
    exact = distances(model, split)
    radii = (0.0, 0.05, 0.2, 0.6)
    records = list(certified(radii)(subject))

    right = sum(distance > 0 for distance in exact)
    assert 0 < right < len(split)  # some are wrong, or the test says little
    accuracy = next(record for record in records if record.name == "accuracy")
    assert (accuracy.value, accuracy.count) == (right / len(split), len(split))

    shares = [record for record in records if record.name == "certified_accuracy"]
    assert [record.details["radius"] for record in shares] == list(radii)
    for record in shares:
        hits = sum(distance > record.details["radius"] for distance in exact)
        assert record.value == hits / len(split)
        ends = record.details["low"], record.details["high"]
        assert ends == clopper_pearson(hits, len(split))
        assert record.details["kind"] == "proved"


def test_the_curve_holds_every_positive_distance(
    subject: Subject, model: nn.Sequential, split: Split
) -> None:
    positive = sorted(distance for distance in distances(model, split) if distance > 0)
    records = {record.name: record for record in certified()(subject)}

    curve = records["certified_curve"]
    assert curve.details["steps"] == pytest.approx(positive, rel=1e-9)
    assert curve.value == pytest.approx(sum(positive) / len(split), rel=1e-9)
    assert records["mean_radius"].value == curve.value
    mean = records["mean_radius_of_correct"]
    assert (mean.value, mean.count) == (pytest.approx(np.mean(positive), rel=1e-9), len(positive))


def test_the_interval_of_the_mean_radius_is_that_of_the_central_limit(subject: Subject) -> None:
    record = next(record for record in certified()(subject) if record.name == "mean_radius")
    error = subject.radii.clamp(min=0).std(correction=0).item() / math.sqrt(len(subject))
    for end, sign in (("low", -1), ("high", 1)):
        expected = record.value + sign * 1.96 * error
        assert record.details[end] == pytest.approx(expected, abs=0.15 * error)


def test_the_bound_of_the_network_is_the_norm_of_its_matrix(
    subject: Subject, model: nn.Sequential
) -> None:
    record = next(record for record in certified()(subject) if record.name == "bound/network")
    singular = np.linalg.svd(model.get_submodule("head").weight.detach().numpy())[1]
    assert record.value == pytest.approx(singular[0], rel=1e-9)
    assert record.value >= singular[0]


def test_examples_go_from_the_largest_radius_to_the_smallest_then_to_wrong_ones(
    subject: Subject,
) -> None:
    records = [record for record in certified(examples=10)(subject) if record.name == "example"]
    assert len(records) == 10
    wrong = [record.details["label"] != record.details["prediction"] for record in records]
    assert wrong == sorted(wrong)
    assert any(wrong)
    radii = [record.value for record, bad in zip(records, wrong, strict=True) if not bad]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] == subject.radii.max()
    for record in records:
        assert record.value == subject.radii[record.details["index"]]


def test_a_single_class_is_right_and_vacuous(split: Split) -> None:
    head = nn.Linear(36, 1)
    model = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=head)).eval()
    alone = Split(split.images, torch.zeros_like(split.labels))
    records = list(certified()(Subject.of(model, alone)))
    shares = [record for record in records if record.unit == "fraction"]
    assert [record.value for record in shares] == [1.0] * 6
    assert all(record.details["vacuous"] for record in shares)
    mean = next(record for record in records if record.name == "mean_radius")
    assert mean.value == pytest.approx(6.0)  # the diameter of [0, 1]^(6×6)
    assert mean.details["infinite"] == len(split)


def test_ties_are_right_and_not_certified(split: Split) -> None:
    head = nn.Linear(36, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=head)).eval()
    zeros = Split(split.images, torch.zeros_like(split.labels))
    records = list(certified(radii=[0.0])(Subject.of(model, zeros)))
    shares = {record.name: record.value for record in records if record.unit == "fraction"}
    assert shares == {"accuracy": 1.0, "certified_accuracy": 0.0}


def test_other_networks_are_not_vacuous(subject: Subject) -> None:
    assert not any("vacuous" in record.details for record in certified()(subject))
