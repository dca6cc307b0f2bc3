"""Tests of out-of-distribution detection: scores in closed form, and a network that sees unknown images."""

import dataclasses
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from torch import nn

from lipnets.certify import certify
from lipnets.data import Split
from lipnets.data.unknown import CHANGED, SYNTHETIC, unknown
from lipnets.probes import InvariantError, Subject, detection
from lipnets.probes.detection import scores
from lipnets.records import Record


def kept(records: list[Record], name: str, **details: Any) -> list[Record]:
    return [
        r
        for r in records
        if r.name == f"detection/{name}" and all(r.details.get(k) == v for k, v in details.items())
    ]


def test_scores_are_their_closed_forms() -> None:
    logits = 3 * torch.randn(20, 5)
    found = scores(logits, None)
    rows = logits.numpy()
    assert found["msp"].tolist() == pytest.approx(np.log(softmax(rows, axis=1).max(axis=1)))
    assert found["energy"].tolist() == pytest.approx(logsumexp(rows, axis=1))
    assert found["max_logit"].tolist() == pytest.approx(rows.max(axis=1))
    ranked = np.sort(rows, axis=1)
    assert found["margin"].tolist() == pytest.approx(ranked[:, -1] - ranked[:, -2])


def test_probabilities_that_round_to_one_have_no_ties() -> None:
    found = scores(torch.tensor([[40.0, 0.0], [41.0, 0.0]], dtype=torch.float32), None)["msp"]
    assert found[0] < found[1] < 0
    assert found.tolist() == pytest.approx([-math.exp(-40), -math.exp(-41)], rel=1e-12)


def test_a_number_added_to_all_logits_moves_some_scores_and_not_others() -> None:
    certificate = certify(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), (1, 2, 2))
    logits = torch.randn(10, 3)
    before = scores(logits, certificate, (1, 2, 2))
    after = scores(logits + 7, certificate, (1, 2, 2))
    for name, moved in (("msp", 0), ("margin", 0), ("radius", 0), ("max_logit", 7), ("energy", 7)):
        assert (after[name] - before[name]).tolist() == pytest.approx([moved] * 10, abs=1e-9)


def test_of_two_classes_three_scores_are_one_in_rank() -> None:
    certificate = certify(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), (1, 2, 2))
    found = scores(0.1 * torch.randn(50, 2), certificate, (1, 2, 2))
    ranks = [found[name].argsort().tolist() for name in ("msp", "margin", "radius")]
    assert ranks[0] == ranks[1] == ranks[2]


def test_the_area_is_that_of_scikit_learn_on_the_same_scores(subject: Subject) -> None:
    records = list(detection(resamples=20)(subject))
    noise = unknown("uniform_noise", subject.images, subject.indices)
    known, other = (
        scores(each, subject.proved, subject.shape) for each in (subject.logits, subject.run(noise))
    )
    for name in known:
        both = torch.cat([known[name], other[name]]).numpy()
        (record,) = kept(records, "auroc", against="uniform_noise", score=name)
        assert record.value == pytest.approx(roc_auc_score([1] * 60 + [0] * 60, both))
        assert record.details["low"] <= record.value <= record.details["high"]
    sets = {r.details["against"] for r in kept(records, "auroc")}
    assert sets == {*SYNTHETIC, *CHANGED}


def test_the_certified_area_is_left_when_all_images_are_moved_for_the_worst(
    subject: Subject,
) -> None:
    """The score of a half-space is the distance itself: moving along its normal attains the bound."""
    radius = 0.05
    records = list(detection(radii=[0.0, radius, 10.0], resamples=2)(subject))
    for name in ("uniform_noise", "inverted"):
        plain = kept(records, "auroc", against=name, score="radius")[0].value
        found = [r.value for r in kept(records, "certified_auroc", against=name)]
        assert found == sorted(found, reverse=True)
        assert found[0] == pytest.approx(plain, abs=2 / 60)
        assert found[2] == 0.0
        images = unknown(name, subject.images, subject.indices)
        ours = scores(subject.logits, subject.proved, subject.shape)["radius"] - radius
        theirs = scores(subject.run(images), subject.proved, subject.shape)["radius"] + radius
        wins = (ours[:, None] > theirs).double().mean().item()
        assert found[1] == pytest.approx(wins, abs=1e-3)


