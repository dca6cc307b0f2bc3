"""Absolute values."""

import math

import pytest
import torch

from lipnets.layers import Abs, BetaAbs, SoftHuber, build


def test_abs_takes_the_absolute_value_and_keeps_gradient_norms() -> None:
    x = torch.tensor([[-2.0, 3.0, -0.5]], requires_grad=True)
    out = build("abs")(x)
    assert isinstance(build("abs"), Abs)
    assert out.tolist() == [[2.0, 3.0, 0.5]]
    out.backward(torch.tensor([[1.0, 2.0, 4.0]]))
    assert x.grad.tolist() == [[-1.0, 2.0, -4.0]]


@pytest.mark.parametrize(("beta", "count"), [(0.0, 0), (0.3, 1), (0.5, 2), (1.0, 5)])
def test_beta_abs_takes_that_of_the_first_channels(beta, count) -> None:
    x = -torch.rand(3, 5, 2)
    signs = torch.tensor([-1.0] * count + [1.0] * (5 - count))[:, None]
    assert torch.equal(BetaAbs(beta)(x), signs * x)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_fractions_outside_of_0_and_1_are_refused(beta) -> None:
    with pytest.raises(ValueError, match="'beta' should be in"):
        BetaAbs(beta)


def test_soft_huber_is_smooth_and_close_to_the_absolute_value() -> None:
    x = torch.tensor([-1e200, -3.0, 0.0, 4.0], requires_grad=True)
    out = SoftHuber(3.0)(x)
    torch.testing.assert_close(out[1:], torch.tensor([math.sqrt(18) - 3, 0.0, 2.0]))
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-1.0, -math.sqrt(0.5), 0.0, 0.8]))


@pytest.mark.parametrize("delta", [0.0, -1.0, math.inf, math.nan])
def test_widths_that_are_not_positive_are_refused(delta) -> None:
    with pytest.raises(ValueError, match="'delta' should be positive"):
        SoftHuber(delta)
