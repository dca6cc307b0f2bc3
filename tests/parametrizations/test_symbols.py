"""Symbols of convolutions against the discrete Fourier transform."""

import pytest
import torch

from lipnets.parametrizations._symbols import Symbol, grid, norm_at


@pytest.mark.parametrize("points", [(4, 5), (6, 4), (1, 3)])
def test_symbols_on_a_grid_are_fourier_transforms_of_the_kernel(points) -> None:
    kernel = torch.randn(3, 2, 1, 3) if points[0] == 1 else torch.randn(3, 2, 3, 3)
    values = Symbol.of(kernel)(grid(points, kernel))
    expected = torch.fft.rfft2(kernel, s=points).conj().permute(2, 3, 0, 1)
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (3, 8, 2, 3), (1, 1, 3, 3), (12, 12, 3, 3)])
def test_approximate_norms_are_a_little_too_small(shape) -> None:
    kernel = torch.randn(shape)
    angles = grid((6, 6), kernel).flatten(0, 1)
    symbol = Symbol.of(kernel)
    ratio = symbol.approximate_norms(angles) / torch.linalg.svdvals(symbol(angles))[:, 0]
    assert ratio.max() <= 1 + 1e-4
    assert ratio.min() > 0.9


def test_approximate_norms_of_zeros_are_zeros() -> None:
    kernel = torch.zeros(3, 2, 3, 3)
    assert not Symbol.of(kernel).approximate_norms(grid((4, 4), kernel).flatten(0, 1)).any()


def test_the_norm_at_a_singular_vector_is_the_singular_value_and_so_is_its_slope() -> None:
    kernel = torch.randn(4, 3, 3, 2, requires_grad=True)
    angles = torch.tensor([[0.7, -1.9]])
    squares, vectors = Symbol.of(kernel).singular(angles)
    norm = norm_at(kernel, angles[0], vectors[0, :, -1])
    torch.testing.assert_close(norm.square(), squares[0, -1])
    norm.backward()
    torch.testing.assert_close((kernel.grad * kernel.detach()).sum(), norm)  # homogeneous
