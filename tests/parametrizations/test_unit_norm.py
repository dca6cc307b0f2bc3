"""Rows of norm 1."""

import torch

from lipnets.parametrizations import UnitNorm


def test_rows_are_divided_by_their_norms_whatever_their_scales() -> None:
    weight = torch.randn(3, 5)
    scales = torch.tensor([[1e-30], [1.0], [1e30]])
    expected = weight / weight.square().sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(UnitNorm()(weight * scales), expected)


def test_steps_along_a_row_have_no_effect() -> None:
    weight = torch.randn(3, 5, requires_grad=True)
    UnitNorm()(weight).backward(torch.randn(3, 5))
    assert (weight.grad * weight.detach()).sum(dim=1).abs().max() < 1e-12
