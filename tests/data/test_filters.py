"""Filters split images by frequency."""

import math

import pytest
import torch

from lipnets.data.filters import high_pass, low_pass, radial_frequency, rings

SIZES = [(8, 8), (7, 7), (28, 28), (32, 32), (6, 9), (5, 12), (1, 4), (1, 1)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frequencies_follow_their_definition(height, width) -> None:
    rho = radial_frequency(height, width)
    assert rho.shape == (height, width)
    for row in range(height):
        for column in range(width):
            # Frequencies count from either end: f and size - f are waves of the same length.
            y, x = min(row, height - row) / height, min(column, width - column) / width
            assert rho[row, column] == pytest.approx(
                math.hypot(y, x) * min(height, width), rel=1e-14, abs=0
            )


def test_whole_frequencies_are_exact() -> None:
    for size in (10, 28, 32, 49):
        assert radial_frequency(size, size)[3, 4] == 5
        assert radial_frequency(size, 3 * size)[0, 6] == 2


def test_an_image_of_32_pixels_has_rings_0_to_23() -> None:
    numbers = rings(32, 32)
    assert numbers.unique().tolist() == list(range(24))
    assert (numbers == 1).sum() == 8  # (0, ±1), (±1, 0), (±1, ±1)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_waves_pass_or_do_not(height, width) -> None:
    rho = radial_frequency(height, width)
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    for row in range(height):
        for column in range(width):
            wave = torch.cos(2 * math.pi * (row * y + column * x) + 0.3)
            for radius in (0, 1, 2, 3.2):
                kept = wave if rho[row, column] <= radius else torch.zeros_like(wave)
                assert torch.allclose(low_pass(wave, radius), kept, atol=1e-12)
                assert torch.allclose(high_pass(wave, radius), wave - kept, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("radius", [-1, 0, 1, 2.5, 4, 100])
def test_low_and_high_are_orthogonal_parts_of_an_image(height, width, radius) -> None:
    images = torch.rand(2, 3, height, width)
    low, high = low_pass(images, radius), high_pass(images, radius)
    assert torch.allclose(low + high, images, atol=1e-15)
    energy = low.square().sum() + high.square().sum()
    assert energy.item() == pytest.approx(images.square().sum().item(), rel=1e-12)


def test_the_ends_are_the_mean_and_the_image() -> None:
    images = torch.rand(2, 1, 6, 5)
    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    assert torch.allclose(low_pass(images, 0), mean)
    assert torch.allclose(low_pass(images, radial_frequency(6, 5).max().item()), images)


def test_the_dtype_of_images_is_kept() -> None:
    assert low_pass(torch.rand(1, 1, 4, 4, dtype=torch.float32), 1).dtype == torch.float32
