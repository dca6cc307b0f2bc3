"""JPEG and pixelation against Pillow, elastic images against scipy."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from lipnets.data.corruptions import CONSTANTS, corrupt
from lipnets.data.corruptions._draws import generators_of


def _photos(count: int, channels: int, height: int, width: int) -> Tensor:
    """Bytes of images with something of a photograph: a power of frequencies, and edges."""
    noise = torch.randn(count, channels, height, width)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) / (0.03 + (fy**2 + fx**2).sqrt())).real
    smooth = smooth / smooth.std(dim=(1, 2, 3), keepdim=True) * 0.2 + 0.5
    smooth[:, :, height // 2 :, : width // 3] *= 0.3
    return (smooth.clamp(0, 1) * 255).round() / 255


def _pillow(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        read = np.array(Image.open(file))
    return torch.from_numpy(read.reshape(*read.shape[:2], -1)).permute(2, 0, 1).double()


@pytest.mark.parametrize(("severity", "quality"), list(enumerate([80, 65, 58, 50, 40], start=1)))
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 27, 29), (3, 17, 8), (1, 5, 11)])
def test_jpeg_is_that_of_pillow_but_for_rounding(severity, quality, shape) -> None:
    images = _photos(6, *shape)
    found = corrupt(images, "jpeg_compression", severity, range(6)) * 255
    apart = torch.stack(
        [(a - _pillow(b, quality)).abs() for a, b in zip(found, images, strict=True)]
    )
    lost = (found - images * 255).abs().mean()
    assert apart.mean() < 1.6  # grey levels: those that EVALUATION allows
    assert apart.mean() < 0.25 * lost


def test_jpeg_at_the_wrong_quality_is_not_that_of_pillow() -> None:
    images = _photos(6, 3, 32, 32)
    found = corrupt(images, "jpeg_compression", 1, range(6)) * 255
    apart = torch.stack([(a - _pillow(b, 65)).abs() for a, b in zip(found, images, strict=True)])
    assert apart.mean() > 0.8


def test_jpeg_keeps_plain_greys() -> None:
    for level in (0, 1, 77, 128, 255):
        plain = torch.full((1, 3, 16, 16), level / 255)
        kept = corrupt(plain, "jpeg_compression", 1, [0]) * 255
        assert (kept - level).abs().max() <= 1
        expected = _pillow(plain[0], 80)
        assert torch.equal(kept[0].round(), expected)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate([0.95, 0.9, 0.85, 0.75, 0.65], 1)))
@pytest.mark.parametrize("size", [(32, 32), (28, 20)])
def test_pixelate_is_that_of_pillow_to_a_grey_level(severity, factor, size) -> None:
    image = (torch.rand(1, 1, *size) * 255).round() / 255
    height, width = size
    picture = Image.fromarray((image[0, 0] * 255).round().byte().numpy())
    small = picture.resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    expected = np.array(small.resize((width, height), Image.Resampling.BOX)).astype(float)
    found = corrupt(image, "pixelate", severity, [0])[0, 0].numpy() * 255
    # Each of Pillow's four passes rounds by half a level; means do not make it more.
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.6


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("size", [(32, 32), (12, 17)])
def test_elastic_is_an_affine_map_and_a_field_of_scipy(severity, size) -> None:
    image = torch.rand(1, 1, *size)
    height, width = size
    side = min(size)
    strength, sigma, jitter = (side * each for each in CONSTANTS["elastic_transform"][severity - 1])
    (generator,) = generators_of(3, "elastic_transform", severity, [8])
    shifts = (2 * torch.rand(3, 2, generator=generator) - 1).numpy() * jitter
    middle, reach = np.array([width // 2, height // 2]), side // 3
    points = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    # The affine map of x, y that takes the moved points back, by least squares.
    system = np.concatenate([points + shifts, np.ones((3, 1))], axis=1)
    back = np.linalg.lstsq(system, points, rcond=None)[0].T  # (2, 3)
    matrix, offset = back[::-1, 1::-1], back[::-1, 2]  # of y, x
    moved = ndimage.affine_transform(image[0, 0].numpy(), matrix, offset, order=1, mode="mirror")
    if strength:
        field = (2 * torch.rand(2, *size, generator=generator) - 1).numpy()
        right, down = (
            strength * ndimage.gaussian_filter(each, sigma, mode="reflect", truncate=3)
            for each in field
        )
        y, x = np.mgrid[:height, :width].astype(float)
        moved = ndimage.map_coordinates(moved, [y + down, x + right], order=1, mode="reflect")
    found = corrupt(image, "elastic_transform", severity, [8], seed=3)[0, 0].numpy()
    np.testing.assert_allclose(found, moved, atol=1e-9)


def test_elastic_images_move_by_a_few_pixels() -> None:
    ramp = (torch.arange(32.0) / 64).expand(20, 1, 32, 32)
    moved = corrupt(ramp, "elastic_transform", 1, range(20)) - ramp
    middle = moved[:, :, 14:18, 14:18].abs().mean() * 64
    assert 0.2 < middle < 0.08 * 32
    assert math.isclose(float(moved[:, :, 16, 16].mean() * 64), 0, abs_tol=1.5)
