"""Tests of the probe of attacks: on classifiers whose robust accuracy is known."""

import dataclasses
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, attacked
from lipnets.records import Record

SIDE = 4
RADII = (0.02, 0.06, 0.1)


def gray_split(count: int, classes: int) -> Split:
    """Images so far from black and white that no attack of these tests reaches either."""
    images = 0.4 + 0.2 * torch.rand(count, 1, SIDE, SIDE, dtype=torch.float32)
    return Split(images, torch.arange(count) % classes)


def orthogonal_network(classes: int, scale: float = 1.0) -> nn.Sequential:
    """Two orthogonal maps, and a head with orthonormal rows: margins are isometries of images."""
    dim = SIDE * SIDE
    turns = [nn.Linear(dim, dim) for _ in range(2)]
    head = nn.Linear(dim, classes)
    with torch.no_grad():
        for turn in (*turns, head):
            nn.init.orthogonal_(turn.weight)
            turn.bias.normal_()
        head.weight.mul_(scale)
    return nn.Sequential(
        OrderedDict(backbone=nn.Sequential(nn.Flatten(), *turns), head=head)
    ).eval()


def balanced(network: nn.Sequential, split: Split) -> Split:
    """The same images, most with the predicted label, and the first one with another."""
    logits = network(split.images.double())
    with torch.no_grad():
        network.get_submodule("head").bias.sub_(logits.mean(dim=0))  # so that all classes occur
    labels = network(split.images.double()).argmax(dim=1)
    labels[0] = (labels[0] + 1) % logits.shape[1]
    return Split(split.images, labels)


def true_distances(subject: Subject) -> Tensor:
    """Of any linear classifier, as if there were no box: the least margin over the length of its normal."""
    shape, origin = subject.shape, torch.zeros(1, *subject.shape)
    dim = math.prod(shape)
    bias = subject.model(origin)
    weight = (subject.model(torch.eye(dim).view(dim, *shape)) - bias).T.detach()  # (K, d)
    own = subject.logits.gather(1, subject.labels[:, None])
    normals = (weight[subject.labels][:, None] - weight).norm(dim=2)
    ratios = ((own - subject.logits) / normals).masked_fill(normals == 0, math.inf)
    return ratios.amin(dim=1).clamp(min=0)


def by_name(records: list[Record], name: str) -> list[Record]:
    return [record for record in records if record.name == name]


def make(classes: int, scale: float = 1.0, count: int = 24) -> Subject:
    network = orthogonal_network(classes, scale)
    split = balanced(network, gray_split(count, classes))
    return Subject.of(network, split)


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (3, 1.0), (5, 1e4), (4, 1e-4)])
def test_orthogonal_networks_are_as_robust_as_they_are_certified(
    classes: int, scale: float
) -> None:
    subject = make(classes, scale)
    true = true_distances(subject)
    records = list(attacked(radii=RADII, nearest="targeted_margin", steps=20)(subject))
    for record in by_name(records, "attacked_accuracy"):
        expected = int((true > record.details["radius"]).sum())
        assert record.details["hits"] == expected
        assert record.details["losses"][:2] == ["margin", "ce"]
    assert [record.value for record in by_name(records, "certified_gap")] == [0, 0, 0]
    (column,) = by_name(records, "image/attacked_radius")
    found = torch.tensor(column.details["values"])
    assert found[0] == 0
    assert torch.allclose(found, true, rtol=1e-4)
    (share,) = by_name(records, "certified_share")
    assert share.details["quantiles"]["0.05"] > 0.999
    assert share.details["quantiles"]["0.95"] <= 1