def test_moves_of_images_leave_at_least_the_certified_area(subject: Subject) -> None:
    radius, noise = 0.1, unknown("blobs", subject.images, subject.indices)
    records = list(detection(radii=[radius], resamples=2)(subject))
    (bound,) = kept(records, "certified_auroc", against="blobs")
    for _ in range(5):
        moved = []
        for images in (subject.images, noise):
            step = torch.randn_like(images)
            step *= radius / step.flatten(1).norm(dim=1)[:, None, None, None]
            moved.append(
                scores(subject.run(images + step), subject.proved, subject.shape)["radius"]
            )
        assert (moved[0][:, None] > moved[1]).double().mean().item() >= bound.value


def test_scores_that_are_not_finite_are_refused_in_a_record(subject: Subject) -> None:
    logits = subject.logits.clone()
    logits[3] = math.nan
    records = list(detection(resamples=2)(dataclasses.replace(subject, logits=logits)))
    refused = [r for r in records if r.name == "detection_refused"]
    assert len(refused) == len(SYNTHETIC) + len(CHANGED)
    assert "of known image 3" in refused[0].details["says"]


def test_a_single_class_tells_nothing(split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1)).eval()
    alone = Split(split.images, torch.zeros_like(split.labels))
    assert list(detection()(Subject.of(model, alone))) == []


def test_unknown_images_that_break_the_proof_are_found_out(subject: Subject) -> None:
    subject.certificate.slopes.mul_(1e-3)
    with pytest.raises(InvariantError, match="being replaced"):
        list(detection(resamples=2)(subject))


def test_histograms_hold_all_images(subject: Subject) -> None:
    for record in kept(list(detection(resamples=2)(subject)), "histogram"):
        assert sum(record.details["known"]) == sum(record.details["other"]) == 60
        assert record.details["score"] == "radius"


def test_other_data_sets_are_read_greyed_and_resized(subject: Subject, tmp_path: Path) -> None:
    content = torch.randint(256, (30, 9, 8, 3), dtype=torch.uint8).numpy()
    packed = np.frombuffer(lzma.compress(content.tobytes()), np.uint8)
    usps = np.frombuffer(lzma.compress(content[..., 0].tobytes()), np.uint8)
    np.savez(
        tmp_path / "ood_things.npz",
        things_xz=packed,
        things_shape=np.array(content.shape),
        usps_test_xz=usps,
        usps_test_shape=np.array(content.shape[:3]),
    )
    for data, sets in (("patterns", {"things", "usps_test"}), ("mnist", {"things"})):
        there = dataclasses.replace(subject, data_dir=str(tmp_path), provenance={"data": data})
        records = kept(list(detection(limit=60, resamples=2)(there)), "auroc", family="data")
        assert {r.details["against"] for r in records} == sets
        for record in records:
            assert record.details["unknown"] == 30
            grey = "greyed, " if record.details["against"] == "things" else ""
            assert record.details["prepared"] == f"{grey}resized from 9 × 8"


def test_images_without_outputs_have_no_score_at_all(subject: Subject) -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0], [math.nan, 0.0, 0.0, 0.0]])
    for score, values in scores(logits, subject.proved, subject.shape).items():
        assert values.isfinite().tolist() == [True, False], score


def test_unknown_images_belong_to_indices_and_not_to_places(subject: Subject) -> None:
    few = subject.sample(10)
    (area,) = kept(
        list(detection(resamples=2)(few)), "auroc", against="uniform_noise", score="max_logit"
    )
    noise = unknown("uniform_noise", few.images, few.indices)
    ours, theirs = (each.amax(dim=1) for each in (few.logits, few.run(noise)))
    wins = (ours[:, None] > theirs).double() + 0.5 * (ours[:, None] == theirs)
    assert area.value == pytest.approx(wins.mean().item())


def test_radii_of_known_and_of_unknown_images_are_clipped_alike(split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(36)[:2])
        model[1].bias.copy_(torch.tensor([50.0, 0.0]))  # radii of 35 everywhere, in a box of 6
    part = Split(split.images, torch.zeros_like(split.labels))
    records = list(detection(resamples=2)(Subject.of(model, part)))
    for name in (*SYNTHETIC, "inverted"):
        assert kept(records, "auroc", against=name, score="radius")[0].value == 0.5
        assert kept(records, "histogram", against=name)[0].details["end"] == 6


def test_what_rounding_may_change_counts_on_both_sides(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Radii that rounding may change by 0.03 prove at 0.02 what exact ones do at 0.05."""
    exact = kept(list(detection(radii=[0.05], resamples=2)(subject)), "certified_auroc")
    monkeypatch.setitem(detection.__globals__, "_slack", lambda logits, certificate: 0.03)
    rough = kept(list(detection(radii=[0.02], resamples=2)(subject)), "certified_auroc")
    assert [r.value for r in rough] == pytest.approx([r.value for r in exact], abs=1e-3)
    assert any(0 < r.value < 1 for r in exact)
