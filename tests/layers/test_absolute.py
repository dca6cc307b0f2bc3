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


# Torch writes some of its forward derivatives in a language that it deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("module", [BetaAbs(0.5), SoftHuber(0.3)])
def test_derivatives_are_those_of_finite_differences(module) -> None:
    x = torch.randn(3, 4, 2, requires_grad=True)
    forward = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}  # fmt: skip
    assert torch.autograd.gradcheck(module, x, **forward)
    assert torch.autograd.gradgradcheck(lambda x: module(x) ** 3, x)


@pytest.mark.parametrize("module", [BetaAbs(0.5), SoftHuber(0.3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_parts_of_a_batch_and_layouts_of_memory_change_nothing(
    module, memory_format, monkeypatch
) -> None:
    x = torch.randn(5, 4, 3, 3)
    expected, slopes = torch.func.jvp(module, (x,), (torch.ones_like(x),))  # by plain operations
    monkeypatch.setattr("lipnets.layers._parts._PART", 80)
    laid_out = x.to(memory_format=memory_format).requires_grad_()
    out = module(laid_out)
    out.sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(laid_out.grad, slopes)
    with torch.no_grad():
        assert torch.equal(module(laid_out), out)
