"""Radial bands, and kernels normalized within them."""

import math

import numpy as np
import pytest
import torch

from lipnets.parametrizations.band import BandSpectral, radial_mask


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (6, 3)])
def test_the_mask_is_1_inside_and_0_outside(size) -> None:
    frequencies, factors = radial_mask(size, 0.15, 0.45, 0.1)
    for index in np.ndindex(*size):
        signed = [(i - n if 2 * i >= n else i) / n for i, n in zip(index, size, strict=True)]
        assert frequencies[index].tolist() == pytest.approx(signed)
        radius = math.hypot(*signed)
        if 0.25 <= radius <= 0.35:
            assert factors[index] == pytest.approx(1)
        elif 0.15 < radius < 0.45:
            assert 0 < factors[index] < 1
        else:
            assert factors[index] == 0


def test_edges_are_half_open_in_the_middle() -> None:
    _, factors = radial_mask((20, 20), 0.0, 0.35, 0.1)
    assert factors[0, 6] == pytest.approx(0.5)  # 0.3 cycles per pixel
    assert factors[0, 0] == 1


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.2), (0.2, 0.9), (0.1, 0.4)])
def test_the_largest_filtered_symbol_is_1(low, high) -> None:
    kernel = BandSpectral(low, high, 0.05)(torch.randn(3, 4, 3, 3))
    _, factors = radial_mask((32, 32), low, high, 0.05)
    symbols = torch.fft.fft2(kernel, s=(32, 32)).permute(2, 3, 0, 1)
    norms = torch.from_numpy(factors) * torch.linalg.svdvals(symbols)[..., 0]
    assert norms.max().item() == pytest.approx(1, abs=1e-9)
