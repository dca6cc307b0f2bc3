"""The arithmetic of parametrizations."""

import torch
from torch import Tensor

from lipnets.parametrizations._precision import full_precision, inverse_sqrt, unit_scale


class Probe:
    """Notes the arithmetic that a guarded forward meets."""

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        self.dtype = weight.dtype
        self.autocast = torch.is_autocast_enabled("cpu")
        return weight


def test_low_precision_is_widened_and_the_result_rounded_back() -> None:
    probe = Probe()
    for dtype, wide in [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert probe.forward(torch.ones(2, dtype=dtype)).dtype == dtype
        assert probe.dtype == wide


def test_autocast_is_off_inside_and_on_again_afterwards() -> None:
    probe = Probe()
    with torch.autocast("cpu", torch.bfloat16):
        probe.forward(torch.ones(2))
        assert torch.is_autocast_enabled("cpu")
    assert not probe.autocast


def test_the_meta_device_has_no_autocast() -> None:
    assert Probe().forward(torch.ones(2, device="meta")).is_meta


def test_unit_scale_makes_the_largest_entry_1() -> None:
    weight = torch.tensor([[1e-30, -4e-30], [2e30, 1e30]])
    assert unit_scale(weight).abs().max() == 1
    assert unit_scale(weight, dim=1).abs().amax(dim=1).tolist() == [1, 1]
    assert not unit_scale(torch.zeros(2)).any()


def test_inverse_square_roots_of_zero_are_harmless() -> None:
    squares = torch.tensor([0.0, 4.0], requires_grad=True)
    inverse_sqrt(squares).sum().backward()
    assert inverse_sqrt(squares).tolist() == [1.0, 0.5]
    assert squares.grad.tolist() == [0.0, -1 / 16]
