"""A corrupted image depends on the image, its index, the seed, and on nothing else."""

import numpy as np
import pytest
import torch

from lipnets.data.corruptions import (
    CONSTANTS,
    EXTRA,
    FAMILIES,
    MAIN,
    STAND_INS,
    applicable,
    corrupt,
    family,
    mnist_c,
    names,
)

NOISES = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]
SWAPS = ["elastic_transform", "fog", "frost_proc", "glass_blur", "motion_blur", "snow", "spatter"]
EVALUATION = {  # the table of EVALUATION 2.1, one string a row, as it is printed there
    "gaussian_noise": ".04 .06 .08 .09 .10",
    "shot_noise": "500 250 100 75 50",
    "impulse_noise": ".01 .02 .03 .05 .07",
    "speckle_noise": ".06 .1 .12 .16 .2",
    "defocus_blur": "(.3,.4)(.4,.5)(.5,.6)(1,.2)(1.5,.1)",
    "glass_blur": "(.05,1,1)(.25,1,1)(.4,1,1)(.25,1,2)(.4,1,2)",
    "motion_blur": "(6,1)(6,1.5)(6,2)(8,2)(9,2.5)",
    "snow": "(.1,.2,1,.6,8,3,.95)(.1,.2,1,.5,10,4,.9)(.15,.3,1.75,.55,10,4,.9)"
    "(.25,.3,2.25,.6,12,6,.85)(.3,.3,1.25,.65,14,12,.8)",
    "frost_proc": "(1,.2)(1,.3)(.9,.4)(.85,.4)(.75,.45)",
    "fog": "(.2,3)(.5,3)(.75,2.5)(1,2)(1.5,1.75)",
    "brightness": ".05 .1 .15 .2 .3",
    "contrast": ".75 .5 .4 .3 .15",
    "elastic_transform": "(0,0,.08)(.05,.2,.07)(.08,.06,.06)(.1,.04,.05)(.1,.03,.03)",
    "pixelate": ".95 .9 .85 .75 .65",
    "jpeg_compression": "80 65 58 50 40",
    "gaussian_blur": ".4 .6 .7 .8 1",
    "spatter": "(.62,.1,.7,.7,.5,0)(.65,.1,.8,.7,.5,0)(.65,.3,1,.69,.5,0)"
    "(.65,.1,.7,.69,.6,1)(.65,.1,.5,.68,.6,1)",
    "saturate": "(.3,0)(.1,0)(1.5,0)(2,.1)(2.5,.2)",
}


def _row(text: str) -> list[tuple[float, ...]]:
    cells = text.strip("()").split(")(") if "(" in text else text.split()
    return [tuple(map(float, cell.split(","))) for cell in cells]


@pytest.mark.parametrize("name", sorted(EVALUATION))
def test_constants_are_those_of_cifar_10_c(name) -> None:
    found = [each if isinstance(each, tuple) else (each,) for each in CONSTANTS[name]]
    assert found == _row(EVALUATION[name])


def test_zooms_are_those_of_a_range_of_floats() -> None:
    # As the published arrays were made: `arange` keeps two of the ends that it should leave out.
    ends = (1.06, 1.11, 1.16, 1.21, 1.26)
    assert CONSTANTS["zoom_blur"] == tuple(len(np.arange(1, end, 0.01)) for end in ends)


def test_there_are_fifteen_and_four_and_a_stand_in_for_frost() -> None:
    assert len(MAIN) == len(set(MAIN)) == 15
    assert len(EXTRA) == 4
    assert set(names()) == set(CONSTANTS) == {*MAIN, *EXTRA, "frost_proc"} - {"frost"}
    assert STAND_INS == {"frost": "frost_proc"}
    assert {each: len(members) for each, members in FAMILIES.items()} == {
        "noise": 3,
        "blur": 4,
        "weather": 4,
        "digital": 4,
    }
    assert [family(name) for name in MAIN].count("weather") == 4
    assert {family(name) for name in EXTRA} == {"extra"}


def _channels(name: str) -> list[int]:
    return [channels for channels in (1, 3) if name in applicable(channels)]


def test_corruptions_of_colour_are_for_colours() -> None:
    assert set(applicable(3)) == set(names())
    assert set(applicable(3)) - set(applicable(1)) == {"saturate"}
    with pytest.raises(ValueError, match="3 channels, got 1"):
        corrupt(torch.rand(1, 1, 4, 4), "saturate", 1, [0])


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("size", [(28, 28), (5, 9), (2, 3), (1, 1)])
def test_shape_dtype_and_range_are_kept(name, size) -> None:
    for channels, dtype in zip(_channels(name), (torch.float32, torch.float64), strict=False):
        images = torch.rand(3, channels, *size, dtype=dtype)
        images[0], images[1] = 0, 1
        before = images.clone()
        for severity in range(1, 6):
            changed = corrupt(images, name, severity, range(3))
            assert changed.shape == images.shape
            assert changed.dtype == dtype
            assert changed.isfinite().all()
            assert changed.min() >= 0
            assert changed.max() <= 1
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", names())
def test_batches_and_their_order_do_not_matter(name) -> None:
    images = torch.rand(9, 3, 8, 7)
    indices = torch.tensor([40, 3, 17, 0, 9999, 5, 6, 8, 7])
    whole = corrupt(images, name, 3, indices)
    torch.manual_seed(99)
    # Noise is the same to the bit; sums of kernels may be rounded in another order.
    atol = 0 if name in NOISES else 1e-14
    order = torch.randperm(9)
    mixed = corrupt(images[order], name, 3, indices[order])
    assert torch.allclose(mixed, whole[order], rtol=0, atol=atol)
    for i in range(9):
        alone = corrupt(images[i : i + 1], name, 3, [int(indices[i])])
        assert torch.allclose(alone[0], whole[i], rtol=0, atol=atol)


