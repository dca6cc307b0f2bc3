"""Tests of randomized smoothing: of a half-space, whose distance is what it should find."""

import dataclasses
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, smoothing
from lipnets.probes.smoothing import _votes, smoothed_radius
from lipnets.records import Record

DISTANCE = 0.3


def half_space(normal: torch.Tensor, offset: float) -> nn.Sequential:
    """Class 0 where normal · x > offset, with logits that are steeper than distances."""
    head = nn.Linear(normal.numel(), 2)
    with torch.no_grad():
        head.weight.copy_(torch.stack([5 * normal, torch.zeros_like(normal)]))
        head.bias.copy_(torch.tensor([-5 * offset, 0.0]))
    return nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=head)).eval()


@pytest.fixture
def halved() -> Subject:
    """Images at a known distance from the boundary of a half-space, one of them on the other side."""
    normal = torch.full((16,), 0.25, dtype=torch.float64)  # of length 1
    at = torch.tensor([DISTANCE, 0.6, -0.2])
    images = (0.5 + 0.25 * at)[:, None, None, None].expand(-1, 1, 4, 4).float().contiguous()
    split = Split(images, torch.zeros(3, dtype=torch.int64))
    return Subject.of(half_space(normal, 2.0), split)


def named(records: list[Record], name: str, **details: Any) -> Record:
    (record,) = [
        r
        for r in records
        if r.name == name and all(r.details.get(k) == v for k, v in details.items())
    ]
    return record


@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
def test_smoothing_finds_the_distance_to_a_half_space_for_every_sigma(
    halved: Subject, sigma: float
) -> None:
    alone = halved.sample(1)
    n = 20_000
    records = list(smoothing(sigmas=[sigma], n=n, radii=[0.0])(alone))
    radius = named(records, "smoothed_mean_radius").value
    # The share of votes is Φ(d/σ), give or take its standard deviation; its bound is 3.1 of them lower.
    share = norm.cdf(DISTANCE / sigma)
    error = math.sqrt(share * (1 - share) / n)
    low = sigma * norm.ppf(share - 7 * error)
    assert low < radius <= DISTANCE
    assert radius > 0.9 * DISTANCE


def test_the_largest_radius_is_that_of_votes_which_agree() -> None:
    few, many = torch.tensor([100, 0]), torch.tensor([100_000, 0, 0])
    chosen, radius = smoothed_radius(few, many, 0.5, 0.001)
    assert chosen == 0
    assert radius == pytest.approx(0.5 * 3.8115, abs=1e-4)


def test_it_abstains_without_a_majority_and_where_outputs_are_not_finite() -> None:
    few = torch.tensor([60, 40, 0])
    assert smoothed_radius(few, torch.tensor([50, 50, 0, 0]), 1.0, 0.001) == (-1, 0.0)
    assert smoothed_radius(few, torch.tensor([0, 1000, 0, 0]), 1.0, 0.001) == (-1, 0.0)
    assert smoothed_radius(torch.zeros(3), torch.tensor([0, 0, 0, 1000]), 1.0, 0.001) == (-1, 0.0)
    assert smoothed_radius(few, torch.tensor([900, 0, 0, 100]), 1.0, 0.001)[0] == 0


def test_the_bound_is_one_sided() -> None:
    """All of α lies below: two sides would subtract more."""
    _, radius = smoothed_radius(torch.tensor([9, 1]), torch.tensor([50, 0, 0]), 1.0, 0.01)
    assert radius == pytest.approx(norm.ppf(0.01 ** (1 / 50)))


def test_records_say_whose_accuracy_it_is_and_what_it_costs(halved: Subject) -> None:
    records = list(smoothing(sigmas=[0.1], n=300, n0=50, radii=[0.0, 0.1])(halved))
    accuracy = named(records, "smoothed_accuracy")
    assert accuracy.value == accuracy.details["own"] == pytest.approx(2 / 3)
    assert accuracy.details["kind"] == "estimate"
    assert accuracy.details["forwards"] == 350
    certified = named(records, "smoothed_certified_accuracy", radius=0.1)
    assert certified.details["kind"] == "probabilistic"
    assert certified.value == pytest.approx(2 / 3)
    assert certified.details["abstained"] == 0
    assert certified.details["largest"] == pytest.approx(0.1 * norm.ppf(0.001 ** (1 / 300)))


def test_certified_accuracy_is_strict_and_abstaining_is_wrong(halved: Subject) -> None:
    records = list(smoothing(sigmas=[20.0], n=100, radii=[0.0])(halved))
    certified = named(records, "smoothed_certified_accuracy", radius=0.0)
    assert certified.details["abstained"] == 1.0
    assert certified.value == 0.0


def test_votes_are_of_the_image_whatever_the_order(halved: Subject) -> None:
    back = torch.tensor([2, 1, 0])
    turned = dataclasses.replace(
        halved, split=halved.split[back], indices=halved.indices[back], logits=halved.logits[back]
    )
    for place in range(3):
        ours = _votes(halved, place, 0.5, (40, 700), 0)
        theirs = _votes(turned, 2 - place, 0.5, (40, 700), 0)
        assert all(map(torch.equal, ours, theirs))
    assert not torch.equal(ours[2], _votes(halved, 2, 0.5, (40, 700), 1)[2])


def test_a_noisy_image_that_breaks_the_proof_is_found_out(halved: Subject) -> None:
    halved.certificate.slopes.mul_(1e-3)  # radii a thousand times too large
    with pytest.raises(InvariantError, match="Gaussian noise"):
        list(smoothing(sigmas=[1.0], n=10)(halved))


def test_noise_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="σ > 0"):
        smoothing(sigmas=[0.0])


def test_a_single_class_has_all_votes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1)).eval()
    images = torch.rand(2, 1, 2, 2, dtype=torch.float32)
    subject = Subject.of(model, Split(images, torch.zeros(2, dtype=torch.int64)))
    records = list(smoothing(sigmas=[1.0], n=50)(subject))
    assert named(records, "smoothed_mean_radius").value == pytest.approx(
        named(records, "smoothed_mean_radius").details["largest"]
    )


def test_images_have_noise_of_their_own(halved: Subject) -> None:
    twice = halved.at(torch.tensor([0, 0]))
    twice.indices.copy_(torch.tensor([0, 1]))
    first, second = (_votes(twice, place, 0.5, (40, 700), 0) for place in (0, 1))
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], _votes(twice, 0, 0.25, (40, 700), 0)[0])


def test_a_smoothed_radius_that_equals_the_radius_is_not_beyond_it(halved: Subject) -> None:
    alone = halved.sample(1)
    radius = named(list(smoothing(sigmas=[0.25], radii=[])(alone)), "smoothed_mean_radius").value
    below = math.nextafter(radius, 0)
    records = list(smoothing(sigmas=[0.25], radii=[below, radius])(alone))
    shares = [r.value for r in records if r.name == "smoothed_certified_accuracy"]
    assert shares == [1.0, 0.0]


def test_outputs_that_are_not_finite_are_votes_for_no_class(halved: Subject) -> None:
    class Lost(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 2), math.nan).to(x)  # whose argmax is 0

    lost = Subject.of(Lost().eval(), halved.split, refuse=False)
    _, few, many = _votes(lost, 0, 0.5, (40, 700), 0)
    assert (few.tolist(), many.tolist()) == ([0, 0], [0, 0, 700])
