"""Tests of the checks: they pass where certificates are tight, and catch those that are wrong."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from lipnets.bounds import Bound
from lipnets.metrics import correct
from lipnets.probes import InvariantError, Subject, corruptions, frequency
from lipnets.probes.invariants import Pairs, check_radii


def toward_the_boundary(subject: Subject, model: nn.Sequential, share: float) -> Tensor:
    """Every image, moved by a share of the exact distance to the nearest other class."""
    weight, bias = model.get_submodule("head").parameters()
    moved = []
    for image, logits in zip(subject.images.double(), subject.logits, strict=True):
        top = int(logits.argmax())
        normals = weight - weight[top]
        gaps = (normals @ image.flatten() + bias - bias[top]) / normals.norm(dim=1)
        gaps[top] = -math.inf
        nearest = int(gaps.argmax())
        step = normals[nearest] / normals[nearest].norm() * -gaps[nearest] * share
        moved.append(image + step.view_as(image))
    return torch.stack(moved).detach()


def broken(subject: Subject, **changes: object) -> Subject:
    certificate = dataclasses.replace(subject.certificate, **changes)
    return dataclasses.replace(subject, certificate=certificate)


@pytest.mark.parametrize("share", [0.999999, 1.000001])
def test_tight_certificates_pass_on_either_side_of_the_boundary(
    subject: Subject, model: nn.Sequential, share: float
) -> None:
    images = toward_the_boundary(subject, model, share)
    logits = subject.run(images)
    flipped = logits.argmax(dim=1) != subject.logits.argmax(dim=1)
    assert bool(flipped.all()) == (share > 1)
    pairs = Pairs(subject)
    pairs.check(images, logits, "a shift")
    # Of pairs as near as 1e-9 to the boundary, rounding decides: nothing is asked of them.
    clear = int((subject.radii.abs() > 0.01).sum())
    assert 0 < clear <= pairs.within if share < 1 else pairs.within == 0


def test_a_radius_that_is_too_large_by_a_millionth_is_caught(
    subject: Subject, model: nn.Sequential
) -> None:
    images = toward_the_boundary(subject, model, 1 + 1e-7)
    wrong = broken(subject, slopes=subject.certificate.slopes * (1 - 1e-6))
    logits = subject.run(images)
    with pytest.raises(
        InvariantError, match=r"test image 0 went from class \d to \d after a shift"
    ):
        Pairs(wrong).check(images, logits, "a shift")


def test_a_bound_that_is_too_small_is_caught_on_linear_networks(
    subject: Subject, model: nn.Sequential
) -> None:
    top = torch.linalg.svd(model.get_submodule("head").weight)[2][0].detach()
    images = subject.images.double() + 0.1 * top.view(1, 1, 6, 6)
    logits = subject.run(images)
    pairs = Pairs(subject)
    pairs.check(images, logits, "a shift")
    assert pairs.steepest == pytest.approx(1, abs=1e-8)  # the shift attains the bound
    wrong = broken(subject, bound=Bound(subject.certificate.lipschitz * (1 - 1e-6), "wrong"))
    with pytest.raises(InvariantError, match="outputs differ by at most"):
        Pairs(wrong).check(images, logits, "a shift")


def test_messages_name_the_image_by_its_index_in_the_data_set(
    subject: Subject, model: nn.Sequential
) -> None:
    sample = subject.sample(6)
    images = sample.images.clone().double()
    images[3] = toward_the_boundary(sample, model, 1.001)[3]
    wrong = broken(sample, slopes=sample.certificate.slopes / 2)
    with pytest.raises(InvariantError, match="test image 30 went"):
        Pairs(wrong).check(images, sample.run(images), "a shift")


def test_logits_that_are_not_finite_break_an_invariant(subject: Subject) -> None:
    logits = subject.logits.clone()
    logits[5, 1] = math.nan
    with pytest.raises(InvariantError, match="those of test image 5 differ by nan"):
        Pairs(subject).check(subject.images, logits, "nothing")


def test_images_whose_own_logits_are_not_finite_are_left_out(subject: Subject) -> None:
    logits = subject.logits.clone()
    logits[5, 1] = math.nan
    pairs = Pairs(dataclasses.replace(subject, logits=logits))
    pairs.check(subject.images, subject.logits, "nothing")
    assert pairs.pairs == len(subject) - 1


@pytest.mark.parametrize("probe", [corruptions(), frequency()])
def test_probes_fail_on_a_certificate_that_claims_too_much(subject: Subject, probe) -> None:
    with pytest.raises(InvariantError, match="within its radius"):
        list(probe(broken(subject, slopes=subject.certificate.slopes / 1000)))
    with pytest.raises(InvariantError, match="outputs differ by at most"):
        list(probe(broken(subject, bound=Bound(1e-3, "wrong"))))


def test_radii_that_agree_with_predictions_pass(subject: Subject) -> None:
    area = subject.radii.clamp(min=0).mean().item()
    check_radii(subject.radii, correct(subject.logits, subject.labels), area, subject.indices)


def test_radii_of_wrong_predictions_are_caught() -> None:
    radii, right = torch.tensor([0.5, 0.25]), torch.tensor([True, False])
    with pytest.raises(InvariantError, match=r"test image 8 is wrong and has 0\.25"):
        check_radii(radii, right, 0.375, torch.tensor([7, 8]))


def test_right_predictions_without_a_radius_are_caught() -> None:
    radii, right = torch.tensor([0.5, -0.25]), torch.tensor([True, True])
    with pytest.raises(InvariantError, match="2 are right, 1 certified and 0 tied"):
        check_radii(radii, right, 0.25, torch.tensor([0, 1]))


def test_an_area_that_is_not_the_mean_is_caught() -> None:
    radii, right = torch.tensor([0.5, 0.25]), torch.tensor([True, True])
    check_radii(radii, right, 0.375, torch.tensor([0, 1]))
    with pytest.raises(InvariantError, match="area under the certified curve"):
        check_radii(radii, right, 0.376, torch.tensor([0, 1]))


def test_areas_are_summed_in_double_precision() -> None:
    torch.set_default_dtype(torch.float32)
    radii = torch.tensor([0.5, 0.25, 0.1], dtype=torch.float64)
    check_radii(radii, torch.ones(3, dtype=torch.bool), 0.85 / 3, torch.arange(3))