@pytest.mark.parametrize("name", sorted([*NOISES, *SWAPS]))
def test_noise_depends_on_index_seed_and_severity(name) -> None:
    images = torch.rand(1, 3, 12, 12).expand(2, -1, -1, -1)
    first, second = corrupt(images, name, 5, [0, 1])
    assert not torch.equal(first, second)
    assert torch.equal(first, corrupt(images, name, 5, [7, 0])[1])
    assert not torch.equal(first, corrupt(images, name, 5, [0, 1], seed=1)[0])


@pytest.mark.parametrize("name", sorted(set(names()) - {*NOISES, *SWAPS}))
def test_other_corruptions_do_not_draw(name) -> None:
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(corrupt(images, name, 2, [0]), corrupt(images, name, 2, [5], seed=1))


def test_noise_of_another_name_or_severity_is_another() -> None:
    images = torch.full((1, 1, 8, 8), 0.5)
    draws = [
        (corrupt(images, "gaussian_noise", 2, [0]) - 0.5) / 0.06,
        (corrupt(images, "gaussian_noise", 3, [0]) - 0.5) / 0.08,
        (corrupt(images, "speckle_noise", 2, [0]) - 0.5) / 0.05,
    ]
    for i in range(3):
        assert not torch.allclose(draws[i], draws[i - 1])


@pytest.mark.parametrize("name", names())
def test_the_global_random_state_is_left_alone(name) -> None:
    state = torch.get_rng_state()
    corrupt(torch.rand(2, 3, 8, 8, generator=torch.Generator()), name, 4, [0, 1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", names())
def test_the_default_dtype_does_not_matter(name) -> None:
    images = torch.rand(2, 3, 9, 8, dtype=torch.float32)
    in_double = corrupt(images, name, 5, [3, 4])
    torch.set_default_dtype(torch.float32)
    assert torch.equal(corrupt(images, name, 5, [3, 4]), in_double)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", names())
def test_the_device_does_not_matter(name) -> None:
    images = torch.rand(8, 3, 32, 32)
    for severity in (1, 5):
        there = corrupt(images.cuda(), name, severity, range(8))
        assert there.is_cuda
        torch.testing.assert_close(
            there.cpu(), corrupt(images, name, severity, range(8)), rtol=0, atol=1e-12
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", mnist_c.MNIST_C)
def test_the_device_does_not_matter_to_digits(name) -> None:
    images = torch.rand(8, 1, 28, 28)
    there = mnist_c.corrupt(images.cuda(), name, range(8)).cpu()
    torch.testing.assert_close(there, mnist_c.corrupt(images, name, range(8)), rtol=0, atol=1e-12)


MONOTONE = sorted(
    set(names())
    - {"frost_proc", "glass_blur", "pixelate", "elastic_transform", "spatter", "saturate"}
)


@pytest.mark.parametrize("name", MONOTONE)
def test_harder_is_farther_from_the_image(name) -> None:
    smooth = torch.nn.functional.interpolate(
        torch.rand(24, 3, 8, 8), scale_factor=4, mode="bilinear"
    )
    distances = [
        (corrupt(smooth, name, severity, range(24)) - smooth).flatten(1).norm(dim=1).mean().item()
        for severity in range(1, 6)
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("name", names())
def test_published_arrays_are_cut_to_bytes(name) -> None:
    images = torch.rand(4, 3, 8, 8, dtype=torch.float32)
    exact = corrupt(images.double(), name, 3, range(4)) * 255
    levels = corrupt(images, name, 3, range(4), quantize="floor") * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    below = exact - levels
    assert below.min() > -2e-4  # of which a level may be short in float32
    assert below.max() < 1


def test_bytes_that_no_one_changed_are_kept() -> None:
    levels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16)
    kept = mnist_c.corrupt(levels / 255, "identity", [0], quantize="floor")
    assert torch.equal((kept * 255).round(), levels)
    inverted = mnist_c.corrupt(levels / 255, "stripe", [0], quantize="floor")
    assert torch.equal((inverted * 255).round()[..., :4], 255 - levels[..., :4])
    with pytest.raises(ValueError, match="'floor' or None, got 'round'"):
        corrupt(levels / 255, "fog", 1, [0], quantize="round")


def test_no_images_are_no_mistake() -> None:
    assert corrupt(torch.zeros(0, 1, 8, 8), "shot_noise", 1, []).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "severity", "indices", "message"),
    [
        ("gausian_noise", 1, [0], "did you mean 'gaussian_noise'"),
        ("contrast", 0, [0], "'severity' should be 1, 2, 3, 4 or 5, got 0"),
        ("contrast", 6, [0], "'severity' should be 1, 2, 3, 4 or 5, got 6"),
        ("contrast", 1, [0, 1], "'indices' shape"),
    ],
)
def test_mistakes_are_refused(name, severity, indices, message) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(torch.rand(1, 3, 8, 8), name, severity, indices)
