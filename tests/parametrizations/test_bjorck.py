"""Björck's iteration against the singular value decomposition."""

import pytest
import torch

from lipnets.parametrizations import Bjorck, NewtonSchulz


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5)])
def test_it_finds_the_polar_factor(shape) -> None:
    weight = torch.randn(shape)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(Bjorck()(weight), left @ right)


@pytest.mark.parametrize("smallest", [1e-2, 1e-4, 1e-5])
def test_it_converges_for_clustered_and_small_singular_values(smallest) -> None:
    left, right = (torch.linalg.qr(torch.randn(5, 5)).Q for _ in range(2))
    weight = left @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.5, smallest])) @ right
    torch.testing.assert_close(Bjorck()(weight), left @ right)


def test_what_does_not_converge_stays_below_1() -> None:
    left, right = (torch.linalg.qr(torch.randn(4, 4)).Q for _ in range(2))
    weight = left @ torch.diag(torch.tensor([1.0, 1e-3, 1e-7, 1e-12])) @ right
    values = torch.linalg.svdvals(Bjorck()(weight))
    assert values[0].item() == pytest.approx(1)
    assert values.max() <= 1 + 1e-12
    assert 0 < values[-1] < 1


def test_steps_along_the_weight_and_along_scalings_have_no_effect() -> None:
    weight = torch.randn(5, 3, requires_grad=True)
    Bjorck()(weight).backward(torch.randn(5, 3))
    assert (weight.grad * weight.detach()).sum().abs() < 1e-10


@pytest.mark.parametrize("shape", [(7, 7), (9, 5), (5, 9)])
@pytest.mark.parametrize("method", [Bjorck, NewtonSchulz])
def test_the_derivative_is_that_of_the_limit_or_of_the_steps_to_it(method, shape) -> None:
    # Above and below the condition from which the derivative of the limit is taken.
    for smallest in (0.8, 0.3, 0.11, 0.09, 0.01):
        left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        weight = ((left * torch.linspace(smallest, 1, 5 if 5 in shape else 7)) @ right) * 3
        grad = torch.randn(shape)
        found = torch.autograd.grad(method()(weight.requires_grad_()), weight, grad)[0]
        plain = torch.linalg.svd(weight, full_matrices=False)
        expected = torch.autograd.grad(plain[0] @ plain[2], weight, grad)[0]
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("method", [Bjorck, NewtonSchulz])
def test_a_norm_that_was_underestimated_does_no_harm(method, monkeypatch) -> None:
    # A start that is orthogonal to the largest singular vector, as a random one never is.
    monkeypatch.setattr("lipnets.parametrizations._polar._extremes", lambda product: (1e-3, 0.5))
    weight = torch.randn(20, 9)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(method()(weight), left @ right)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", [Bjorck, NewtonSchulz])
def test_square_gaussian_matrices_converge_in_float32(method, seed) -> None:
    torch.manual_seed(seed)
    values = torch.linalg.svdvals(method()(torch.randn(256, 256, dtype=torch.float32)).double())
    torch.testing.assert_close(values, torch.ones(256), rtol=0, atol=1e-5)
    assert values.max() <= 1 + 1e-6