def test_in_linf_the_distance_is_the_margin_over_the_sum_of_weights() -> None:
    subject = make(3)
    dim = SIDE * SIDE
    weight = subject.model(torch.eye(dim).view(dim, *subject.shape)).T
    weight = weight - subject.model(torch.zeros(1, *subject.shape)).T
    own = subject.logits.gather(1, subject.labels[:, None])
    sums = (weight[subject.labels][:, None] - weight).abs().sum(dim=2)
    true = ((own - subject.logits) / sums).masked_fill(sums == 0, math.inf).amin(dim=1)
    radii = (0.005, 0.02)
    records = list(attacked(radii=(), linf=radii, rounds=0)(subject))
    found = by_name(records, "attacked_accuracy")
    assert [each.details["radius"] for each in found] == list(radii)
    for record in found:
        assert record.details["norm"] == "linf"
        assert record.details["hits"] == int((true > record.details["radius"]).sum())
    for record in by_name(records, "certified_gap"):  # inclusions of balls are loose
        assert record.value > 0 or record.details["certified"] == 1


def test_a_certificate_that_promises_half_as_much_again_is_caught() -> None:
    subject = make(4)
    certificate = dataclasses.replace(subject.certificate, slopes=subject.certificate.slopes / 1.5)
    wrong = dataclasses.replace(subject, certificate=certificate)
    with pytest.raises(InvariantError, match=r"test image \d+"):
        list(attacked(radii=RADII, steps=10)(wrong))


