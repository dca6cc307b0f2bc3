"""Tests of the probe of certified accuracy: against distances to the boundaries of half-spaces."""

import dataclasses
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipnets.certify import Certificate, certify
from lipnets.data import Split
from lipnets.metrics import RADII, clopper_pearson
from lipnets.probes import InvariantError, Subject, certified
from lipnets.probes.kinds import lead_over_bottom, set_radii
from lipnets.records import Record


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
    assert shares.pop("accuracy") == 1.0
    names = {"certified_accuracy", "certified_accuracy_by", "vra"}
    assert shares == dict.fromkeys(
        {*names, "certified_accuracy_linf", "certified_accuracy_l1"}, 0.0
    )


def test_other_networks_are_not_vacuous(subject: Subject) -> None:
    assert not any("vacuous" in record.details for record in certified()(subject))


def shares_of(records: list[Record], name: str, **details: object) -> dict[float, float]:
    """The shares of a name by radius, of the details that are given."""
    return {
        record.details["radius"]: record.value
        for record in records
        if record.name == name and all(record.details.get(k) == v for k, v in details.items())
    }


def test_each_kind_of_certificate_is_a_quotient_of_margins(
    subject: Subject, model: nn.Sequential, split: Split
) -> None:
    weight, bias = (tensor.detach().numpy() for tensor in model.get_submodule("head").parameters())
    logits = split.images.double().flatten(1).numpy() @ weight.T + bias
    norms, whole = np.linalg.norm(weight, axis=1), np.linalg.norm(weight, 2)
    kinds = {
        "joint": lambda y, j: math.sqrt(2) * whole,
        "per_logit": lambda y, j: norms[y] + norms[j],
        "pairwise": lambda y, j: np.linalg.norm(weight[y] - weight[j]),
    }
    radii = (0.0, 0.03, 0.1, 0.3)
    records = list(certified(radii)(subject))
    means = {r.details["certificate"]: r.value for r in records if r.name == "mean_radius_by"}
    for kind, slope in kinds.items():
        exact = [
            min((row[y] - row[j]) / slope(y, j) for j in range(len(row)) if j != y)
            for row, y in zip(logits, split.labels.tolist(), strict=True)
        ]
        found = shares_of(records, "certified_accuracy_by", certificate=kind)
        assert found == {r: sum(e > r for e in exact) / len(exact) for r in radii}
        assert means[kind] == pytest.approx(sum(max(e, 0) for e in exact) / len(exact), rel=1e-8)
    assert means["joint"] < means["pairwise"] > means["per_logit"]


def test_a_network_without_a_linear_head_has_no_constant_for_each_logit(split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU()).eval()
    records = list(certified()(Subject.of(model, split)))
    kinds = {record.details.get("certificate") for record in records}
    assert {"joint", "pairwise"} <= kinds
    assert "per_logit" not in kinds


def test_a_joint_radius_above_the_pairwise_one_is_found_out(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(certificate: Certificate) -> Certificate:
        return dataclasses.replace(certificate, slopes=certificate.slopes / 2)

    monkeypatch.setattr("lipnets.probes.certificates.joint", wrong)
    with pytest.raises(InvariantError, match="pairwise are not below those that are joint"):
        list(certified()(subject))


def test_verified_robust_accuracy_is_certified_accuracy(subject: Subject) -> None:
    records = list(certified()(subject))
    assert shares_of(records, "vra") == shares_of(records, "certified_accuracy")
    assert all(r.details["kind"] == "estimate" for r in records if r.name == "vra")


def test_ties_lose_to_the_class_of_no_answer() -> None:
    """Masking all logits that equal the largest would certify both classes of a tie."""
    logits = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [math.nan, 0.0, 0.0]])
    slopes = 1 - torch.eye(3)
    labels = torch.tensor([0, 0, 1])
    assert lead_over_bottom(logits, slopes, labels, 0.0).tolist() == [0.0, 1.0, -math.inf]
    assert lead_over_bottom(logits, slopes, labels, 0.25).tolist() == [-0.25, 0.75, -math.inf]


