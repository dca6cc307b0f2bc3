"""AOL of matrices against the proof of its paper."""

import pytest
import torch

from lipnets.parametrizations import AOLMatrix


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (300, 256), (256, 512)])
def test_it_follows_its_formula(shape) -> None:
    weight = torch.randn(shape)
    sums = (weight.mT @ weight).abs().sum(dim=1)
    torch.testing.assert_close(AOLMatrix()(weight), weight / sums.sqrt())


def test_its_derivative_is_that_of_autograd() -> None:
    weight, grad = torch.randn(260, 256, requires_grad=True), torch.randn(260, 256)
    plain = weight / (weight.mT @ weight).abs().sum(dim=1).sqrt()
    expected = torch.autograd.grad(plain, weight, grad)[0]
    torch.testing.assert_close(torch.autograd.grad(AOLMatrix()(weight), weight, grad)[0], expected)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_it_does_not_depend_on_the_scale_of_the_weight(scale) -> None:
    weight = torch.randn(5, 3)
    torch.testing.assert_close(AOLMatrix()(scale * weight), AOLMatrix()(weight))


def test_columns_of_zeros_stay_zeros_without_a_gradient_that_is_not_finite() -> None:
    weight = torch.randn(4, 3)
    weight[:, 1] = 0
    out = AOLMatrix()(weight.requires_grad_())
    out.sum().backward()
    assert not out[:, 1].any()
    assert weight.grad.isfinite().all()


def test_tiny_columns_do_not_exceed_1_in_float32() -> None:
    weight = torch.randn(6, 4, dtype=torch.float32) * torch.tensor([1.0, 1e-22, 1e-10, 1e-16])
    assert torch.linalg.matrix_norm(AOLMatrix()(weight.float()).double(), ord=2) <= 1 + 1e-6
