"""Tests of the probe of corruptions."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lipnets.certify import certified_radii
from lipnets.data import Split
from lipnets.data.corruptions import EXTRA, FAMILIES, MAIN, applicable, corrupt
from lipnets.data.corruptions.mnist_c import MNIST_C
from lipnets.probes import InvariantError, Subject, corruptions
from lipnets.probes.shifting import mce
from lipnets.records import Record


def test_there_is_a_cell_for_every_corruption_and_severity(subject: Subject) -> None:
    records = list(corruptions()(subject))
    for name in ("corrupted_accuracy", "corrupted_certified_accuracy"):
        cells = [
            (record.details["corruption"], record.details["severity"])
            for record in records
            if record.name == name
        ]
        order = [each for each in (*MAIN, *EXTRA, "frost_proc") if each in applicable(1)]
        assert cells == [(each, severity) for each in order for severity in range(1, 6)]


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
    first, second = list(probe(subject)), list(probe(shuffled))
    assert [record.name for record in first] == [record.name for record in second]
    values = [record.value for record in second]
    assert [record.value for record in first] == pytest.approx(values, rel=1e-12)


def test_what_was_checked_is_recorded(subject: Subject) -> None:
    checks = {r.name: r for r in corruptions()(subject) if r.name.startswith("check/")}
    cells = 5 * len(applicable(1))
    assert checks["check/lipschitz"].count == cells * len(subject)
    assert 0 < checks["check/lipschitz"].value <= 1
    assert 0 < checks["check/radius"].count < cells * len(subject)  # some are near, some are not
    assert 0 < checks["check/radius"].value < 1


def grid(records: list[Record], name: str) -> dict[tuple[str, int], float]:
    return {
        (r.details["corruption"], r.details["severity"]): r.value for r in records if r.name == name
    }


def test_means_are_over_main_corruptions_families_and_others_apart(subject: Subject) -> None:
    records = list(corruptions(severities=[2, 5])(subject))
    for name, cells in (
        ("corruption_mean", grid(records, "corrupted_accuracy")),
        ("corruption_certified_mean", grid(records, "corrupted_certified_accuracy")),
    ):
        means = {r.details["family"]: r for r in records if r.name == name}
        groups = {"all": MAIN, **FAMILIES, "extra": EXTRA, "frost_proc": ["frost_proc"]}
        assert set(means) == set(groups)
        for group, members in groups.items():
            shares = [v for (each, _), v in cells.items() if each in members]
            assert means[group].value == pytest.approx(np.mean(shares), rel=1e-12)
            assert means[group].details["severities"] == [2, 5]
            assert means[group].details["low"] <= means[group].value <= means[group].details["high"]
        if name == "corruption_mean":
            assert means["all"].details["error"] == pytest.approx(1 - means["all"].value)
        assert len(means["all"].details["corruptions"]) == 14
        assert means["all"].details["missing"] == ["frost"]
        assert means["extra"].details["missing"] == ["saturate"]  # on grey images


def test_each_image_has_the_share_of_corruptions_it_is_right_under(
    subject: Subject, model: nn.Sequential
) -> None:
    records = list(corruptions(names=["fog", "contrast", "spatter"], severities=[4])(subject))
    (column,) = (r for r in records if r.name == "image/right_when_corrupted")
    for place in (0, 17, 40):
        image, label = subject.images[place : place + 1], int(subject.labels[place])
        right = [
            int(model(corrupt(image, name, 4, [place]).double()).argmax()) == label
            for name in ("fog", "contrast")  # spatter is extra
        ]
        assert column.details["values"][place] == np.mean(right)


def test_a_network_relative_to_itself_is_one(subject: Subject, tmp_path: Path) -> None:
    own = list(corruptions(severities=[1, 5])(subject))
    names = {r.name: r for r in corruptions(severities=[1, 5], baseline=own)(subject)}
    assert names["mce"].value == pytest.approx(1)
    assert names["relative_mce"].value == pytest.approx(1)
    assert names["mce"].details["missing"] == ["frost"]
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(record.to_dict()) + "\n" for record in own))
    again = {r.name: r for r in corruptions(severities=[1, 5], baseline=str(file))(subject)}
    assert again["mce"].value == names["mce"].value
    assert again["mce"].details["baseline"] == str(file)
    with pytest.raises(ValueError, match="same severities of 'gaussian_noise'"):
        list(corruptions(severities=[1], baseline=own)(subject))
    with pytest.raises(ValueError, match="no records to compare with"):
        list(corruptions(names=["fog"], baseline=tmp_path / "none")(subject))


@pytest.mark.parametrize(("data", "sha256"), [("others", "00"), ("patterns", "ff")])
def test_a_baseline_of_other_data_is_refused(subject: Subject, data: str, sha256: str) -> None:
    ours = dataclasses.replace(subject, provenance={"data": "patterns", "sha256": "00"})
    other = dataclasses.replace(subject, provenance={"data": data, "sha256": sha256})
    probe = {"names": ["fog"], "severities": [1]}
    theirs = list(corruptions(**probe)(other))
    with pytest.raises(ValueError, match="evaluated on the same data"):
        list(corruptions(**probe, baseline=theirs)(ours))
    same = list(corruptions(**probe, baseline=theirs)(other))
    assert [r.value for r in same if r.name == "mce"] == [1]


def test_each_network_loses_from_its_own_clean_error() -> None:
    ratio = mce({("fog", 1): 0.5}, {("fog", 1): 0.75}, ["fog"], clean=(0.25, 0.25 + 1 / 8))
    assert ratio.mean == pytest.approx((0.5 - 0.25) / (0.75 - 0.375))


def test_mce_is_a_mean_of_ratios_of_sums_and_flags_zeros() -> None:
    ours = {("a", 1): 0.2, ("a", 2): 0.4, ("b", 1): 0.3, ("b", 2): 0.3}
    theirs = {("a", 1): 0.4, ("a", 2): 0.8, ("b", 1): 0.1, ("b", 2): 0.1}
    plain = mce(ours, theirs, ["a", "b"])
    assert plain.mean == pytest.approx((0.5 + 3) / 2)
    relative = mce(ours, theirs, ["a", "b"], clean=(0.1, 0.1))
    assert relative.ratios == {"a": pytest.approx(0.4 / 1.0)}
    assert relative.undefined == ("b",)
    assert relative.mean == pytest.approx(0.4)


def test_digits_are_corrupted_as_in_mnist_c(subject: Subject) -> None:
    digits = dataclasses.replace(subject, provenance={"data": "mnist"})
    records = list(corruptions(names=["contrast"], severities=[1])(digits))
    cells = {r.details["corruption"]: r.value for r in records if r.name == "mnist_c_accuracy"}
    assert list(cells) == list(MNIST_C)
    right = (subject.logits.argmax(dim=1) == subject.labels).double().mean()
    assert cells["identity"] == right
    (mean,) = (r for r in records if r.name == "mnist_c_mean")
    others = [value for name, value in cells.items() if name != "identity"]
    assert mean.value == pytest.approx(np.mean(others))
    assert len(others) == 15


def test_official_files_are_read_where_they_are(tmp_path: Path) -> None:
    images = torch.rand(20, 3, 32, 32, dtype=torch.float32)
    labels = torch.arange(20) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)).eval()
    subject = Subject.of(
        model,
        Split(images, labels),
        limit=10,
        provenance={"data": "cifar10"},
        data_dir=str(tmp_path),
    )
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    arrays = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3)).astype(np.uint8)
    np.save(folder / "frost.npy", arrays)
    np.save(folder / "labels.npy", labels.repeat(5).numpy())
    names = [r for r in corruptions(severities=[2])(subject) if r.name == "corrupted_accuracy"]
    cells = {r.details["corruption"]: r for r in names}
    assert cells["frost"].details["source"] == "official files"
    assert cells["fog"].details["source"] == "computed"
    rows = 20 + subject.indices
    pixels = torch.from_numpy(arrays)[rows].permute(0, 3, 1, 2).double() / 255
    right = (model(pixels.float().double()).argmax(dim=1) == subject.labels).double().mean()
    assert cells["frost"].value == right
    np.save(folder / "labels.npy", 1 - labels.repeat(5).numpy())
    with pytest.raises(ValueError, match="label of image 0 is another"):
        list(corruptions(severities=[2])(subject))


def test_corruptions_that_move_images_by_more_than_they_say_are_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network that is run on other images than those that were corrupted.
    monkeypatch.setattr(Subject, "run", lambda self, images: self.logits.flip(0))
    with pytest.raises(InvariantError, match="contrast of 1"):
        list(corruptions(names=["contrast"], severities=[1])(subject))


def test_an_unknown_corruption_is_named(subject: Subject) -> None:
    with pytest.raises(ValueError, match="did you mean 'gaussian_noise'"):
        list(corruptions(names=["gausian_noise"])(subject))
