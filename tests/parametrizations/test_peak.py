"""The search for the norm of a convolution, against all frequencies of a fine grid."""

import pytest
import torch
from torch import Tensor

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
def test_the_peak_is_above_all_frequencies_of_a_grid(kind, channels, size) -> None:
    for _ in range(2):
        weight = kernel(kind, channels, size)
        top = largest(weight)
        assert top * (1 - 1e-9) <= peak_norm(weight, thorough=True).item() <= top * (1 + 3e-3)
        assert 0.95 * top <= peak_norm(weight, thorough=False).item() <= top * (1 + 3e-3)


@pytest.mark.parametrize("thorough", [True, False])
def test_zeros_have_the_norm_zero_and_a_finite_gradient(thorough) -> None:
    weight = torch.zeros(3, 3, 3, 3, requires_grad=True)
    norm = peak_norm(weight, thorough=thorough)
    norm.backward()
    assert norm == 0
    assert weight.grad.isfinite().all()


def test_the_search_is_repeatable_and_differentiable() -> None:
    weight = torch.randn(4, 4, 3, 3, requires_grad=True)
    assert torch.equal(peak_norm(weight, thorough=False), peak_norm(weight, thorough=False))
    assert torch.autograd.gradcheck(lambda w: peak_norm(w, thorough=True), weight, fast_mode=True)
