"""Filters split images by frequency."""

import math

import pytest
import torch

from lipnets.data.filters import (
    high_pass,
    low_pass,
    radial_bands,
    radial_frequency,
    ring_means,
    rings,
    wave_numbers,
    waves,
)

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


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_waves_of_all_frequencies_are_a_basis(height, width) -> None:
    rows, columns = wave_numbers(height), wave_numbers(width)
    assert len(rows) == height
    assert 0 in rows
    found = []
    for row in rows:
        for column in columns:
            pair = waves(height, width, row, column).flatten(1)
            assert torch.allclose(pair.norm(dim=1), torch.ones(2), atol=1e-12)
            spectrum = torch.fft.fft2(pair.unflatten(1, (height, width)), norm="ortho").abs()
            at = spectrum[:, row % height, column % width]
            other = spectrum[:, -row % height, -column % width]
            alone = (row % height, column % width) == (-row % height, -column % width)
            # All of the energy is at the frequency and its opposite, if that is another one.
            assert torch.allclose(at, torch.full((2,), 1.0 if alone else 0.5**0.5), atol=1e-10)
            assert torch.allclose(at, other, atol=1e-10)
            found += [pair[0]] if alone else [pair[0], pair[1]]
    # Each pair of opposite frequencies was met twice.
    assert int(torch.linalg.matrix_rank(torch.stack(found))) == height * width


def test_steps_and_reach_keep_opposite_frequencies_together() -> None:
    assert wave_numbers(28, step=4) == [-12, -8, -4, 0, 4, 8, 12]
    assert wave_numbers(8, step=4) == [-4, 0]
    assert wave_numbers(9, reach=2) == [-2, -1, 0, 1, 2]
    with pytest.raises(ValueError, match="at least 1"):
        wave_numbers(4, step=0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ring_means_are_averages_over_rings(height, width) -> None:
    values = torch.rand(2, height, width)
    means, counts = ring_means(values)
    numbers = rings(height, width)
    for ring in range(len(counts)):
        chosen = values[:, numbers == ring]
        assert counts[ring] == chosen.shape[1]
        if len(chosen.mT):
            assert torch.allclose(means[:, ring], chosen.mean(dim=1))
    assert torch.allclose((means * counts).sum(dim=1), values.sum(dim=(1, 2)))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_bands_are_the_same_at_a_frequency_and_its_opposite(height, width, count) -> None:
    numbers = radial_bands(height, width, count)
    assert numbers.min() == 0
    assert numbers.max() < count
    assert torch.equal(numbers, numbers.flip(0, 1).roll((1, 1), (0, 1)))
    for row in range(height):
        for column in range(width):
            y, x = min(row, height - row) / height, min(column, width - column) / width
            exact = 2 * count * math.hypot(y, x)
            near = abs(exact - round(exact)) < 1e-6
            expected = min(round(exact) if near else math.floor(exact), count - 1)
            assert numbers[row, column] == expected


def test_there_is_at_least_one_band() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        radial_bands(4, 4, 0)


@pytest.mark.parametrize("size", [6, 7, 28, 44])
def test_bands_are_those_of_whole_numbers(size: int) -> None:
    """⌊2fK/n⌋ with f² = a² + b², in integers: ⌊√(4K²(a² + b²)/n²)⌋."""
    for count in (*range(1, 9), size // 2):  # of which some edges are rounded
        found = radial_bands(size, size, count).tolist()
        for i in range(size):
            for j in range(size):
                a, b = min(i, size - i), min(j, size - j)
                band = math.isqrt(4 * count**2 * (a**2 + b**2) // size**2)
                assert found[i][j] == min(band, count - 1)
