"""Motion, zoom and glass against loops over pixels, and against scipy where it has them."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from lipnets.data.corruptions import corrupt
from lipnets.data.corruptions._draws import generators_of
from lipnets.data.corruptions.blur import streak
from lipnets.data.corruptions.glass import _copied, _exchanged


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.4, 0.6, 0.7, 0.8, 1.0], start=1)))
@pytest.mark.parametrize("size", [(32, 32), (28, 9)])
def test_gaussian_blur_is_that_of_scipy(severity, sigma, size) -> None:
    image = torch.rand(1, 1, *size)
    blurred = corrupt(image, "gaussian_blur", severity, [0])[0, 0].numpy()
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), sigma, mode="nearest", truncate=4)
    np.testing.assert_allclose(blurred, expected, atol=1e-12)


def _streaked(image: Tensor, radius: int, sigma: float, degrees: float) -> Tensor:
    """Walks from each pixel in the direction, and stays on the border."""
    height, width = image.shape
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    blurred = torch.zeros_like(image)
    for i, weight in enumerate(weights):
        down = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        for y in range(height):
            for x in range(width):
                at = min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)
                blurred[y, x] += weight / sum(weights) * image[at]
    return blurred


@pytest.mark.parametrize("degrees", [0.0, 30.0, -44.0, -90.0, -120.0])
def test_a_streak_is_half_of_a_normal_kernel_along_a_line(degrees) -> None:
    image = torch.rand(1, 1, 6, 9)
    expected = _streaked(image[0, 0], 4, 1.5, degrees)
    found = streak(image, 4, 1.5, torch.tensor([degrees]))[0, 0]
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_motion_blurs_each_image_in_a_direction_of_its_own() -> None:
    spots = torch.zeros(40, 1, 33, 33)
    spots[:, :, 16, 16] = 1.0
    blurred = corrupt(spots, "motion_blur", 5, range(40))
    mass = blurred.flatten(1).sum(dim=1)
    assert torch.allclose(mass, torch.ones_like(mass))  # all taps are inside
    line = torch.arange(33) - 16.0
    right = -(blurred.sum(dim=2) * line).sum(dim=(1, 2))  # the spot is seen from the left of it
    down = -(blurred.sum(dim=3) * line).sum(dim=(1, 2))
    angles = torch.rad2deg(torch.atan2(down, right))
    assert angles.abs().max() < 45
    assert angles.min() < -25
    assert angles.max() > 25


@pytest.mark.parametrize("name", ["motion_blur", "zoom_blur", "defocus_blur", "elastic_transform"])
@pytest.mark.parametrize("size", [(32, 32), (6, 11), (1, 1)])
def test_a_plain_image_stays_as_it_is(name, size) -> None:
    plain = torch.rand(3, 3, 1, 1).expand(-1, -1, *size)
    for severity in range(1, 6):
        assert torch.allclose(corrupt(plain, name, severity, range(3)), plain, atol=1e-12)


def _clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image, stretched by scipy."""
    for axis, size in enumerate(image.shape):
        cropped = math.ceil(size / factor)
        begin = (size - cropped) // 2
        image = np.take(image, range(begin, begin + cropped), axis=axis)
    return image


@pytest.mark.parametrize(("severity", "end"), [(1, 1.06), (3, 1.15), (5, 1.25)])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (12, 20)])
def test_zoom_blur_is_the_mean_of_zooms_of_scipy(severity, end, size) -> None:
    image = torch.rand(1, 1, *size)
    zooms = [1 + i / 100 for i in range(round(100 * (end - 1)) + 1)]
    total = image[0, 0].numpy().copy()
    for factor in zooms:
        stretched = ndimage.zoom(_clipped_zoom(image[0, 0].numpy(), factor), factor, order=1)
        trims = [(new - old) // 2 for new, old in zip(stretched.shape, size, strict=True)]
        total += stretched[trims[0] : trims[0] + size[0], trims[1] : trims[1] + size[1]]
    found = corrupt(image, "zoom_blur", severity, [0])[0, 0].numpy()
    np.testing.assert_allclose(found, total / (len(zooms) + 1), atol=1e-12)


def _swapped(image: np.ndarray, moves: Tensor) -> np.ndarray:
    """What the script that made CIFAR-10-C does: one exchange after another, of numpy's views."""
    image = image.copy()
    for h in range(image.shape[0] - 1, 1, -1):
        for w in range(image.shape[1] - 1, 1, -1):
            y, x = h + int(moves[h, w, 0]), w + int(moves[h, w, 1])
            image[h, w], image[y, x] = image[y, x], image[h, w]
    return image


@pytest.mark.parametrize("size", [(32, 32), (7, 12), (12, 7), (3, 3), (2, 5), (1, 1)])
def test_glass_copies_colours_and_exchanges_greys_as_numpy_does(size) -> None:
    moves = torch.randint(-1, 1, (2, *size, 2))
    color, grey = torch.rand(2, 3, *size), torch.rand(2, 1, *size)
    copied, exchanged = _copied(color, moves), _exchanged(grey, moves)
    for i in range(2):
        expected = _swapped(color[i].permute(1, 2, 0).numpy(), moves[i])  # pixels are views
        assert np.array_equal(copied[i].permute(1, 2, 0).numpy(), expected)
        assert np.array_equal(exchanged[i, 0].numpy(), _swapped(grey[i, 0].numpy(), moves[i]))
    if min(size) > 3:
        assert not torch.equal(_copied(grey, moves), _exchanged(grey, moves))


def test_glass_keeps_the_pixels_of_grey_images_and_the_first_of_two() -> None:
    levels = torch.randint(0, 256, (5, 1, 16, 16)) / 255
    through = corrupt(levels, "glass_blur", 1, range(5))  # a σ of 0.05 blurs nothing
    assert torch.allclose(through.flatten(1).sort().values, levels.flatten(1).sort().values)
    color = torch.randint(0, 256, (5, 3, 16, 16)) / 255
    through = corrupt(color, "glass_blur", 1, range(5))
    assert torch.allclose(through[:, :, :2], color[:, :, :2])
    assert not torch.allclose(through.flatten(1).sort().values, color.flatten(1).sort().values)


def test_glass_draws_are_those_of_the_image() -> None:
    first, again = (generators_of(0, "glass_blur", 1, [5])[0] for _ in range(2))
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=again))
