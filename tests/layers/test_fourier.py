"""Products at each frequency, against Fourier transforms of whole images and explicit matrices."""

import itertools

import pytest
import torch
from torch import Tensor

from lipnets.layers import _fourier
from lipnets.layers._fourier import (
    apply_to_spectrum,
    from_spectrum,
    half_plane,
    to_spectrum,
)

SIZES = list(itertools.product(range(1, 6), repeat=2))


@pytest.fixture(params=["dense", "fft"])
def path(request, monkeypatch) -> str:
    monkeypatch.setattr(_fourier, "_DENSE", 400 if request.param == "dense" else 0)
    return request.param


def symbols_of(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Symbols of a kernel as large as the image, in the order of `rfft2`."""
    return torch.fft.rfft2(kernel, s=size).permute(2, 3, 0, 1)


def apply_symbols(x: Tensor, symbols: Tensor) -> Tensor:
    """Multiplies channels by the matrices of all frequencies that `rfft2` keeps, where they count."""
    rows, columns = torch.from_numpy(half_plane((x.shape[2], x.shape[3])).T)
    kept = symbols[rows, columns].mT
    return apply_to_spectrum(x, lambda spectrum: spectrum @ kept, (x.shape[2], x.shape[3]))


@pytest.mark.parametrize("size", SIZES)
def test_of_each_pair_of_frequencies_one_is_kept(size) -> None:
    kept = {tuple(index) for index in half_plane(size)}
    assert len(kept) == len(half_plane(size))
    for row, column in itertools.product(*map(range, size)):
        mirrored = (-row % size[0], -column % size[1])
        assert len({(row, column), mirrored} & kept) == 1


@pytest.mark.parametrize("size", SIZES)
def test_symbols_convolve_as_the_full_transform_does(size, path) -> None:
    x, kernel = torch.randn(2, 3, *size), torch.randn(4, 3, *size)
    full = torch.fft.fft2(kernel).permute(2, 3, 0, 1) @ torch.fft.fft2(x).permute(2, 3, 1, 0)
    expected = torch.fft.ifft2(full.permute(3, 2, 0, 1)).real
    torch.testing.assert_close(apply_symbols(x, symbols_of(kernel, size)), expected)


@pytest.mark.parametrize("size", SIZES)
def test_transforms_pad_and_crop(size, path) -> None:
    x, period = torch.randn(2, 3, *size), (size[0] + 2, size[1] + 3)
    spectrum = to_spectrum(x, period)
    rows, columns = torch.from_numpy(half_plane(period).T)
    torch.testing.assert_close(
        spectrum, torch.fft.fft2(x, s=period).permute(2, 3, 0, 1)[rows, columns]
    )
    torch.testing.assert_close(from_spectrum(spectrum, period, size), x)
    smaller = from_spectrum(spectrum, period, (1, 1))
    torch.testing.assert_close(smaller, x[:, :, :1, :1])


@pytest.mark.parametrize("size", [(3, 4), (4, 4), (2, 5), (1, 2)])
def test_the_norm_is_at_most_the_largest_whatever_the_symmetry(size, path) -> None:
    symbols = torch.randn(size[0], size[1] // 2 + 1, 2, 3, dtype=torch.complex128)
    pixels = torch.eye(3 * size[0] * size[1]).reshape(-1, 3, *size)
    matrix = apply_symbols(pixels, symbols).flatten(1).mT
    rows, columns = torch.from_numpy(half_plane(size).T)
    norms = torch.linalg.matrix_norm(symbols[rows, columns], ord=2)
    assert torch.linalg.matrix_norm(matrix, ord=2) <= norms.max() * (1 + 1e-12)


def test_gradients_are_those_of_the_transforms(path) -> None:
    x = torch.randn(2, 2, 3, 4, requires_grad=True)
    symbols = torch.randn(4, 3, 3, 2, dtype=torch.complex128, requires_grad=True)
    matrices = symbols.flatten(0, 1)

    def apply(x: Tensor, matrices: Tensor) -> Tensor:
        kept = matrices[: len(half_plane((4, 5)))]
        return apply_to_spectrum(x, lambda spectrum: spectrum @ kept.mT, (4, 5), (2, 4))

    assert torch.autograd.gradcheck(apply, (x, matrices))


def test_both_ways_agree_in_single_precision(monkeypatch) -> None:
    x = torch.randn(2, 3, 7, 8, dtype=torch.float32)
    symbols = symbols_of(torch.randn(3, 3, 7, 8, dtype=torch.float32), (7, 8))
    dense = apply_symbols(x, symbols)
    monkeypatch.setattr(_fourier, "_DENSE", 0)
    torch.testing.assert_close(dense, apply_symbols(x, symbols))
    assert dense.dtype == torch.float32
