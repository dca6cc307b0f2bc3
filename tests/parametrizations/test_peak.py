"""The search for the norm of a convolution, against all frequencies of a fine grid."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lipnets.parametrizations import CPL
from lipnets.parametrizations._peak import peak_norm


def kernel(kind: str, channels: tuple[int, int], size: tuple[int, int]) -> Tensor:
    found = torch.randn(*channels, *size)
    if kind == "near the identity":  # singular values in a cluster
        found *= 0.003
        found[..., (size[0] - 1) // 2, (size[1] - 1) // 2].diagonal().add_(1)
    if kind == "low-pass":
        found += 3 * found.mean(dim=(2, 3), keepdim=True)
    if kind == "rank one":
        found = found.sum((1, 2, 3))[:, None] * found.sum(0).flatten()
        found = found.reshape(*channels, *size)
    return found


def largest(kernel: Tensor) -> float:
    """Over a grid that misses the supremum by 3e-3 of it at the most (C3, M = 48)."""
    symbols = torch.fft.fft2(kernel, s=(48, 48)).permute(2, 3, 0, 1)
    return torch.linalg.matrix_norm(symbols, ord=2).max().item()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 3), (3, 2)])
@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (2, 5), (5, 2), (8, 8)])
@pytest.mark.parametrize("kind", ["random", "near the identity", "low-pass", "rank one"])
def test_the_estimate_is_the_largest_norm_of_a_grid_up_to_some_percent(
    kind, channels, size
) -> None:
    for _ in range(2):
        weight = kernel(kind, channels, size)
        top = largest(weight)
        assert 0.95 * top <= peak_norm(weight).item() <= top * (1 + 3e-3)


def test_zeros_have_the_norm_zero_and_a_finite_gradient() -> None:
    weight = torch.zeros(3, 3, 3, 3, requires_grad=True)
    norm = peak_norm(weight)
    norm.backward()
    assert norm == 0
    assert weight.grad.isfinite().all()


def test_it_is_repeatable_and_its_derivative_is_that_of_the_norm_at_a_peak() -> None:
    weight = torch.randn(4, 4, 1, 1, requires_grad=True)  # one frequency: no search to miss it
    assert torch.equal(peak_norm(weight), peak_norm(weight))
    (slope,) = torch.autograd.grad(peak_norm(weight), weight)
    left, _, right = torch.linalg.svd(weight[..., 0, 0])
    expected = left[:, :1] @ right[:1]
    torch.testing.assert_close(slope[..., 0, 0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_tensors_without_values_are_not_searched(training) -> None:
    class Count(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Count() as mode:
        out = CPL().train(training)(torch.empty(5, 5, 3, 3, device="meta"))
    assert out.shape == (5, 5, 3, 3)
    assert 0 < mode.count < 100  # a search takes thousands: minutes for deep networks
