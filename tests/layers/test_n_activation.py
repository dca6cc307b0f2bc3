"""The N-activation, against its definition by cases."""

import pytest
import torch

from lipnets.layers import NActivation


def by_cases(x: float, low: float, high: float) -> float:
    if x <= low:
        return x - 2 * low
    return -x if x <= high else x - 2 * high


@pytest.mark.parametrize("thresholds", [(-1.0, 0.5), (0.5, -1.0), (0.3, 0.3)])
def test_slopes_are_1_and_minus_1_between_thresholds_in_any_order(thresholds) -> None:
    module, x = NActivation(1), torch.linspace(-3, 3, 31)[:, None]
    module.thresholds.data = torch.tensor(thresholds)[:, None]
    expected = [by_cases(value, min(thresholds), max(thresholds)) for value in x[:, 0].tolist()]
    torch.testing.assert_close(module(x)[:, 0], torch.tensor(expected))


def test_it_starts_as_the_absolute_value_above_minus_1() -> None:
    x = torch.linspace(-1, 4, 20).reshape(2, 2, 5)
    torch.testing.assert_close(NActivation(2)(x), x.abs())


def test_thresholds_of_a_channel_act_on_that_channel() -> None:
    module, x = NActivation(3), torch.randn(4, 3, 5)
    torch.nn.init.normal_(module.thresholds)
    for k, pair in enumerate(module.thresholds.mT.sort(dim=1).values.tolist()):
        expected = x[:, k].clone().apply_(lambda value, pair=pair: by_cases(value, *pair))
        torch.testing.assert_close(module(x)[:, k], expected)


# Torch writes some of its forward derivatives in a language that it deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_derivatives_are_those_of_finite_differences() -> None:
    module = NActivation(3)

    def call(x: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, {"thresholds": thresholds}, x)

    given = (torch.randn(4, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True))
    forward = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}  # fmt: skip
    assert torch.autograd.gradcheck(call, given, **forward)
    assert torch.autograd.gradgradcheck(lambda *given: call(*given) ** 3, given)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_parts_of_a_batch_and_layouts_of_memory_change_nothing(memory_format, monkeypatch) -> None:
    module, x = NActivation(4), torch.randn(5, 4, 3, 3)
    torch.nn.init.normal_(module.thresholds)
    plain = torch.func.vmap(lambda example: module(example[None])[0])(x)  # by plain operations
    expected = torch.autograd.grad(plain.pow(3).sum(), module.thresholds)[0]
    monkeypatch.setattr("lipnets.layers._parts._PART", 80)
    laid_out = x.to(memory_format=memory_format).requires_grad_()
    out = module(laid_out)
    out.pow(3).sum().backward()
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(module.thresholds.grad, expected)
    with torch.no_grad():
        assert torch.equal(module(laid_out), out)


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="should be 3"):
        NActivation(3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="at least 1"):
        NActivation(0)
