"""Tests of the Fourier heat map: of linear networks it is the spectrum of their weights."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lipnets.data.filters import waves
from lipnets.probes import InvariantError, Subject, heatmap
from lipnets.records import Record

SHAPES = [(1, 6, 6), (3, 5, 5), (2, 4, 7), (1, 1, 3)]

Build = Callable[..., Any]


def maps(subject: Subject, name: str, **settings: object) -> list[Record]:
    records = list(heatmap(**settings)(subject))  # pyright: ignore[reportArgumentType]
    return [record for record in records if record.name == f"heatmap_{name}"]


def centered(table: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(table, axes=(-2, -1))


@pytest.mark.parametrize("shape", SHAPES)
def test_root_mean_squares_are_the_spectrum_of_linear_weights(
    shape: tuple[int, int, int], examine: Build, linear: Build
) -> None:
    weights = torch.randn(3, *shape)
    # One wave in all channels: their coefficients add up.
    spectrum = np.fft.fft2(weights.numpy(), norm="ortho").sum(axis=1)
    expected = centered(np.sqrt((np.abs(spectrum) ** 2).sum(axis=0)))
    subject = examine(linear(weights), shape, 3)
    for record in maps(subject, "delta", norms=(0.5, 2.0), across=None):
        norm = record.details["norm"]
        assert np.allclose(record.details["rms"], norm * expected)
        assert record.details["length"] == pytest.approx(norm * math.sqrt(shape[0]))
        assert record.details["limit"] == pytest.approx(
            subject.certificate.lipschitz * norm * math.sqrt(shape[0])
        )
        assert record.details["rows"][shape[1] // 2] == 0
        assert record.details["columns"][shape[2] // 2] == 0


def test_errors_and_changes_are_those_of_waves_that_are_written_down(
    examine: Build, linear: Build
) -> None:
    shape = (1, 5, 6)
    weights, bias = torch.randn(3, *shape), torch.randn(3)
    subject = examine(linear(weights, bias), shape, 3)
    (error,) = maps(subject, "error", norms=(1.5,), across=None)
    (delta,) = maps(subject, "delta", norms=(1.5,), across=None)
    images, matrix = subject.images.double().numpy(), weights.flatten(1).numpy()
    y, x = np.arange(5)[:, None] / 5, np.arange(6) / 6
    for i, row in enumerate(range(-2, 3)):
        for j, column in enumerate(range(-3, 3)):
            wrong, change = [], []
            for phase in (math.pi / 4, math.pi / 4 + math.pi / 2):
                wave = np.cos(2 * math.pi * (row * y + column * x) + phase)
                wave /= np.linalg.norm(wave)
                for sign in (1.5, -1.5):
                    logits = (images + sign * wave).reshape(8, -1) @ matrix.T + bias.numpy()
                    wrong += (logits.argmax(axis=1) != subject.labels.numpy()).tolist()
                    change.append(np.linalg.norm(matrix @ (sign * wave).ravel()))
            assert error.details["map"][i][j] == pytest.approx(np.mean(wrong))
            assert delta.details["map"][i][j] == pytest.approx(np.mean(change))
    assert error.value == pytest.approx(np.mean(error.details["map"]))


def test_an_ideal_low_pass_network_is_blind_to_high_frequencies(
    examine: Build, linear: Build
) -> None:
    weights = torch.randn(2, 1, 8, 8)
    spectrum = torch.fft.fft2(weights)
    frequencies = torch.fft.fftfreq(8, 1 / 8)
    low = (frequencies[:, None].abs() <= 1) & (frequencies.abs() <= 1)
    weights = torch.fft.ifft2(spectrum * low).real
    (delta,) = maps(examine(linear(weights), (1, 8, 8), 2), "delta", norms=(1.0,), across=None)
    found = torch.tensor(delta.details["map"])
    seen = torch.zeros(8, 8, dtype=torch.bool)
    seen[3:6, 3:6] = True  # around frequency 0, which is at (4, 4)
    assert (found[~seen] < 1e-12).all()
    assert (found[seen] > 1e-3).all()


def test_where_the_image_begins_does_not_matter(examine: Build, linear: Build) -> None:
    weights = torch.randn(2, 1, 6, 6)
    found = [
        maps(examine(linear(each), (1, 6, 6), 2), "delta", norms=(1.0,), across=None)[0]
        for each in (weights, weights.roll((1, 2), (2, 3)))
    ]
    assert np.allclose(found[0].details["rms"], found[1].details["rms"])


def test_a_map_is_the_same_at_a_frequency_and_its_opposite(subject: Subject) -> None:
    (error,) = maps(subject, "error", norms=(2.0,), across=None)
    table = np.fft.ifftshift(np.array(error.details["map"]))
    assert np.array_equal(table, np.roll(table[::-1, ::-1], (1, 1), (0, 1)))


def test_every_other_frequency_is_that_of_the_whole_map(subject: Subject) -> None:
    (whole,) = maps(subject, "delta", norms=(1.0,), across=None, limit=4)
    (some,) = maps(subject, "delta", norms=(1.0,), across=3, limit=4)
    assert some.details["rows"] == [-2, 0, 2]
    table = np.array(whole.details["map"])
    assert np.allclose(some.details["map"], table[1::2, 1::2])
    (near,) = maps(subject, "delta", norms=(1.0,), across=None, reach=1, limit=4)
    assert np.allclose(near.details["map"], table[2:5, 2:5])


def test_waves_that_are_longer_than_they_say_are_caught(
    monkeypatch: pytest.MonkeyPatch, examine: Build, linear: Build
) -> None:
    weights = waves(4, 4, 1, 0)[:, None]
    subject = examine(linear(weights), (1, 4, 4), 2)
    assert maps(subject, "delta", norms=(1.0,), across=None)
    monkeypatch.setitem(heatmap.__globals__, "waves", lambda *places: 2**0.5 * waves(*places))
    with pytest.raises(InvariantError, match="at most L v √C"):
        list(heatmap(norms=(1.0,), across=None)(subject))


def test_certified_images_that_are_fooled_are_caught(
    monkeypatch: pytest.MonkeyPatch, examine: Build, linear: Build
) -> None:
    weights = torch.stack([waves(4, 4, 0, 1)[0], -waves(4, 4, 0, 1)[0]])[:, None]
    subject = examine(linear(weights, torch.tensor([3.0, 0.0])), (1, 4, 4), 1)
    assert (subject.radii > 0.5).all()
    (error,) = maps(subject, "error", norms=(0.5,), across=None)
    assert error.details["limit"] == error.value == 0
    monkeypatch.setitem(heatmap.__globals__, "correct", lambda logits, labels: labels < 0)
    with pytest.raises(InvariantError, match="fool no image that is certified"):
        list(heatmap(norms=(0.5,), across=None)(subject))


def test_networks_without_a_certificate_are_measured(examine: Build) -> None:
    class Foreign(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :2].sin()

    records = list(heatmap(norms=(1.0,))(examine(Foreign(), (1, 3, 3), 2)))
    assert [record.name for record in records] == ["heatmap_error", "heatmap_delta"]
    assert records[0].details["limit"] is None
