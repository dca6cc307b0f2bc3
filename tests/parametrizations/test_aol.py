"""AOL against the proof of its paper."""

import pytest
import torch

from lipnets.parametrizations import AOL


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_aol_of_matrices_follows_its_formula(shape) -> None:
    weight = torch.randn(shape)
    sums = [sum(abs(float(column @ other)) for other in weight.mT) for column in weight.mT]
    torch.testing.assert_close(AOL()(weight), weight / torch.tensor(sums).sqrt())


def test_aol_does_not_depend_on_the_scale_of_the_weight() -> None:
    weight = torch.randn(3, 2, 3, 3)
    torch.testing.assert_close(AOL()(1e30 * weight), AOL()(weight))
    torch.testing.assert_close(AOL()(1e-30 * weight), AOL()(weight))


def test_groups_are_rescaled_alone() -> None:
    weight = torch.randn(6, 2, 3, 3)
    halves = [AOL()(half) for half in weight.chunk(2)]
    torch.testing.assert_close(AOL(groups=2)(weight), torch.cat(halves))


def test_a_stride_is_aol_after_folding_pixels_into_channels() -> None:
    weight = torch.randn(5, 2, 4, 4)
    folded = torch.nn.functional.pixel_unshuffle(weight, 2)  # phases as channels, (5, 8, 2, 2)
    expected = torch.nn.functional.pixel_shuffle(AOL()(folded), 2)
    torch.testing.assert_close(AOL(stride=(2, 2))(weight), expected)


def test_channels_of_zeros_stay_zeros() -> None:
    weight = torch.randn(3, 2, 3, 3)
    weight[:, 0] = 0
    constrained = AOL()(weight)
    assert not constrained[:, 0].any()
    assert constrained[:, 1].any()


@pytest.mark.parametrize("axes", [1, 3])
def test_axes_of_one_tap_change_nothing(axes) -> None:
    weight = torch.randn(4, 3, *(3, 1, 1)[:axes])
    expected = AOL()(weight.reshape(4, 3, 3, 1)).view_as(weight)
    torch.testing.assert_close(AOL()(weight), expected)


def test_a_dilation_that_shares_the_stride_keeps_all_taps_on_the_same_inputs() -> None:
    weight = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(AOL((2, 2), dilation=(2, 2))(weight), AOL()(weight))
