"""Augmentations change images as they say, each image in its own way."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lipnets.data import augment
from lipnets.data.augment.affine import resample

SPECS = [
    *("flip", "shift", {"name": "crop", "padding_mode": "reflect"}, "cutout", "affine"),
    *("trivial_augment", {"name": "trivial_augment", "strength": 0.3}, "rand_augment"),
    *({"name": "rand_augment", "num_ops": 3, "magnitude": 30}, "auto_augment"),
]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _numbered(count: int, channels: int, height: int, width: int) -> Tensor:
    """The same image many times, all of whose values are different and positive."""
    size = channels * height * width
    image = torch.arange(1, size + 1, dtype=torch.float32).reshape(channels, height, width) / size
    return image.expand(count, -1, -1, -1)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", [(64, 3, 12, 12), (64, 1, 8, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_range_are_kept_and_images_are_changed(spec, shape, dtype) -> None:
    images = torch.rand(shape, dtype=dtype)
    before = images.clone()
    changed = augment.build([spec])(images, _generator())
    assert torch.equal(images, before)
    assert changed.shape == images.shape
    assert changed.dtype == dtype
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("spec", SPECS)
def test_only_the_generator_decides(spec) -> None:
    images = torch.rand(16, 1, 9, 9)
    step = augment.build([spec])
    first = step(images, _generator(1))
    torch.manual_seed(5)
    assert torch.equal(step(images, _generator(1)), first)
    assert not torch.equal(step(images, _generator(2)), first)


@pytest.mark.parametrize(("padding", "mode"), [(1, "constant"), (2, "reflect"), (3, "replicate")])
def test_crop_gives_every_crop_of_the_padded_image_and_no_other(padding, mode) -> None:
    images = _numbered(2000, 2, 5, 7)
    padded = F.pad(images[:1], [padding] * 4, mode=mode)[0]
    side = 2 * padding + 1
    crops = {
        tuple(padded[:, top : top + 5, left : left + 7].flatten().tolist())
        for top in range(side)
        for left in range(side)
    }
    cropped = augment.crop(padding=padding, padding_mode=mode)(images, _generator())
    assert {tuple(image.flatten().tolist()) for image in cropped} == crops


def test_shift_moves_by_at_most_so_many_pixels_and_black_enters() -> None:
    image = _numbered(1, 1, 4, 4)[0, 0]
    seen = set()
    for moved in augment.shift(pixels=1)(_numbered(500, 1, 4, 4), _generator())[:, 0]:
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                expected = torch.zeros(4, 4, dtype=torch.float32)
                for row in range(4):
                    for column in range(4):
                        if 0 <= row - down < 4 and 0 <= column - right < 4:
                            expected[row, column] = image[row - down, column - right]
                if torch.equal(moved, expected):
                    seen.add((down, right))
    assert len(seen) == 9


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip_mirrors_a_share_p_of_images(p) -> None:
    images = _numbered(4000, 2, 3, 4)
    flipped = augment.flip(p=p)(images, _generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    kept = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all()
    # Five standard deviations of a binomial share.
    assert abs(mirrored.double().mean().item() - p) <= 5 * math.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_cutout_covers_one_square_centred_in_the_image(size, fill) -> None:
    images = _numbered(2000, 2, 6, 5) + 1  # 1 < values, so that none equals the fill
    covered = augment.cutout(size=size, fill=fill)(images, _generator())
    expected = set()
    for y in range(6):
        for x in range(5):
            square = images[0].clone()
            top, left = y - size // 2, x - size // 2
            square[:, max(top, 0) : top + size, max(left, 0) : left + size] = fill
            expected.add(tuple(square.flatten().tolist()))
    assert {tuple(image.flatten().tolist()) for image in covered} == expected


def _resample(images: Tensor, angle: float = 0.0, zoom: float = 1.0, move=(0.0, 0.0)) -> Tensor:
    count = len(images)
    return resample(
        images,
        angle=torch.full((count,), math.radians(angle)),
        zoom=torch.full((count,), zoom),
        move=torch.tensor(move)[:, None].expand(2, count),
    )


def test_affine_maps_are_turns_and_moves_and_scales() -> None:
    square, long = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 8)
    assert torch.allclose(_resample(long), long)
    assert torch.allclose(_resample(long, angle=180), long.flip(2, 3))
    # From the axis of columns to that of rows, which points down: clockwise.
    assert torch.allclose(_resample(square, angle=90), square.rot90(-1, dims=(2, 3)))
    # On a longer image, a turn keeps distances in pixels: the square in the middle turns.
    middle = long[..., 1:7].rot90(-1, dims=(2, 3))
    assert torch.allclose(_resample(long, angle=90)[..., 1:7], middle)
    moved = _resample(long, move=(2.0, -1.0))
    assert torch.allclose(moved[:, :, :-1, 2:], long[:, :, 1:, :-2])
    assert (moved[..., :2] == 0).all()
    assert (moved[:, :, -1] == 0).all()
    # Twice the size: pixel (2, 2) of the block in the middle is a quarter of the way to the next.
    zoomed = _resample(square, zoom=2.0)
    ramp = torch.arange(6.0).expand(1, 1, 6, 6) / 6
    assert torch.allclose(_resample(ramp, zoom=2.0)[0, 0, 3], (torch.arange(6) / 2 + 1.25) / 6)
    assert zoomed.shape == square.shape
    # A turn, then a move, both as one map.
    both = _resample(square, angle=90, move=(1.0, -2.0))
    assert torch.allclose(both[:, :, :-2, 1:], square.rot90(-1, dims=(2, 3))[:, :, 2:, :-1])


def test_affine_without_any_change_is_the_identity() -> None:
    images = torch.rand(3, 2, 7, 5)
    still = augment.affine(degrees=0, scale=0, shift=0)(images, _generator())
    assert torch.allclose(still, images)


def test_a_chain_is_done_in_its_order() -> None:
    images = torch.rand(8, 1, 6, 6)
    crop, cutout = augment.crop(padding=2), augment.cutout(size=3, fill=1.0)
    generator = _generator()
    expected = cutout(crop(images, generator), generator)
    chain = augment.build(
        [{"name": "crop", "padding": 2}, {"name": "cutout", "size": 3, "fill": 1}]
    )
    assert torch.equal(chain(images, _generator()), expected)
    assert augment.build([])(images, _generator()) is images


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("flop", ValueError, "did you mean 'flip'"),
        ({"name": "crop", "pading": 2}, TypeError, "did you mean 'padding'"),
        ({"padding": 2}, TypeError, "should have a 'name'"),
        ({"name": "crop", "padding": -1}, ValueError, "'padding' should be at least 0, got -1"),
        ({"name": "shift", "pixels": -1}, ValueError, "at least 0, got -1"),
        ({"name": "flip", "p": 1.5}, ValueError, "'p' should be in"),
        ({"name": "cutout", "size": 0}, ValueError, "'size' should be at least 1"),
        ({"name": "cutout", "fill": 2}, ValueError, "'fill' should be in"),
        ({"name": "affine", "scale": 1}, ValueError, "'scale' should be in"),
        ({"name": "affine", "degrees": -1}, ValueError, "'degrees' should be at least 0"),
        ({"name": "affine", "shift": -1}, ValueError, "'shift' should be at least 0"),
        ({"name": "mixup", "alpha": 0}, ValueError, "'alpha' should be positive"),
        ({"name": "cutmix", "p": 2}, ValueError, "'p' should be in"),
        ({"name": "trivial_augment", "strength": 2}, ValueError, "'strength' should be in"),
        ({"name": "rand_augment", "num_ops": 0}, ValueError, "'num_ops' should be at least 1"),
        ({"name": "rand_augment", "magnitude": 31}, ValueError, "'magnitude' should be in"),
    ],
)
def test_mistakes_are_refused(spec, error, message) -> None:
    with pytest.raises(error, match=message):
        augment.build([spec])
