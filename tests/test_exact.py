"""Exact programs: the same logits in whatever order sums are added, proved and counted in rationals."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from lipnets import certify, export, lipschitz
from lipnets.exact import Round, snap
from lipnets.program import Gather
from lipnets.rounding import Analysis, Ball, bits


def mlp(width: int = 64) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 5),
    ).eval()  # fmt: skip


SHAPE = (3, 4, 4)


# The operation


@pytest.mark.parametrize("places", [0, 3, 24, 40])
def test_numbers_are_rounded_to_the_nearest_multiple_and_not_further(places) -> None:
    x = torch.randn(500) * 10
    for number, found in zip(x.tolist(), snap(x, places).tolist(), strict=True):
        steps = Fraction(found) * 2**places
        assert steps.denominator == 1
        assert int(steps) == round(Fraction(number) * 2**places)  # ties to even, as Python


def test_a_grid_finer_than_the_number_leaves_it() -> None:
    x = torch.tensor([2.0**60 + 2.0**8, -(2.0**53) + 1, 0.5])
    assert torch.equal(snap(x, 100), x)


@pytest.mark.parametrize("bad", [-1, 501, 2.5])
def test_grids_that_are_none_are_refused(bad) -> None:
    with pytest.raises(ValueError, match="from 0 to 500"):
        Round(bad)


def test_the_error_of_rounding_is_bounded_and_reached() -> None:
    module = Round(3).eval()
    after = Analysis("float64")(module, (7,), Ball(norm=5.0))
    halfway = torch.full((1, 7), 2.0**-4)
    attained = (module(halfway) - halfway).norm().item()
    assert attained <= after.error <= attained * (1 + 1e-9)
    assert after.grid == 3
    assert lipschitz(module, (7,)).value == 1


def test_what_is_on_a_coarser_grid_is_left_without_error() -> None:
    after = Analysis("float64")(Round(5).eval(), (7,), Ball(norm=5.0, grid=4))
    assert (after.error, after.grid) == (0.0, 4)


def test_nothing_is_known_where_scaling_overflows() -> None:
    ball = Ball(norm=1e6)
    assert Analysis("float16")(Round(12).eval(), (2,), ball).error == math.inf


# Programs


def rational(program: nn.Sequential, x: np.ndarray) -> list[Fraction]:
    """What a chain of dense layers computes, in rationals: rounded where it says so, and nowhere else."""
    values = [Fraction(each) for each in x.ravel().tolist()]
    for module in program:
        if isinstance(module, Round):
            unit = Fraction(1, 2**module.bits)
            values = [round(value / unit) * unit for value in values]
        elif isinstance(module, nn.Linear):
            rows = [[Fraction(w) for w in row] for row in module.weight.tolist()]
            values = [
                sum((w * v for w, v in zip(row, values, strict=True)), Fraction(b))
                for row, b in zip(rows, module.bias.tolist(), strict=True)
            ]
        elif isinstance(module, nn.ReLU):
            values = [max(value, Fraction(0)) for value in values]
        else:
            assert isinstance(module, Gather)
            assert module.index is None
    return values


def test_logits_are_those_of_rational_arithmetic() -> None:
    program = export(mlp(16), SHAPE, program="exact")
    for x in torch.rand(5, *SHAPE):
        found = program(x[None])[0].tolist()
        assert [Fraction(each) for each in found] == rational(program, x.numpy())


def test_plain_float64_is_not_rational_arithmetic() -> None:
    program = export(mlp(16), SHAPE, program="float64")
    x = torch.rand(SHAPE)
    assert [Fraction(each) for each in program(x[None])[0].tolist()] != rational(program, x.numpy())


def reordered(program: nn.Sequential, x: np.ndarray, order: str) -> np.ndarray:
    """The same program in numpy, with the terms of each sum added one by one, in another order."""
    for module in program:
        if isinstance(module, Round):
            x = np.round(x * 2.0**module.bits) * 2.0**-module.bits
        elif isinstance(module, nn.Linear):
            weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
            terms = x[:, None, :] * weight
            terms = np.concatenate(
                [terms, np.broadcast_to(bias[:, None], (*terms.shape[:2], 1))], 2
            )
            steps = np.arange(terms.shape[2])
            if order == "reversed":
                steps = steps[::-1]
            elif order == "permuted":
                steps = np.random.default_rng(0).permutation(steps)
            total = np.zeros(terms.shape[:2])
            for step in steps:
                total = total + terms[:, :, step]
            x = total
        elif isinstance(module, nn.ReLU):
            x = np.maximum(x, 0)
        else:
            x = x.reshape(len(x), -1)
    return x


@pytest.mark.parametrize("order", ["forward", "reversed", "permuted"])
def test_any_order_of_sums_gives_the_same_bits_where_plain_float64_does_not(order) -> None:
    model, x = mlp(), torch.rand(64, *SHAPE)
    exact, plain = (export(model, SHAPE, program=kind) for kind in ("exact", "float64"))
    with torch.no_grad():
        assert np.array_equal(exact(x).numpy(), reordered(exact, x.numpy(), order))
        assert not np.array_equal(plain(x).numpy(), reordered(plain, x.numpy(), order))


def test_batches_and_threads_give_the_same_bits() -> None:
    model, x = mlp(512), torch.rand(64, *SHAPE)
    exact, plain = (export(model, SHAPE, program=kind) for kind in ("exact", "float64"))
    threads = torch.get_num_threads()
    differ = False
    try:
        with torch.no_grad():
            whole, loose = exact(x), plain(x)
            for count in (1, 2):
                torch.set_num_threads(count)
                assert torch.equal(exact(x), whole)
                assert torch.equal(torch.cat([exact(each[None]) for each in x]), whole)
                differ |= not torch.equal(torch.cat([plain(each[None]) for each in x]), loose)
    finally:
        torch.set_num_threads(threads)
    assert differ


def test_the_error_is_that_of_rounding_activations_alone() -> None:
    model = mlp()
    program = export(model, SHAPE, program="exact")
    norm = 2 * math.sqrt(math.prod(SHAPE))
    found = Analysis("float64")(program, SHAPE, Ball(norm=norm))
    error = 0.0
    for module in program:
        if isinstance(module, nn.Linear):
            error *= torch.linalg.matrix_norm(module.weight, 2).item()
            features = module.out_features
        elif isinstance(module, Round):
            features = math.prod(SHAPE) if error == 0 else features
            error += 2.0 ** (-module.bits - 1) * math.sqrt(features)
    assert found.grid is not None
    assert found.error == pytest.approx(error, rel=1e-6)


def test_beyond_the_ball_that_grids_were_made_for_sums_are_not_called_exact() -> None:
    program = export(mlp(), SHAPE, program="exact")
    assert Analysis("float64")(program, SHAPE, Ball(norm=1e4)).grid is None


@pytest.mark.parametrize("kind", ["orthogonal", "gaussian"])
def test_snapped_weights_are_certified_with_no_larger_constant(kind) -> None:
    model = mlp()
    if kind == "orthogonal":
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
    before = certify(model, SHAPE)
    exact = export(model, SHAPE, program="exact")
    after = certify(exact, SHAPE)
    assert after.lipschitz <= before.lipschitz * (1 + 1e-7)
    assert after.lipschitz >= before.lipschitz * (1 - 1e-4)
    norms = [torch.linalg.matrix_norm(m.weight, 2).item() for m in exact if hasattr(m, "weight")]
    assert math.prod(norms) <= after.lipschitz
    x, y = torch.rand(20, *SHAPE), torch.zeros(20, dtype=torch.long)
    assert (before.logits(x) - after.logits(x)).abs().max() < 1e-5
    assert after.radii(x, y).shape == (20,)


def test_weights_are_on_the_grid_that_sums_leave_them() -> None:
    program = export(mlp(), SHAPE, program="exact")
    norm = 2 * math.sqrt(math.prod(SHAPE))
    for module in program:
        if isinstance(module, Round):
            places = module.bits
        if isinstance(module, nn.Linear):
            row = module.weight.norm(dim=1).max().item()
            top = row * norm + module.bias.abs().max().item()
            grid = max(places + bits(module.weight), bits(module.bias))
            assert top < 2.0 ** (53 - grid)
            assert top > 2.0 ** (53 - grid - 3)  # no more than a bit or two is left unused
            norm = (
                torch.linalg.matrix_norm(module.weight, 2).item() * norm + module.bias.norm().item()
            )
