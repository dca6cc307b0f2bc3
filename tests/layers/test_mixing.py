"""Shifts, shuffles and block transforms, against permutations and closed forms."""

import math

import pytest
import torch
from torch import Tensor

import lipnets
from lipnets import NotCertifiedError, layers
from lipnets.layers import BlockDCT2d, SpatialShift2d, band_gains, frequency_gains


def matrix(layer: torch.nn.Module, shape: tuple[int, int, int]) -> Tensor:
    pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
    return layer(pixels).flatten(1).mT


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("groups", [4, 5])
@pytest.mark.parametrize("size", [(3, 4), (1, 5), (2, 2)])
def test_circular_shifts_are_permutations(size, groups, channels) -> None:
    layer = SpatialShift2d(groups)
    found = matrix(layer, (channels, *size))
    assert (found.sum(dim=0) == 1).all()
    assert (found.sum(dim=1) == 1).all()
    assert ((found == 0) | (found == 1)).all()
    zeros = matrix(SpatialShift2d(groups, "zeros"), (channels, *size))
    assert ((zeros == found) | (zeros == 0)).all()
    assert torch.linalg.matrix_norm(zeros, ord=2) <= 1


@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
def test_shifts_go_in_four_directions(padding_mode) -> None:
    x = torch.zeros(1, 5, 3, 3)
    x[:, :, 1, 1] = 1
    out = SpatialShift2d(5, padding_mode)(x)
    places = [tuple(channel.nonzero()[0].tolist()) for channel in out[0]]
    assert places == [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]


def test_shifts_with_zeros_lose_the_pixels_that_leave() -> None:
    x = torch.ones(1, 4, 3, 5)
    out = SpatialShift2d(4, "zeros")(x).sum(dim=(0, 2, 3))
    assert out.tolist() == [10, 10, 12, 12]


def test_a_share_of_the_channels_moves_in_each_direction() -> None:
    x = torch.zeros(1, 17, 3, 3)
    x[:, :, 1, 1] = 1
    out = SpatialShift2d(ratio=1 / 8)(x)
    places = [tuple(channel.nonzero()[0].tolist()) for channel in out[0]]
    moved = [(0, 1), (2, 1), (1, 0), (1, 2)]
    assert places == [each for each in moved for _ in range(2)] + [(1, 1)] * 9
    for arguments in ({"ratio": 0.3}, {"ratio": -0.1}, {"groups": 4, "ratio": 0.1}):
        with pytest.raises(ValueError, match="'ratio' should be in"):
            SpatialShift2d(**arguments)


@pytest.mark.parametrize("arguments", [{"groups": 3}, {"padding_mode": "reflect"}])
def test_other_shifts_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="4 or 5 groups"):
        SpatialShift2d(**arguments)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_block_transforms_are_orthogonal(factor) -> None:
    layer, shape = BlockDCT2d(factor).eval(), (2, factor, 2 * factor)
    found = matrix(layer, shape)
    torch.testing.assert_close(found @ found.mT, torch.eye(len(found)))
    assert lipnets.lipschitz(layer, shape).value == pytest.approx(1, abs=1e-9)
    constant = layer(torch.full((1, *shape), 2.0)).unflatten(1, (2, -1))
    torch.testing.assert_close(constant[:, :, 0], torch.full((1, 2, 1, 2), 2.0 * factor))
    assert constant[:, :, 1:].abs().sum() < 1e-12


def test_blocks_of_two_pixels_are_those_of_haar() -> None:
    a, b, c, d = pixels = torch.randn(4)
    out = BlockDCT2d(2)(pixels.view(1, 1, 2, 2)).flatten()
    expected = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    torch.testing.assert_close(out, expected)


def test_blocks_follow_the_order_of_unshuffled_pixels() -> None:
    x = torch.randn(2, 3, 4, 6)
    mine, theirs = BlockDCT2d(2)(x), layers.build("pixel_unshuffle", downscale_factor=2)(x)
    assert mine.shape == theirs.shape
    norms = [out.unflatten(1, (3, 4)).norm(dim=2) for out in (mine, theirs)]
    torch.testing.assert_close(*norms)


def test_gains_are_1() -> None:
    for layer in (SpatialShift2d(), BlockDCT2d(2), layers.build("pixel_unshuffle", downscale_factor=2)):  # fmt: skip
        gains = frequency_gains(layer.eval(), (4, 6))
        torch.testing.assert_close(gains, torch.ones(4, 6))
    assert band_gains(SpatialShift2d().eval(), (5, 4, 6), (0.2,)).tolist() == [1, 1]
    with pytest.raises(NotCertifiedError, match="circular"):
        frequency_gains(SpatialShift2d(5, "zeros").eval(), (4, 6))


def test_what_is_no_image_is_refused() -> None:
    for layer in (SpatialShift2d(), BlockDCT2d(2)):
        with pytest.raises(NotCertifiedError, match="images with channels"):
            lipnets.lipschitz(layer.eval(), (4, 4))
    with pytest.raises(ValueError, match="at least 1"):
        BlockDCT2d(0)
