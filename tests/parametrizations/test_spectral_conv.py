"""Spectral normalization of kernels against singular values on fine grids."""

import pytest
import torch

from lipnets.parametrizations import SpectralConv


@pytest.mark.parametrize("seed", range(16))
def test_no_frequency_of_a_fine_grid_exceeds_1(seed) -> None:
    torch.manual_seed(seed)
    outputs, inputs = torch.randint(1, 17, (2,)).tolist()
    height, width = torch.randint(1, 5, (2,)).tolist()
    fade = torch.rand(height, width) ** (seed % 3)
    kernel = SpectralConv()(torch.randn(outputs, inputs, height, width) * fade)
    symbols = torch.fft.fft2(kernel, s=(64, 64)).permute(2, 3, 0, 1)
    assert 1 - 1e-2 < torch.linalg.svdvals(symbols).max() <= 1


def test_a_peak_at_a_saddle_of_the_coarse_grid_is_left() -> None:
    # Largest on a coarse grid at (0, π), which is a saddle: the supremum lies beside it.
    rows = torch.tensor([1.0, 1.02, 1.0, -1.3])
    kernel = torch.stack([rows, -rows], dim=1)[None, None]
    norm = torch.fft.fft2(SpectralConv()(kernel)[0, 0], s=(512, 512)).abs().max()
    assert 1 - 1e-3 < norm <= 1


def test_a_stride_folds_pixels_into_channels() -> None:
    weight = torch.randn(5, 2, 4, 4)
    folded = torch.nn.functional.pixel_unshuffle(weight, 2)
    expected = torch.nn.functional.pixel_shuffle(SpectralConv()(folded), 2)
    torch.testing.assert_close(SpectralConv((2, 2))(weight), expected, rtol=1e-6, atol=1e-9)


def test_a_step_along_the_weight_has_no_effect() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    SpectralConv()(weight).backward(torch.randn(4, 3, 3, 3))
    assert (weight.grad * weight.detach()).sum().abs() < 1e-8
