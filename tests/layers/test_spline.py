"""Linear splines, against interpolation by numpy."""

import numpy as np
import pytest
import torch

from lipnets import lipschitz
from lipnets.layers import LinearSpline


def interpolated(module: LinearSpline, x: np.ndarray, channel: int) -> np.ndarray:
    """Values at the knots and one spacing beyond, where slopes stay what they are."""
    grid = np.linspace(-module.limit, module.limit, module.knots)
    slopes = module.slopes[channel].detach().clamp(-1, 1).numpy()
    far = np.concatenate([[-100.0], grid, [100.0]])
    rises = np.concatenate([[0.0], np.cumsum(slopes * np.diff(far))])
    return np.interp(x, far, rises - rises[1] + module.offset[channel].item())


@pytest.mark.parametrize("knots", [2, 5, 8])
def test_values_are_interpolated_between_knots_and_continued_beyond(knots) -> None:
    module = LinearSpline(3, knots=knots, limit=1.5)
    torch.nn.init.normal_(module.slopes)
    torch.nn.init.normal_(module.offset)
    x = 2 * torch.randn(50, 3, 2)
    for channel in range(3):
        expected = interpolated(module, x[:, channel].numpy(), channel)
        torch.testing.assert_close(module(x)[:, channel], torch.from_numpy(expected))


@pytest.mark.parametrize("knots", [3, 21])
def test_it_starts_as_the_absolute_value(knots) -> None:
    x = 3 * torch.randn(20, 2)
    torch.testing.assert_close(LinearSpline(2, knots=knots)(x), x.abs())


def test_it_is_continuous_at_its_knots() -> None:
    module = LinearSpline(1, knots=5, limit=1.0)
    torch.nn.init.normal_(module.slopes)
    grid = torch.linspace(-1, 1, 5)[:, None]
    torch.testing.assert_close(module(grid - 1e-9), module(grid + 1e-9), rtol=0, atol=1e-8)


def test_the_bound_is_the_largest_slope() -> None:
    module = LinearSpline(2, knots=4).eval()
    torch.nn.init.uniform_(module.slopes, -0.5, 0.5)
    assert lipschitz(module, (2,)).value == module.slopes.abs().max().item()
    module.slopes.data[0, 0] = -3.0
    assert lipschitz(module, (2,)).value == 1


# Torch writes some of its forward derivatives in a language that it deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_derivatives_are_those_of_finite_differences() -> None:
    module = LinearSpline(2, knots=4)
    names = dict(module.named_parameters())

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), x)

    x, slopes, offset = torch.randn(5, 2), 0.5 * torch.rand(2, 5), torch.randn(2)
    given = [t.requires_grad_() for t in (x, slopes, offset)]
    assert torch.autograd.gradcheck(call, given, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda *given: call(*given) ** 3, given)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_parts_of_a_batch_and_layouts_of_memory_change_nothing(memory_format, monkeypatch) -> None:
    module, x = LinearSpline(4, knots=5), torch.randn(5, 4, 3, 3)
    torch.nn.init.uniform_(module.slopes, -1.5, 1.5)
    plain = torch.func.vmap(lambda example: module(example[None])[0])(x)  # by plain operations
    expected = torch.autograd.grad(plain.pow(3).sum(), list(module.parameters()))
    monkeypatch.setattr("lipnets.layers._parts._PART", 80)
    laid_out = x.to(memory_format=memory_format).requires_grad_()
    out = module(laid_out)
    out.pow(3).sum().backward()
    torch.testing.assert_close(out, plain)
    for parameter, grad in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    with torch.no_grad():
        assert torch.equal(module(laid_out), out)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"knots": 1}, {"limit": 0.0}])
def test_splines_without_pieces_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="'knots' at least 2"):
        LinearSpline(**{"channels": 2, **wrong})


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="should be 2"):
        LinearSpline(2)(torch.zeros(1, 3))


def test_not_a_number_is_not_hidden() -> None:
    assert LinearSpline(1)(torch.tensor([[torch.nan]])).isnan().all()
