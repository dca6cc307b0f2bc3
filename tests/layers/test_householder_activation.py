"""Householder activations, against reflections by explicit matrices."""

import math

import pytest
import torch

from lipnets.layers import Householder, Householder2, MaxMin


def reflected(z: torch.Tensor, angle: float) -> torch.Tensor:
    v = torch.tensor([math.sin(angle / 2), -math.cos(angle / 2)])
    return z if z @ v >= 0 else (torch.eye(2) - 2 * torch.outer(v, v)) @ z


def test_pairs_are_reflected_on_one_side_of_a_line() -> None:
    module, x = Householder(6), torch.randn(5, 6)
    torch.nn.init.uniform_(module.angles, -7, 7)
    for example, out in zip(x, module(x), strict=True):
        for k, angle in enumerate(module.angles[0].tolist()):
            pair = slice(2 * k, 2 * k + 2)
            torch.testing.assert_close(out[pair], reflected(example[pair], angle))


def test_order_2_is_one_reflection_after_another() -> None:
    module, x = Householder2(2), torch.randn(9, 2)
    torch.nn.init.uniform_(module.angles, -7, 7)
    first, second = module.angles[:, 0].tolist()
    expected = torch.stack([reflected(reflected(z, first), second) for z in x])
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("build", [Householder, Householder2])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (3, 4, 2, 2)])
def test_both_start_as_maxmin(build, shape) -> None:
    x = torch.randn(shape)
    torch.testing.assert_close(build(4)(x), MaxMin()(x))


@pytest.mark.parametrize("build", [Householder, Householder2])
def test_gradients_keep_their_norm_and_angles_get_some(build) -> None:
    module, x, grad = build(4), torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    torch.nn.init.uniform_(module.angles, 0, math.pi)
    module(x).backward(grad)
    assert x.grad.norm().item() == pytest.approx(grad.norm().item())
    assert module.angles.grad.any()
    assert torch.autograd.gradcheck(module, torch.randn(3, 4, requires_grad=True))


@pytest.mark.parametrize("channels", [0, 3])
def test_channels_without_a_partner_are_refused(channels) -> None:
    with pytest.raises(ValueError, match="even number"):
        Householder(channels)


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="should be 4"):
        Householder(4)(torch.zeros(1, 8))


# Torch writes some of its forward derivatives in a language that it deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("build", [Householder, Householder2])
def test_derivatives_are_those_of_finite_differences(build) -> None:
    module = build(4)

    def call(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, {"angles": angles}, x)

    angles = torch.randn_like(module.angles).requires_grad_()
    given = (torch.randn(3, 4, 2, requires_grad=True), angles)
    forward = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}  # fmt: skip
    assert torch.autograd.gradcheck(call, given, **forward)
    assert torch.autograd.gradgradcheck(call, given)


@pytest.mark.parametrize("build", [Householder, Householder2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_parts_of_a_batch_and_layouts_of_memory_change_nothing(
    build, memory_format, monkeypatch
) -> None:
    module, x = build(4), torch.randn(5, 4, 3, 3)
    torch.nn.init.uniform_(module.angles, -7, 7)
    plain = torch.func.vmap(lambda example: module(example[None])[0])(x)  # by plain operations
    expected = torch.autograd.grad(plain.pow(3).sum(), module.angles)[0]
    monkeypatch.setattr("lipnets.layers._parts._PART", 80)
    laid_out = x.to(memory_format=memory_format).requires_grad_()
    out = module(laid_out)
    out.pow(3).sum().backward()
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(module.angles.grad, expected)
    with torch.no_grad():
        assert torch.equal(module(laid_out), out)
