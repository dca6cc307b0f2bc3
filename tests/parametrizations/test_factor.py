"""Solves in batches, against inverses; with more columns than batched LU bears here."""

import subprocess
import sys

import pytest
import torch

from lipnets.parametrizations import _factor
from lipnets.parametrizations._factor import resolvents, solve
from lipnets.parametrizations.symbol_polar import inverse_sqrt_poles


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


@pytest.fixture(params=["inverse", "LU factors"])
def _way(request, monkeypatch) -> None:
    monkeypatch.setattr(_factor, "_LEAF", 2)
    monkeypatch.setattr(_factor, "_SMALL", 128 if request.param == "inverse" else 0)


@pytest.mark.usefixtures("_way")
def test_solutions_and_their_gradients() -> None:
    matrices = (batch(3, 4, 4) + 9 * torch.eye(4)).requires_grad_()
    right = batch(3, 4, 2).requires_grad_()
    torch.testing.assert_close(solve(matrices, right), torch.linalg.inv(matrices) @ right)
    assert torch.autograd.gradcheck(solve, (matrices, right))


@pytest.mark.usefixtures("_way")
def test_sums_of_shifted_inverses_and_their_gradients() -> None:
    factor, right = batch(2, 3, 3).requires_grad_(), batch(2, 3, 2).requires_grad_()

    def function(factor: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return resolvents(factor @ factor.mH, right, (1.0, 0.5), (2.0, 0.25))

    gram, identity = factor @ factor.mH, torch.eye(3)
    inverses = [torch.linalg.inv(gram + shift * identity) for shift in (1.0, 0.5)]
    expected = (2 * inverses[0] + 0.25 * inverses[1]) @ right
    torch.testing.assert_close(function(factor, right), expected)
    assert torch.autograd.gradcheck(function, (factor, right))


@pytest.mark.parametrize("size", [1, 5, 17, 40])
def test_inverses_of_blocks_need_no_pivots(size) -> None:
    matrices = batch(2, size, size)
    matrices = matrices - matrices.mH + 0.01 * torch.eye(size)
    inverse = _factor._inverse(matrices)
    torch.testing.assert_close(inverse @ matrices, torch.eye(size).expand(2, -1, -1).to(inverse))


@pytest.mark.parametrize(("count", "smallest", "error"), [(6, 1e-4, 3e-4), (12, 1e-11, 1e-3)])
def test_poles_give_the_inverse_root_in_their_interval_and_less_below(
    count, smallest, error
) -> None:
    shifts, weights = inverse_sqrt_poles(count, smallest)
    x = torch.logspace(-20, 0, 4000)
    ratio = sum(w / (x + c) for c, w in zip(shifts, weights, strict=True)) * x.sqrt()
    assert (ratio[x >= smallest] - 1).abs().max() < error
    assert ratio.max() < 1 + error
    assert min(shifts) > 0
    assert min(weights) > 0


_WIDE = """
import torch
from lipnets import layers
torch.set_num_threads(2)
for name in ("cayley_conv2d", "lot_conv2d", "bro_conv2d"):
    layer = layers.build(name, in_channels=151, out_channels=151, kernel_size=1)
    for training in (True, False):
        layer.train(training)(torch.randn(1, 151, 1, 3)).sum().backward()
print("done")
"""


def test_151_channels_and_two_threads_do_not_hang() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WIDE], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stdout == "done\n", run.stderr
