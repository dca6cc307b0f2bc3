"""Tests of Shapley values of bands: additive games, permutations, networks that see one band."""

import dataclasses
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipnets.probes import InvariantError, Subject, shapley
from lipnets.probes.shapley import _baseline, score, shapley_values

Build = Callable[..., Any]


def test_an_additive_game_gives_every_player_its_own() -> None:
    own = torch.tensor([1.0, -2.0, 0.5, 0.0])
    bits = torch.arange(16)[:, None] >> torch.arange(4) & 1
    values = (bits * own).sum(dim=1, keepdim=True) + 7  # an offset is nobody's
    assert torch.allclose(shapley_values(values)[:, 0], own)


def test_values_are_the_mean_gain_over_all_orders_of_entry() -> None:
    values = torch.randn(32, 3)
    expected = torch.zeros(5, 3)
    orders = list(permutations(range(5)))
    for order in orders:
        coalition = 0
        for player in order:
            gain = values[coalition | 1 << player] - values[coalition]
            expected[player] += gain / len(orders)
            coalition |= 1 << player
    assert torch.allclose(shapley_values(values), expected)


def test_a_network_that_sees_one_band_gives_it_all(examine: Build, linear: Build) -> None:
    weights = torch.randn(3, 1, 8, 8)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8)))
    band = torch.from_numpy((frequencies >= 0.25) & (frequencies < 0.375))
    weights = torch.fft.ifft2(torch.fft.fft2(weights) * band).real
    subject = examine(linear(weights), (1, 8, 8), 3)
    records = list(shapley(bands=4)(subject))
    values = {r.details["band"]: r.value for r in records if r.name == "shapley"}
    log_probability = subject.logits.log_softmax(dim=1)[torch.arange(8), subject.labels]
    # Without the band all classes have the same logit.
    expected = float(log_probability.mean()) - np.log(1 / 3)
    assert values[2] == pytest.approx(expected)
    assert [values[i] for i in (0, 1, 3)] == pytest.approx([0, 0, 0], abs=1e-12)


def test_contributions_of_coalitions_are_those_of_filtered_images(
    examine: Build, linear: Build
) -> None:
    """With two bands: ψ₀ = (v(0) − v(∅) + v(01) − v(1)) / 2, from images that numpy filters."""
    shape = (2, 5, 6)
    weights, bias = torch.randn(3, *shape), torch.randn(3)
    subject = examine(linear(weights, bias), shape, 3)
    images = subject.images.double().numpy()
    y, x = np.meshgrid(np.fft.fftfreq(5), np.fft.fftfreq(6), indexing="ij")
    low = np.hypot(y, x) < 0.25

    def payoff(mask: np.ndarray) -> float:
        kept = np.fft.ifft2(np.fft.fft2(images) * mask)
        assert np.abs(kept.imag).max() < 1e-12
        logits = kept.real.reshape(8, -1) @ weights.flatten(1).numpy().T + bias.numpy()
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return float(logits[np.arange(8), subject.labels.numpy()].mean())

    none, all_of_it = payoff(0 * low), payoff(0 * low + 1)
    first = (payoff(low) - none + all_of_it - payoff(~low)) / 2
    found = [r.value for r in shapley(bands=2)(subject) if r.name == "shapley"]
    assert found == pytest.approx([first, all_of_it - none - first])


def test_bands_without_frequencies_contribute_nothing(subject: Subject) -> None:
    for record in shapley(bands=8)(subject):
        if record.name == "shapley" and record.details["frequencies"] == 0:
            assert record.value == 0


@pytest.mark.parametrize("baseline", ["zero", "noise", "image"])
def test_draws_depend_on_images_and_not_on_their_order(subject: Subject, baseline: Any) -> None:
    order = torch.randperm(len(subject))
    shuffled = dataclasses.replace(
        subject,
        split=subject.split[order],
        indices=subject.indices[order],
        logits=subject.logits[order],
    )
    probe = shapley(bands=2, baseline=baseline, limit=None)
    first, second = (
        [r.value for r in probe(each) if r.name == "shapley"] for each in (subject, shuffled)
    )
    assert first == pytest.approx(second, rel=1e-9)
    again = [r.value for r in shapley(bands=2, baseline=baseline, limit=None, seed=1)(subject)][:2]
    assert (again == first) is (baseline == "zero")


def test_contributions_that_do_not_add_up_are_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        shapley.__globals__, "shapley_values", lambda values: 1.1 * shapley_values(values)
    )
    with pytest.raises(InvariantError, match="payoff of all less that of none"):
        list(shapley(bands=3)(subject))


def test_scores_have_a_sign_and_no_unit() -> None:
    means = torch.tensor([4.0, 2.0, 1.0, 0.0])
    assert score(means) > 0 > score(means.flip(0))
    assert score(3 * means + 5) == pytest.approx(score(means))
    assert score(torch.full((4,), -2.0)) == pytest.approx(0)
    # β = (1, ¾): ‖β‖₂ = 5/4, D = 7/10; all of it in the low band gives (4/5 − 7/10) / (3/10).
    assert score(torch.tensor([1.0, 0.0])) == pytest.approx(1 / 3)
    assert score(torch.tensor([0.0, 1.0])) == pytest.approx(-1 / 3)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="between 2 and 12"):
        shapley(bands=1)
    with pytest.raises(ValueError, match="zero, noise or image"):
        shapley(baseline="grey")  # pyright: ignore[reportArgumentType]


class Lost(nn.Module):
    """Logits of a linear map, and none where an image is brighter than allowed."""

    def __init__(self, brightest: float) -> None:
        super().__init__()
        self.head = nn.Linear(36, 3)
        self.brightest = brightest

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        logits = self.head(flat)
        return logits.where(flat.mean(dim=1, keepdim=True) <= self.brightest, torch.nan)


def test_images_whose_outputs_are_not_finite_are_left_out(examine: Build) -> None:
    free = examine(Lost(2.0), (1, 6, 6), 3)
    means = free.images.flatten(1).mean(dim=1)
    brightest = float(means.sort().values[4:6].mean())  # five of eight images are darker
    few = Lost(brightest)
    few.head = free.model.head
    records = list(shapley(bands=3)(examine(few, (1, 6, 6), 3)))
    found = [r for r in records if r.name == "shapley"]
    assert {r.details["left_out"] for r in found} == {3}
    assert {r.count for r in found} == {5}
    dark = (means <= brightest).nonzero().flatten()
    part = Subject.of(free.model, free.split[dark], refuse=False)
    expected = [r.value for r in shapley(bands=3)(part) if r.name == "shapley"]
    assert [r.value for r in found] == pytest.approx(expected)


def test_without_any_finite_output_there_are_no_contributions(examine: Build) -> None:
    (record,) = shapley(bands=2)(examine(Lost(-1.0), (1, 6, 6), 3))
    assert record.name == "shapley_skipped"


def test_noise_in_place_of_bands_has_half_a_unit_of_deviation(examine: Build) -> None:
    subject = examine(nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)), (1, 32, 32), 2)
    noise = _baseline(subject, subject, "noise", 0)
    assert noise.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.5] * 8, rel=0.1)
    assert noise.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.0] * 8, abs=0.06)


def test_no_image_stands_in_for_itself(examine: Build) -> None:
    subject = examine(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2), 2, 3)
    for seed in range(8):  # with 3 images, one in three draws would be the image itself
        others = _baseline(subject, subject, "image", seed)
        assert (others != subject.images.double()).flatten(1).any(dim=1).all()