def test_verified_robust_accuracy_that_ignores_the_slopes_is_found_out(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(logits: Tensor, slopes: Tensor, labels: Tensor, radius: float) -> Tensor:
        return lead_over_bottom(logits, torch.ones_like(slopes), labels, radius)

    monkeypatch.setattr("lipnets.probes.certificates.lead_over_bottom", wrong)
    with pytest.raises(InvariantError, match="wins against"):
        list(certified(radii=[0.2])(subject))


def test_what_stays_among_several_classes_is_a_distance_to_half_spaces(
    subject: Subject, model: nn.Sequential, split: Split
) -> None:
    weight, bias = (tensor.detach().numpy() for tensor in model.get_submodule("head").parameters())
    logits = split.images.double().flatten(1).numpy() @ weight.T + bias

    def distance(row: np.ndarray, i: int, j: int) -> float:
        return (row[i] - row[j]) / np.linalg.norm(weight[i] - weight[j])

    labels, sets = [], []
    for row, y in zip(logits, split.labels.tolist(), strict=True):
        labels.append(sorted(distance(row, y, j) for j in range(4) if j != y)[1])
        inside = set(np.argsort(-row)[:2].tolist())
        pairs = [distance(row, i, j) for i in inside for j in range(4) if j not in inside]
        sets.append(min(pairs) if y in inside else -1.0)
    radii = (0.0, 0.05, 0.2, 0.6)
    records = list(certified(radii, top=[2, 4, 9])(subject))
    for keeps, exact in (("label", labels), ("set", sets)):
        found = shares_of(records, "certified_accuracy_top", top=2, keeps=keeps)
        assert found == {r: sum(e > r for e in exact) / len(exact) for r in radii}
    tops = {r.details["top"] for r in records if r.name == "certified_accuracy_top"}
    assert tops == {2}  # of four classes, one is always among four


def test_the_pair_that_decides_on_a_set_need_not_hold_its_last_class() -> None:
    """Class 0 leads by more than class 1, and loses it to class 2 much sooner."""
    head = nn.Linear(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[30.0, 0.0], [0.0, 0.1], [-10.0, 0.0]]))
        head.bias.copy_(torch.tensor([2.0, 1.0, 0.0]))
    model = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=head)).eval()
    certificate = certify(model, (1, 1, 2))
    members, radii = set_radii(certificate, torch.tensor([[2.0, 1.0, 0.0]]), 2)
    assert members.tolist() == [[0, 1]]
    assert radii.item() == pytest.approx(2 / 40, rel=1e-9)
    last = certificate.radii_of(torch.tensor([[-1e9, 1.0, 0.0]]), torch.tensor([1]))
    first = certificate.radii_of(torch.tensor([[2.0, -1e9, 0.0]]), torch.tensor([0]))
    assert first.item() == pytest.approx(radii.item())
    assert last.item() == pytest.approx(1 / math.hypot(10, 0.1))


def test_balls_of_other_norms_are_within_one_of_l2(
    subject: Subject, model: nn.Sequential, split: Split
) -> None:
    exact = distances(model, split)
    records = list(certified()(subject))
    linf = shares_of(records, "certified_accuracy_linf", norm="linf")
    assert linf == {k / 255: sum(e > 6 * k / 255 for e in exact) / 60 for k in (1, 2, 8)}
    assert shares_of(records, "certified_accuracy_l1") == shares_of(records, "certified_accuracy")


def test_finer_certificates_are_compared_on_the_same_images(subject: Subject) -> None:
    records = list(certified(local=20, tightened=10)(subject))
    for kind, count in (("local", 20), ("tightened", 10)):
        means = [r for r in records if r.name == "mean_radius_by" and r.count == count]
        found = {r.details["certificate"]: r.value for r in means}
        # A linear network is the same everywhere, and its head is bounded exactly.
        assert found[kind] == pytest.approx(found["pairwise"], rel=1e-6)
        assert found[kind] >= found["pairwise"] * (1 - 1e-12)


def test_the_images_of_two_finer_certificates_are_told_once_without(subject: Subject) -> None:
    """Two of each share made a row of the report twice as long as the others."""
    records = list(certified(local=20, tightened=20)(subject))
    told = [
        (record.details["certificate"], record.details["radius"])
        for record in records
        if record.name == "certified_accuracy_by" and record.count == 20
    ]
    assert len(told) == len(set(told))
    assert {name for name, _ in told} == {"pairwise", "local", "tightened"}


def test_radii_of_mnist_are_reported_on_mnist(model: nn.Sequential, split: Split) -> None:
    for data, more in (("mnist", {0.3, 1.58}), ("patterns", set())):
        records = list(certified()(Subject.of(model, split, provenance={"data": data})))
        assert set(shares_of(records, "certified_accuracy")) == {*RADII, *more}


def test_outputs_that_are_not_finite_are_wrong_and_counted(subject: Subject, split: Split) -> None:
    logits = subject.logits.clone()
    logits[:3] = torch.tensor([math.nan, math.inf, -math.inf])[:, None]
    lost = dataclasses.replace(subject, logits=logits)
    before = {r.name: r for r in certified(radii=[0.0])(subject)}
    after = {r.name: r for r in certified(radii=[0.0])(lost)}
    assert after["not_finite"].value == 3 / len(split)
    assert "not_finite" not in before
    gone = int((subject.radii[:3] > 0).sum())
    for name in ("accuracy", "certified_accuracy", "vra", "certified_accuracy_linf"):
        drop = before[name].details["hits"] - after[name].details["hits"]
        assert drop == gone or name == "certified_accuracy_linf"
    assert after["image/prediction"].details["values"][:3] == [-1, -1, -1]


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_have_the_certificates_that_make_sense(split: Split, classes: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).eval()
    few = Split(split.images, split.labels % classes)
    records = list(certified()(Subject.of(model, few)))
    tops = {r.details["top"] for r in records if r.name == "certified_accuracy_top"}
    assert tops == set(range(2, classes))
    assert shares_of(records, "vra") == shares_of(records, "certified_accuracy")


def test_radii_beyond_the_box_are_clipped_and_counted(split: Split) -> None:
    """Finite as they are: 36 pixels have a diameter of 6, and every image a radius of about 50 / √2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(36)[:2])
        model[1].bias.copy_(torch.tensor([50.0, 0.0]))
    labels = torch.zeros_like(split.labels)
    labels[:15] = 1
    records = list(certified()(Subject.of(model, Split(split.images, labels))))
    (mean,) = (r for r in records if r.name == "mean_radius")
    assert (mean.details["infinite"], mean.details["diameter"]) == (45, 6.0)
    assert mean.value == pytest.approx(6 * 45 / 60)
    for record in (r for r in records if r.name == "mean_radius_by"):
        assert record.value == pytest.approx(6 * 45 / 60)
