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
    assert sorted(keys) == sorted((n, r) for n in ("low_pass", "high_pass") for r in range(6))
    images = subject.images.double().numpy()
    for record in records:
        radius, low = record.details["radius"], record.details["filter"] == "low_pass"
        logits = model(torch.from_numpy(filtered(images, radius, low)))
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
