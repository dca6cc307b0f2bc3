"""Tests of the probe of spatial frequencies: against numpy's Fourier transform."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, frequency
from lipnets.probes import frequency as builder


def filtered(images: np.ndarray, radius: float, low: bool) -> np.ndarray:
    height, width = images.shape[-2:]
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    kept = np.sqrt(y**2 + x**2) * min(height, width) <= radius + 1e-9
    spectrum = np.fft.fft2(images) * (kept if low else ~kept)
    return np.fft.ifft2(spectrum).real


def test_accuracies_are_those_of_images_filtered_by_numpy(
    subject: Subject, model: nn.Sequential
) -> None:
    records = [r for r in frequency()(subject) if r.name == "filtered_accuracy"]
    keys = [(record.details["filter"], record.details["radius"]) for record in records]
    # The corners of the spectrum of 6 × 6 images lie at √18 = 4.2 cycles per image.
    names = ("low_pass", "high_pass", "high_pass_and_mean")
    assert sorted(keys) == sorted((n, r) for n in names for r in range(6))
    images = subject.images.double().numpy()
    for record in records:
        radius, low = record.details["radius"], record.details["filter"] == "low_pass"
        left = filtered(images, radius, low)
        if record.details["filter"] == "high_pass_and_mean":
            left += images.mean(axis=(2, 3), keepdims=True)
        logits = model(torch.from_numpy(left))
        if logits.unique(dim=0).shape[0] == 1:  # nothing is left: ties of rounding
            continue
        right = (logits.argmax(dim=1) == subject.labels).double().mean()
        assert record.value == right


def test_all_frequencies_give_the_accuracy_of_whole_images(subject: Subject) -> None:
    records = [r for r in frequency()(subject) if r.name == "filtered_accuracy"]
    last = next(
        r.value for r in records if r.details["filter"] == "low_pass" and r.details["radius"] == 5
    )
    assert last == records[0].details["unfiltered"]
    none = next(
        r.value for r in records if r.details["filter"] == "high_pass" and r.details["radius"] == 5
    )
    assert none == 0.25  # the same class for every image, and classes are balanced
    assert records[0].details["chance"] == 0.25


def test_longer_images_have_the_frequencies_of_their_shorter_side() -> None:
    split = Split(
        torch.rand(8, 3, 4, 7, dtype=torch.float32), torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(84, 2)).eval()
    records = list(frequency()(Subject.of(model, split)))
    radii = {r.details["radius"] for r in records if r.name == "filtered_accuracy"}
    assert radii == {0, 1, 2, 3}  # √(1/4 + 9/49) · 4 = 2.6


def test_a_filter_that_loses_something_is_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(images: torch.Tensor, radius: float) -> torch.Tensor:
        return images - images.mean() if radius == 0 else torch.zeros_like(images)

    monkeypatch.setitem(builder.__globals__, "high_pass", leaky)
    with pytest.raises(InvariantError, match="sum of its low and high frequencies"):
        list(frequency()(subject))


def test_filters_whose_parts_overlap_are_caught_by_their_energy(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("low_pass", "high_pass"):  # their sum is the image, their energies are not its
        monkeypatch.setitem(builder.__globals__, name, lambda images, radius: images / 2)
    with pytest.raises(InvariantError, match="energy"):
        list(frequency()(subject))


def test_a_limit_takes_images_evenly(subject: Subject) -> None:
    records = list(frequency(limit=12)(dataclasses.replace(subject)))
    assert {r.count for r in records if r.name == "filtered_accuracy"} == {12}


def test_areas_and_half_radii_are_those_of_the_curves(subject: Subject) -> None:
    records = list(frequency()(subject))
    for name in ("low_pass", "high_pass", "high_pass_and_mean"):
        own = [r for r in records if r.details.get("filter") == name]
        curve = [r.value for r in own if r.name == "filtered_accuracy"]
        (area,) = [r.value for r in own if r.name == "filter_area"]
        assert area == pytest.approx((sum(curve) - (curve[0] + curve[-1]) / 2) / 5)
        half = own[0].details["unfiltered"] / 2
        good = [radius for radius, value in enumerate(curve) if value >= half]
        found = [r.value for r in own if r.name == "half_accuracy_radius"]
        assert found == [float(good[0] if name == "low_pass" else good[-1])] if good else not found


def test_energies_are_shares_of_what_is_not_the_mean() -> None:
    y = torch.arange(8) / 8
    slow, fast = (torch.cos(2 * torch.pi * k * y)[:, None].expand(8, 8) for k in (1, 3))
    image = 0.5 + 0.2 * slow + 0.1 * fast  # energies 4 : 1
    split = Split(image.float()[None, None].repeat(2, 1, 1, 1), torch.tensor([0, 1]))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    records = list(frequency(energies=(0.4,))(Subject.of(model, split)))
    shares = {
        (r.details["filter"], r.details["radius"]): r.details["energy"]
        for r in records
        if r.name == "filtered_accuracy"
    }
    for radius, low in enumerate([0, 0.8, 0.8, 1, 1, 1, 1]):
        assert shares["low_pass", radius] == pytest.approx(low, abs=1e-6)
        assert shares["high_pass", radius] == pytest.approx(1 - low, abs=1e-6)
        assert shares["high_pass_and_mean", radius] == pytest.approx(1 - low, abs=1e-6)
    equal = {r.details["filter"] for r in records if r.name == "equal_energy_accuracy"}
    assert equal == {"low_pass", "high_pass_and_mean"}


def test_filters_are_compared_between_radii(subject: Subject) -> None:
    records = list(frequency(energies=(0.3,))(subject))
    for name in ("low_pass", "high_pass_and_mean"):
        points = sorted(
            (r.details["energy"], r.value)
            for r in records
            if r.name == "filtered_accuracy" and r.details["filter"] == name
        )
        below = max(p for p in points if p[0] <= 0.3)
        above = min(p for p in points if p[0] > 0.3)
        share = (0.3 - below[0]) / (above[0] - below[0])
        expected = below[1] + share * (above[1] - below[1])
        (found,) = [
            r.value
            for r in records
            if r.name == "equal_energy_accuracy" and r.details["filter"] == name
        ]
        assert found == pytest.approx(expected)
