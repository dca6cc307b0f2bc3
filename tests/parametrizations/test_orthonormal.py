"""Orthonormal rows against the QR factorization and finite differences."""

import pytest
import torch

from lipnets.parametrizations._orthonormal import orthonormal


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 7), (1, 1)])
def test_it_is_the_orthogonal_factor_with_a_positive_diagonal(shape) -> None:
    matrices = torch.randn(shape)
    tall = matrices if shape[-2] > shape[-1] else matrices.mT
    factor, upper = torch.linalg.qr(tall)
    factor = factor * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    expected = factor if shape[-2] > shape[-1] else factor.mT
    torch.testing.assert_close(orthonormal(matrices), expected)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (2, 3, 3)])
def test_derivatives_are_those_of_finite_differences(shape) -> None:
    assert torch.autograd.gradcheck(orthonormal, torch.randn(shape, requires_grad=True))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_without_full_rank_it_contracts(rank) -> None:
    matrices = (torch.randn(3, rank) @ torch.randn(rank, 5)).requires_grad_()
    out = orthonormal(matrices)
    out.sum().backward()
    assert torch.linalg.matrix_norm(out, ord=2) <= 1 + 1e-12
    assert matrices.grad.isfinite().all()
