"""Spectral normalization against singular values on fine grids."""

import pytest
import torch

from lipnets.parametrizations import Spectral


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3)])
def test_matrices_are_divided_by_their_norm(shape) -> None:
    weight = torch.randn(shape)
    expected = weight / torch.linalg.matrix_norm(weight, ord=2)
    torch.testing.assert_close(Spectral()(weight), expected)


@pytest.mark.parametrize("seed", range(12))
def test_no_frequency_of_a_fine_grid_exceeds_1(seed) -> None:
    torch.manual_seed(seed)
    outputs, inputs, height, width = torch.randint(1, 5, (4,)).tolist()
    fade = torch.rand(height, width) ** (seed % 3)
    kernel = Spectral()(torch.randn(outputs, inputs, height, width) * fade)
    symbols = torch.fft.fft2(kernel, s=(128, 128)).permute(2, 3, 0, 1)
    norm = torch.linalg.svdvals(symbols).max()
    assert 1 - 1e-2 < norm <= 1 + 1e-9


def test_a_peak_at_a_saddle_of_the_coarse_grid_is_left() -> None:
    # Largest on the coarse grid at (0, π), which is a saddle: the supremum lies beside it.
    rows = torch.tensor([1.0, 1.02, 1.0, -1.3])
    kernel = torch.stack([rows, -rows], dim=1)[None, None]
    norm = torch.fft.fft2(Spectral()(kernel)[0, 0], s=(512, 512)).abs().max()
    assert 1 - 1e-3 < norm <= 1 + 1e-9


def test_orthogonal_kernels_are_left_as_they_are() -> None:
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[..., 1, 1] = torch.linalg.qr(torch.randn(4, 4)).Q
    torch.testing.assert_close(Spectral()(kernel), kernel)


def test_a_step_along_the_weight_has_no_effect() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    Spectral()(weight).backward(torch.randn(4, 3, 3, 3))
    assert (weight.grad * weight.detach()).sum().abs() < 1e-8