@pytest.mark.parametrize("settings", [{"radii": RADII, "rounds": 0}, {"radii": (), "rounds": 8}])
def test_radii_of_other_images_are_caught_with_the_index(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make(4)
    true, swapped = true_distances(subject), subject.radii.roll(1)
    subject.indices.mul_(10)
    monkeypatch.setattr(Subject, "radii", property(lambda self: swapped))
    with pytest.raises(
        InvariantError, match=r"certified at a radius survives.* test image (\d+)"
    ) as error:
        list(attacked(steps=10, **settings)(subject))
    place = int(str(error.value).split("test image ")[1].split(",")[0]) // 10
    assert swapped[place] > true[place]


def test_spared_images_survive_and_are_counted() -> None:
    subject = make(3)
    safe = subject.radii > RADII[0]
    for share, attacks in ((1.0, int(safe.sum())), (0.0, 0), (0.5, int(safe.sum()) // 2)):
        records = list(attacked(radii=RADII[:1], rounds=0, share=share, steps=5)(subject))
        (accuracy,) = by_name(records, "attacked_accuracy")
        assert accuracy.details["spared"] == int(safe.sum()) - attacks
        assert accuracy.details["hits"] == int(safe.sum())


def test_what_each_attack_broke_adds_up() -> None:
    subject = make(5)
    losses = ("dlr", "margin", "targeted_dlr", "targeted_margin")
    records = list(attacked(radii=RADII[1:2], losses=losses, steps=10)(subject))
    (accuracy,) = by_name(records, "attacked_accuracy")
    tried = by_name(records, "attack_success")
    assert tuple(record.details["loss"] for record in tried) == (*losses, "bisection")
    left = 23
    for record in tried:
        assert record.count == left
        left -= record.details["hits"]
        assert record.value == record.details["hits"] / record.count
    assert left == accuracy.details["hits"]
    assert accuracy.details["searched"] > 1


def test_the_curve_holds_the_distances_of_all_images() -> None:
    subject = make(3)
    records = list(attacked(radii=RADII[:1], steps=10)(subject))
    (curve,) = by_name(records, "attacked_curve")
    (column,) = by_name(records, "image/attacked_radius")
    distances = sorted(value for value in column.details["values"] if value > 0)
    assert curve.details["distances"] == distances
    assert curve.details["infinite"] == 0
    assert curve.details["hits"] == len(distances) == 23
    assert curve.value == pytest.approx(sum(distances) / 24)
    assert len(curve.details["certified"]) == 23
    for certified, distance in zip(curve.details["certified"], distances, strict=True):
        assert certified <= distance


def test_one_class_cannot_be_attacked() -> None:
    split = gray_split(5, 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 1)).eval()
    records = list(attacked(radii=RADII)(Subject.of(network, split)))
    for record in by_name(records, "attacked_accuracy"):
        assert record.value == 1
        assert record.details["vacuous"]
    (column,) = by_name(records, "image/attacked_radius")
    assert column.details["values"] == ["inf"] * 5
    assert not by_name(records, "attack_success")


class Overflow(nn.Module):
    """A network that no rule covers; it gives no number for bright images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        bright = images.flatten(1).mean(dim=1, keepdim=True) > 0.505
        return torch.where(bright, torch.nan, self.network(images))


def test_uncertified_networks_are_attacked_and_rows_without_numbers_are_wrong() -> None:
    network = orthogonal_network(3)
    split = balanced(network, gray_split(24, 3))
    subject = Subject.of(Overflow(network).eval(), split, refuse=False)
    bad = subject.logits.isnan().any(dim=1)
    assert 0 < int(bad.sum()) < 24
    records = list(attacked(radii=RADII, nearest="targeted_margin", steps=10)(subject))
    names = {record.name for record in records}
    assert "attacked_accuracy" in names
    assert not names & {"certified_gap", "certified_share", "check/sandwich", "check/radius"}
    (column,) = by_name(records, "image/attacked_radius")
    found = torch.tensor(column.details["values"])
    assert bool((found[bad] == 0).all())
    # The bright half-space is wrong as well: attacks that do not know of it still find the other way.
    inner = Subject.of(network, split)
    assert bool((found <= true_distances(inner) * 1.001).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radii": (0.0,)}, "should be positive"),
        ({"linf": (-1.0,)}, "should be positive"),
        ({"share": 1.5}, r"in \[0, 1\], got 1.5"),
        ({"losses": ("cw",)}, "No loss is called 'cw'"),
        ({"nearest": "cw"}, "No loss is called 'cw'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attacked(**settings)


def test_radii_in_linf_that_are_too_large_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = make(4)
    inner = type(subject.certificate).radii_of

    def wrong(self: Any, *arguments: Any, **settings: Any) -> Tensor:
        factor = 9.0 if settings.get("norm") == "linf" else 1.0
        return factor * inner(self, *arguments, **settings)

    monkeypatch.setattr(type(subject.certificate), "radii_of", wrong)
    with pytest.raises(InvariantError, match=r"certified at a radius survives.* in linf"):
        list(attacked(radii=(), linf=(0.02,), rounds=0, steps=10)(subject))


def test_radii_may_come_in_any_order_and_twice() -> None:
    subject = make(4)
    first = list(attacked(radii=RADII, steps=5, rounds=2)(subject))
    again = list(attacked(radii=(*RADII[::-1], RADII[1]), steps=5, rounds=2)(subject))
    assert [record.to_dict() for record in first] == [record.to_dict() for record in again]


def test_what_was_spared_has_not_survived_an_attack() -> None:
    subject = make(3)
    safe = subject.radii > RADII[0]
    (accuracy, *_), (bisected,) = (
        by_name(list(attacked(radii=RADII[:1], share=0.0, steps=5)(subject)), name)
        for name in ("attacked_accuracy", "attack_success")
    )
    assert accuracy.details["spared"] == int(safe.sum())
    assert bisected.details["loss"] != "bisection"  # of those that were attacked, none is left


def test_images_that_nothing_breaks_are_as_far_as_the_box_is_wide() -> None:
    """One logit is always larger: no image is wrong, and distances are clipped to the diameter."""
    split = Split(gray_split(6, 2).images, torch.tensor([0, 0, 0, 0, 0, 1]))
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2)).eval()
    with torch.no_grad():
        network[1].weight.mul_(1e-3)
        network[1].bias.copy_(torch.tensor([50.0, 0.0]))
    records = list(attacked(radii=RADII[:1], steps=5, rounds=8)(Subject.of(network, split)))
    (curve,) = by_name(records, "attacked_curve")
    assert (curve.details["infinite"], curve.details["distances"]) == (5, [])
    assert curve.value == pytest.approx(5 / 6 * SIDE)  # the wrong one counts as 0
