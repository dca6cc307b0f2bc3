"""Blur, light, colour and pixels against loops over pixels, written from the definitions."""

import colorsys
import math

import pytest
import torch
from torch import Tensor

from lipnets.data.corruptions import corrupt

SIZES = [(8, 8), (5, 9), (2, 3), (1, 1)]


def _corrupt(images: Tensor, name: str, severity: int) -> Tensor:
    return corrupt(images, name, severity, range(len(images)))


def _taps(sigma: float, reach: int) -> dict[int, float]:
    weights = {i: math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)}
    return {i: weight / sum(weights.values()) for i, weight in weights.items()}


def _mirrored(i: int, size: int) -> int:
    """Walks from pixel 0 in steps of 1 that turn back at both ends."""
    place, step = 0, 1 if i > 0 else -1
    for _ in range(abs(i)):
        if size == 1:
            break
        if not 0 <= place + step < size:
            step = -step
        place += step
    return place


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.4, 0.6, 0.7, 0.8, 1.0], start=1)))
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_gaussian_blur_is_a_normal_mean_with_repeated_borders(
    severity, sigma, height, width
) -> None:
    images = torch.rand(2, 1, height, width)
    taps = _taps(sigma, reach=round(4 * sigma))
    expected = torch.zeros_like(images)
    for row in range(height):
        for column in range(width):
            for i, down in taps.items():
                for j, right in taps.items():
                    y = min(max(row + i, 0), height - 1)
                    x = min(max(column + j, 0), width - 1)
                    expected[:, :, row, column] += down * right * images[:, :, y, x]
    assert torch.allclose(_corrupt(images, "gaussian_blur", severity), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("severity", "disk", "sigma"),
    [
        (1, {(0, 0)}, 0.4),
        (2, {(0, 0)}, 0.5),
        (3, {(0, 0)}, 0.6),
        (4, {(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)}, 0.2),
        (5, {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}, 0.1),
    ],
)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_defocus_blur_is_a_smoothed_disk_with_mirrored_borders(
    severity, disk, sigma, height, width
) -> None:
    images = torch.rand(2, 1, height, width)
    taps = _taps(sigma, reach=1)
    expected = torch.zeros_like(images)
    for row in range(height):
        for column in range(width):
            for i, j in disk:
                for k, down in taps.items():
                    for m, right in taps.items():
                        y, x = _mirrored(row + i + k, height), _mirrored(column + j + m, width)
                        share = down * right / len(disk)
                        expected[:, :, row, column] += share * images[:, :, y, x]
    assert torch.allclose(_corrupt(images, "defocus_blur", severity), expected, atol=1e-12)


def _hsv_images() -> Tensor:
    """All colours of a coarse grid, black, white and greys among them."""
    levels = torch.linspace(0, 1, 6)
    grid = torch.cartesian_prod(levels, levels, levels)  # (216, 3)
    return grid.T.reshape(1, 3, 12, 18)


@pytest.mark.parametrize(
    ("severity", "gain"), list(enumerate([0.05, 0.1, 0.15, 0.2, 0.3], start=1))
)
def test_brightness_adds_to_the_value(severity, gain) -> None:
    images = _hsv_images()
    changed = _corrupt(images, "brightness", severity)
    for before, after in zip(images.flatten(2)[0].T, changed.flatten(2)[0].T, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + gain, 1))
        assert after.tolist() == pytest.approx(expected, abs=1e-12)


def test_brightness_of_grey_images_is_a_sum() -> None:
    images = torch.rand(2, 1, 4, 4)
    assert torch.allclose(_corrupt(images, "brightness", 5), (images + 0.3).clamp(max=1))


@pytest.mark.parametrize(
    ("severity", "factor", "offset"),
    [(1, 0.3, 0), (2, 0.1, 0), (3, 1.5, 0), (4, 2, 0.1), (5, 2.5, 0.2)],
)
def test_saturate_changes_the_saturation(severity, factor, offset) -> None:
    images = _hsv_images()
    changed = _corrupt(images, "saturate", severity)
    for before, after in zip(images.flatten(2)[0].T, changed.flatten(2)[0].T, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
        expected = colorsys.hsv_to_rgb(hue, min(factor * saturation + offset, 1), value)
        assert after.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("severity", "factor"), list(enumerate([0.75, 0.5, 0.4, 0.3, 0.15], start=1))
)
def test_contrast_keeps_the_mean_and_scales_the_deviation(severity, factor) -> None:
    images = torch.rand(3, 3, 6, 5)
    changed = _corrupt(images, "contrast", severity)
    assert torch.allclose(changed.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    assert torch.allclose(changed.std(dim=(2, 3)), factor * images.std(dim=(2, 3)))


def _box(line: list[float], new: int) -> list[float]:
    """Resizes a line of pixels as Pillow does: means of pixels whose centres are covered."""
    scale = len(line) / new
    support = max(scale, 1) / 2
    resized = []
    for i in range(new):
        centre = (i + 0.5) * scale
        covered = [x for j, x in enumerate(line) if -support < j + 0.5 - centre <= support]
        resized.append(sum(covered) / len(covered))
    return resized


@pytest.mark.parametrize(
    ("severity", "factor"), list(enumerate([0.95, 0.9, 0.85, 0.75, 0.65], start=1))
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), *SIZES])
def test_pixelate_scales_down_and_up(severity, factor, height, width) -> None:
    images = torch.rand(1, 1, height, width)

    def down_and_up(line: list[float]) -> list[float]:
        return _box(_box(line, max(int(len(line) * factor), 1)), len(line))

    rows = [down_and_up(row) for row in images[0, 0].tolist()]
    columns = [down_and_up(list(column)) for column in zip(*rows, strict=True)]
    expected = torch.tensor(columns).T
    assert torch.allclose(_corrupt(images, "pixelate", severity)[0, 0], expected, atol=1e-12)


def test_pixelate_of_32_pixels_by_three_quarters_is_known() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    # 32 pixels become 24: of every 4, the first, the mean of two, and the last.
    line = (_corrupt(ramp, "pixelate", 4)[0, 0, 0] * 32)[:8]
    assert line.tolist() == pytest.approx([0, 1.5, 1.5, 3, 4, 5.5, 5.5, 7])
