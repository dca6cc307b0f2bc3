"""Spectral normalization of matrices against singular values."""

import pytest
import torch

from lipnets.parametrizations import SpectralMatrix


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3), (3, 1), (9, 9), (14, 20)])
def test_small_matrices_are_divided_by_their_norm(shape) -> None:
    weight = torch.randn(shape)
    expected = weight / torch.linalg.matrix_norm(weight, ord=2)
    torch.testing.assert_close(SpectralMatrix()(weight), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["flat", "decaying", "clustered", "gapped", "random"])
def test_no_spectrum_is_underestimated(spectrum, dtype) -> None:
    size = 200
    values = {
        "flat": torch.ones(size),
        "decaying": torch.linspace(1, 0, size),
        "clustered": 1 - 1e-3 * torch.rand(size),
        "gapped": torch.cat([torch.ones(1), 0.99 * torch.ones(size - 1)]),
        "random": torch.randn(size),
    }[spectrum]
    left, right = (torch.linalg.qr(torch.randn(size, size)).Q for _ in range(2))
    weight = ((left * values) @ right).to(dtype)
    norm = torch.linalg.matrix_norm(SpectralMatrix()(weight).double(), ord=2).item()
    assert 1 - 2e-3 < norm <= 1 + 3e-7


def test_steps_beyond_the_first_room_are_kept() -> None:
    # A spectrum on which the iteration takes more steps than it has room for at first.
    values = 1 - torch.linspace(0, 1, 400) ** 4 * 1e-2
    weight = torch.linalg.qr(torch.randn(400, 400)).Q * values
    assert torch.linalg.matrix_norm(SpectralMatrix()(weight), ord=2).item() <= 1 + 1e-9


def test_zeros_stay_zeros_and_a_step_along_the_weight_has_no_effect() -> None:
    assert not SpectralMatrix()(torch.zeros(3, 4)).any()
    weight = torch.randn(5, 4, requires_grad=True)
    SpectralMatrix()(weight).backward(torch.randn(5, 4))
    assert (weight.grad * weight.detach()).sum().abs() < 1e-10
