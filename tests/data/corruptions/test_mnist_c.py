"""The corruptions of MNIST-C, each by its law on an image that shows it."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from lipnets.data.corruptions import mnist_c
from lipnets.data.corruptions.mnist_c import MNIST_C, corrupt

DRAWN = set(MNIST_C) - {"identity", "scale", "brightness", "stripe", "canny_edges"}


def test_there_are_fifteen_and_none() -> None:
    assert len(MNIST_C) == 16
    assert set(MNIST_C) == set(mnist_c.names())
    assert MNIST_C[0] == "identity"


@pytest.mark.parametrize("name", MNIST_C)
@pytest.mark.parametrize("size", [(28, 28), (8, 8), (5, 9), (2, 2), (1, 1)])
def test_shape_dtype_and_range_are_kept(name, size) -> None:
    if name == "fog" and size != (8, 8):
        return  # clouds of 256 pixels take their time
    images = torch.rand(3, 1, *size, dtype=torch.float32)
    images[0] = 0
    before = images.clone()
    changed = corrupt(images, name, range(3))
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", MNIST_C)
def test_images_depend_on_their_index_and_the_seed_alone(name) -> None:
    images = torch.rand(1, 1, 28, 28).expand(6, -1, -1, -1)
    whole = corrupt(images, name, [5, 3, 9, 0, 1, 2])
    alone = corrupt(images[:1], name, [9])
    assert torch.allclose(alone[0], whole[2], rtol=0, atol=1e-14)
    others = corrupt(images, name, [5, 3, 9, 0, 1, 2], seed=1)
    assert torch.equal(others, whole) == (name not in DRAWN)


def test_noise_has_the_strength_of_its_severity() -> None:
    half = torch.full((60, 1, 28, 28), 0.5)
    counts = corrupt(half, "shot_noise", range(60)) * 3
    assert torch.allclose(counts, counts.round(), atol=1e-9)
    # P(3 photons or more of 1.5 on average) is 1: brighter values are clipped.
    white = (counts > 2.5).double().mean().item()
    assert white == pytest.approx(1 - math.exp(-1.5) * (1 + 1.5 + 1.125), abs=0.01)
    salted = corrupt(half, "impulse_noise", range(60))
    assert (salted != 0.5).double().mean().item() == pytest.approx(0.17, abs=0.01)
    assert (corrupt(half * 0.6, "brightness", range(60)) - 0.8).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("name", "matrices"),
    [
        ("shear", [[[1, -math.sin(s)], [0, math.cos(s)]] for s in (0.4, -0.4)]),
        (
            "rotate",
            [[[math.cos(s), -math.sin(s)], [math.sin(s), math.cos(s)]] for s in (0.4, -0.4)],
        ),
        ("scale", [[[1 / 0.7, 0], [0, 1 / 0.7]]]),
    ],
)
@pytest.mark.parametrize("size", [(28, 28), (9, 14)])
def test_maps_are_those_of_scipy_about_the_middle(name, matrices, size) -> None:
    # A zero border: scipy's is sharp where ours is linear.
    image = torch.zeros(size)
    image[2:-2, 2:-2] = torch.rand(size[0] - 4, size[1] - 4)
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    expected = []
    for each in matrices:
        of_xy = np.array(each)
        offset = middle - of_xy @ middle
        flipped, shift = of_xy[::-1, ::-1], offset[::-1]
        expected.append(
            ndimage.affine_transform(image.numpy(), flipped, shift, order=1, mode="grid-constant")
        )
    found = corrupt(image.expand(12, 1, *size), name, range(12))[:, 0].numpy()
    which = [
        [bool(np.allclose(each, other, atol=1e-9)) for other in expected].index(True)
        for each in found
    ]
    assert set(which) == set(range(len(matrices)))


def test_translations_are_by_three_along_both_axes() -> None:
    spot = torch.zeros(1, 1, 28, 28)
    spot[:, :, 14, 13] = 1
    moved = corrupt(spot.expand(40, -1, -1, -1), "translate", range(40))
    places = {tuple((each[0] == 1).nonzero()[0].tolist()) for each in moved}
    assert places == {(14 + i, 13 + j) for i in (-3, 3) for j in (-3, 3)}


def test_stripes_are_columns_before_7_and_from_21_on() -> None:
    image = torch.rand(1, 1, 28, 28)
    striped = corrupt(image, "stripe", [0])
    assert torch.equal(striped[..., 7:21], image[..., 7:21])
    assert torch.allclose(striped[..., :7], 1 - image[..., :7])
    assert torch.allclose(striped[..., 21:], 1 - image[..., 21:])


def test_dotted_lines_are_two_columns_of_four() -> None:
    lines = corrupt(torch.zeros(30, 1, 28, 28), "dotted_line", range(30))[:, 0]
    drawn = lines.amax(dim=1) > 0
    expected = [column // 2 % 2 == 1 and column < 27 for column in range(28)]
    assert drawn.any(dim=0).tolist() == expected
    brightest = lines.amax(dim=1)[:, torch.tensor(expected)]
    assert brightest.min() >= 1 + math.log(1 - 0.5 / 2.3) - 1e-12  # no column is off by more


def test_the_light_of_a_line_falls_with_the_logarithm_of_the_distance() -> None:
    flat = next(
        line
        for line in corrupt(torch.zeros(400, 1, 28, 28), "dotted_line", range(400))[:, 0]
        if line[:, 2].equal(line[:, 26]) and 4 < int(line[:, 2].argmax()) < 24
    )
    row = int(flat[:, 2].argmax())
    light = [1, 1 + math.log(1 - 1 / 2.3), 0, 0]
    assert flat[row : row + 4, 2].tolist() == pytest.approx(light, abs=1e-12)


def test_zigzags_go_up_and_down_from_column_2_to_25() -> None:
    lines = corrupt(torch.zeros(60, 1, 28, 28), "zigzag", range(60))[:, 0]
    columns = (lines.amax(dim=1) > 0).any(dim=0)
    # Corners are turned with the line: by 12°, they end 0.4 pixels before and after.
    assert not columns[:2].any()
    assert columns[2:24].all()
    inside = [line for line in lines if 8 < int(line[:, 3].argmax()) < 20]
    for line in inside:
        heights = line.argmax(dim=0)[3:24].double()
        turns = (heights.diff().sign().diff() != 0).sum()
        assert turns >= 4


def test_fog_hides_most_of_a_digit() -> None:
    image = torch.zeros(3, 1, 28, 28)
    image[:, :, 10:18, 10:18] = 1
    fogged = corrupt(image, "fog", range(3))
    contrast = fogged[:, :, 12:16, 12:16].mean() - fogged[:, :, 12:16, 2:6].mean()
    assert 0.1 < contrast < 0.5  # 1/(1 + 3), but for the clouds
    assert not torch.equal(fogged[0], fogged[1])


def test_mud_is_dark_grey() -> None:
    white = corrupt(torch.ones(5, 1, 28, 28), "spatter", range(5))
    black = corrupt(torch.zeros(5, 1, 28, 28), "spatter", range(5))
    cover = 1 - (white - black)
    assert torch.allclose(black, cover * 63 / 255)
    assert ((cover < 1e-12) | (cover > 0.8 - 1e-12)).all()


def test_the_edges_of_a_square_are_its_outline() -> None:
    square = torch.zeros(1, 1, 28, 28)
    square[:, :, 8:20, 8:20] = 1
    edges = corrupt(square, "canny_edges", [0])[0, 0]
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    assert edges[12:16, 6:22].sum(dim=1).tolist() == edges[12:16].sum(dim=1).tolist()
    sides = edges[14].nonzero().flatten().tolist()
    assert sides == [7, 8, 19, 20]  # both sides of a step are as steep
    assert torch.equal(edges, edges.T)
    assert not edges[10:18, 10:18].any()


@pytest.mark.parametrize(
    ("shape", "name", "message"),
    [
        ((1, 3, 8, 8), "fog", "1 channel, got 3"),
        ((1, 1, 8, 8), "strip", "did you mean 'stripe'"),
        ((2, 1, 8, 8), "fog", "'indices' shape"),
    ],
)
def test_mistakes_are_refused(shape, name, message) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(torch.zeros(shape), name, [0])
