"""What programs round is within what is proved: against ball arithmetic, exact rationals, worst cases."""

import copy
import importlib.util
import itertools
import math
import operator
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lipnets import NotCertifiedError, certify, layers, lipschitz
from lipnets.program import Affine, AxisMaps, Gather
from lipnets.rounding import (
    ARITHMETICS,
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    TF32,
    Analysis,
    Arithmetic,
    Ball,
    arithmetic,
    bits,
    float32_products,
    norms,
    number,
    rounding_rule,
)
from lipnets.rounding_rules import moduli_norm, row_errors


def _benchmark() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "rounding.py"
    spec = importlib.util.spec_from_file_location("rounding_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rounding = _benchmark()


# Random networks, against ball arithmetic


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(10_000, 10**6))
def test_random_networks_round_no_more_than_is_proved(seed) -> None:
    torch.set_default_dtype(torch.float64)
    for found in rounding.compare(seed, examples=1):
        assert found.ratio <= 1, found


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(10**6, 10**8))
def test_many_random_networks_round_no_more_than_is_proved(seed) -> None:
    torch.set_default_dtype(torch.float64)
    for found in rounding.compare(seed, examples=1):
        assert found.ratio <= 1, found


def test_proved_errors_are_of_use() -> None:
    names = ("float64", "float32")
    found = [each for seed in range(20) for each in rounding.compare(seed, names, 1)]
    ratios = sorted(each.ratio for each in found if each.ratio > 0)
    assert ratios[len(ratios) // 2] > 1e-4  # proved over measured: not above 10,000
    relative = sorted(each.relative for each in found if each.arithmetic == "float64")
    assert relative[len(relative) // 2] < 1e-9


def test_a_constant_that_is_too_small_is_caught(monkeypatch) -> None:
    """Sums of 64 products of 53 bits are always rounded, and by more than 0.07 u of them all in some of many."""
    network = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x, gamma = torch.randn(3, 64), Arithmetic.gamma

    def largest() -> float:
        found = rounding.compare_network(network, (64,), x, 0, ("float64", "float32"))
        return max(each.ratio for each in found)

    assert 0 < largest() <= 1
    monkeypatch.setattr(Arithmetic, "gamma", lambda self, count: gamma(self, count) / 1000)
    assert largest() > 1


# Worst cases: a constant of half the size would be caught


def staircase(count: int) -> tuple[Tensor, Fraction]:
    """1 and numbers that are each a bit more than half a unit of 1: each sum rounds up by almost u."""
    row = torch.full((count + 1,), 2.0**-24 * (1 + 2.0**-20))
    row[0] = 1.0
    return row, 1 + count * Fraction(2.0**-24 * (1 + 2.0**-20))


def test_sums_that_always_round_up_almost_reach_the_bound() -> None:
    row, exact = staircase(1000)
    total = torch.zeros((), dtype=torch.float32)
    for term in row.float():
        total = total + term
    measured = abs(Fraction(total.item()) - exact)
    layer = nn.Linear(1001, 1, bias=False).eval()
    layer.weight.data = row[None]
    # The moduli at the example itself, which is all ones: ‖|W||x|‖ = the sum.
    ball = Ball(math.sqrt(1001), center=torch.ones(1, 1001), drift=torch.zeros(1))
    proved = Analysis("float32")(layer, (1001,), ball).error.item()
    assert 0.9 * proved < float(measured) <= proved


def test_sums_along_an_axis_have_as_many_terms_as_it_has_entries() -> None:
    """The same sum, as a matrix of ones on an image."""
    row, exact = staircase(1000)
    total = torch.zeros((), dtype=torch.float32)
    for term in row.float():
        total = total + term
    measured = abs(Fraction(total.item()) - exact)
    pool = AxisMaps([None, torch.ones(1, 1001)]).eval()
    ball = Ball(norms(row[None]), center=row[None, None], drift=torch.zeros(1))
    proved = Analysis("float32")(pool, (1, 1001), ball).error.item()
    assert 0.9 * proved < float(measured) <= proved


def test_a_bias_that_is_stored_first_or_last_is_covered() -> None:
    """In 16 bits a convolution may be stored before its bias is added: two roundings, not one."""
    layer = nn.Linear(1, 1).eval()
    layer.weight.data, layer.bias.data = torch.tensor([[1.0]]), torch.tensor([1.0 + 2.0**-7])
    x = torch.tensor([[1 + 2.0**-7]])
    product = (x.bfloat16() * layer.weight.bfloat16()).double()
    out = (product.bfloat16() + layer.bias.bfloat16()).double()
    ball = Ball(norms(x), center=x, drift=torch.zeros(1))
    assert (out - layer(x)).abs().item() <= Analysis("bfloat16")(layer, (1,), ball).error.item()


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_weights_that_a_format_does_not_hold_are_moved_by_storing_them(name) -> None:
    """With one product and powers of two nothing else is rounded: the error is that of the weight."""
    a = ARITHMETICS[name]
    for weight in (1 + a.unit, 1e-7, 3e-8, 2.0**-24 * 1.4, 1e-45):
        layer = nn.Linear(1, 1, bias=False).eval()
        layer.weight.data = torch.tensor([[weight]])
        x = torch.tensor([[1024.0]])
        moved = abs(Fraction(a.stored(layer.weight).item()) - Fraction(weight)) * 1024
        error = Analysis(name)(layer, (1,), Ball(norms(x))).error.item()
        assert moved <= Fraction(error)
        assert a.holds(layer.weight) == (moved == 0)
    assert not a.holds(torch.tensor([2.0**200]))


# Certain layers


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_norms_of_moduli_bound_those_of_explicit_matrices(mode, stride, dilation, groups) -> None:
    for size, kernel in ((6, 3), (5, 3), (4, 2), (3, 3)):
        reach = dilation * (kernel - 1)
        if mode == "circular" and (reach % 2 or reach // 2 > size):
            continue
        if mode == "zeros" and size + 2 * (reach // 2) <= reach:
            continue
        layer = nn.Conv1d(
            4, 6, kernel, stride, reach // 2, dilation, groups, bias=False, padding_mode=mode
        ).eval()
        check_moduli(layer, (4, size))
    for padding in range(dilation + 1):
        layer = nn.ConvTranspose1d(
            4, 6, 3, stride, padding, stride - 1, groups, bias=False, dilation=max(dilation, stride)
        ).eval()
        check_moduli(layer, (4, 5))


def check_moduli(layer: nn.Module, shape: tuple[int, ...]) -> None:
    units = torch.eye(math.prod(shape)).reshape(-1, *shape)
    with torch.no_grad():
        absolute = copy.deepcopy(layer)
        absolute.weight.abs_()
        matrix = absolute(units).flatten(1).mT
        true = torch.linalg.matrix_norm(matrix, ord=2).item()
        row = matrix.square().sum(dim=1).max().sqrt().item()
        total = matrix.sum(dim=1).max().item()
    analysis = Analysis("float32")
    analysis(layer, shape, Ball(1.0, grid=2))
    facts = next(v for (_, what), (v, _) in analysis.facts.items() if "facts" in what)
    stored = FLOAT32.stored(layer.weight)  # type: ignore[arg-type]
    assert true * (1 - 1e-6) <= facts.moduli, (layer, true)
    assert stored.abs().max() <= facts.largest
    # What bounds a partial sum for ‖x‖ ≤ 1: the norm of a row, or more if pixels are read twice.
    layer.weight.data = stored.sign()
    with torch.no_grad():
        matrix = layer(units).flatten(1).mT
    exact = Analysis("float64")
    exact(layer, shape, Ball(1.0, grid=2))
    rows = next(v for (_, what), (v, _) in exact.facts.items() if "rows" in what)
    assert matrix.square().sum(dim=1).max().sqrt().item() <= rows * (1 + 1e-12)
    assert row <= total * (1 + 1e-12)


def test_what_is_known_of_a_layer_is_known_at_a_size() -> None:
    """Both sizes have three outputs; a stride that does not divide a circle has no phases."""
    layer = nn.Conv1d(1, 1, 3, 2, 1, padding_mode="circular", bias=False).eval()
    layer.weight.data = torch.tensor([[[1.0, 0.0, 1.0]]])
    analysis = Analysis("float32")
    for size in (6, 5):
        check_moduli_at(layer, (1, size), analysis)


def check_moduli_at(layer: nn.Conv1d, shape: tuple[int, ...], analysis: Analysis) -> None:
    units = torch.eye(math.prod(shape)).reshape(-1, *shape)
    before = set(analysis.facts)
    analysis(layer, shape, Ball(1.0, grid=2))
    (facts,) = (
        v for key, (v, _) in analysis.facts.items() if "facts" in key[1] and key not in before
    )
    with torch.no_grad():
        true = torch.linalg.matrix_norm(layer(units).flatten(1).mT, ord=2).item()
    assert true * (1 - 1e-9) <= facts.moduli


def test_moduli_norms_are_above_singular_values_and_close() -> None:
    for rows, columns in ((1, 1), (3, 7), (40, 30), (8, 1)):
        for matrix in (
            torch.rand(rows, columns),
            torch.rand(rows, columns) ** 40,
            torch.rand(rows, columns) * (torch.rand(rows, columns) < 0.1),
            torch.zeros(rows, columns),
            torch.rand(rows, columns) * 2.0**-1060,
            torch.rand(rows, columns) * 2.0**900,
        ):
            scale = matrix.max().item() or 1.0
            true = torch.linalg.matrix_norm(matrix / scale, ord=2).item() * scale
            assert true * (1 - 1e-12) <= moduli_norm(matrix)
        assert moduli_norm(torch.rand(40, 30)) < 1.001 * 0.5 * math.sqrt(40 * 30) * 1.2
    assert moduli_norm(torch.tensor([[1.0, math.inf]])) == math.inf
    blocks = torch.stack([torch.rand(3, 3), 5 * torch.rand(3, 3)])
    assert moduli_norm(blocks) >= torch.linalg.matrix_norm(blocks, ord=2).max() * (1 - 1e-12)


def test_softplus_jumps_and_says_so() -> None:
    layer = nn.Softplus().eval()
    x = torch.tensor([[20.0 + 1e-9]])
    exact = math.log1p(math.exp(-20 - 1e-9))  # what is missing above the threshold
    assert layer(x).item() == x.item()
    analysis = Analysis("float64")
    assert exact * 0.99 < analysis(layer, (1,), Ball(norms(x))).error.item() < 1e-8
    assert analysis(layer, (1,), Ball(5.0)).error.item() < 1e-13
    assert analysis.assumptions == {"R3"}
    far = nn.Softplus(threshold=2000).eval()
    with pytest.raises(NotCertifiedError, match="overflow"):
        analysis(far, (1,), Ball(1e4))


def test_only_elementary_functions_are_assumed() -> None:
    analysis = Analysis()
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.LeakyReLU(0.3), nn.Softsign()).eval()
    analysis(network, (3,), Ball(1.0))
    assert not analysis.assumptions
    analysis(layers.PotentialLinear(3, 3, activation=nn.Tanh()).eval(), (3,), Ball(1.0))
    assert analysis.assumptions == {"R3"}


def test_transforms_are_products_on_any_torus(monkeypatch) -> None:
    """A fast transform is not a sum of products: stored layers do without, on large tori too."""
    layer = layers.build("cayley_conv2d", in_channels=2, out_channels=2, kernel_size=3, padding=1)
    stored = layer.eval().materialize((2, 45, 44)).eval()
    x = torch.randn(1, 2, 45, 44)
    expected = layer(x)
    for name in ("rfft2", "irfft2", "fft2", "ifft2", "fft", "rfft"):
        monkeypatch.setattr(torch.fft, name, None)
    torch.testing.assert_close(stored(x), expected)
    with pytest.raises(NotCertifiedError, match="complex"):
        Analysis("bfloat16")(stored, (2, 45, 44), Ball(1.0))


def test_what_overflows_is_bounded_by_nothing() -> None:
    layer = nn.Linear(1, 1, bias=False).eval()
    layer.weight.data = torch.tensor([[60000.0]])
    assert layer.half()(torch.tensor([[2.0]]).half()).isinf().all()
    layer = layer.double()
    assert Analysis(FLOAT16)(layer, (1,), Ball(2.0)).error.isinf()
    assert Analysis(FLOAT16)(layer, (1,), Ball(1.0)).error < 100
    zero = nn.Linear(1, 1, bias=False).eval()
    zero.weight.data = torch.tensor([[0.0]])
    network = nn.Sequential(
        layer, zero
    ).eval()  # infinity times zero is no number, and no bound is one
    assert Analysis(FLOAT16)(network, (1,), Ball(2.0)).error.isinf()


def test_windows_without_a_pixel_are_refused() -> None:
    pool = nn.MaxPool1d(2, dilation=3, padding=1, stride=1).eval()
    assert pool(torch.zeros(1, 1, 2)).isinf().any()
    with pytest.raises(NotCertifiedError, match="infinite"):
        Analysis()(pool, (1, 2), Ball(1.0))


def test_inputs_stay_as_they_are_where_a_module_works_in_place() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 2)).eval()
    x = torch.tensor([[-1.0, 2.0]])
    Analysis("float32")(network, (2,), Ball(norms(x), center=x, drift=torch.zeros(1)))
    assert x.tolist() == [[-1.0, 2.0]]


# Grids


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**6))
def test_sums_on_grids_are_the_same_in_any_order(seed) -> None:
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Gather(None, (16,)),
        nn.Linear(16, 5), Affine(torch.tensor([0.5, 2.0, -1.0, 4.0, 0.25]), torch.ones(5)),
    ).eval()  # fmt: skip
    for parameter in network.parameters():
        parameter.data = torch.randint(-8, 9, parameter.shape, generator=generator) / 8
    x = torch.randint(-64, 65, (2, 2, 4, 4), generator=generator) / 16
    ball = Analysis("float32")(network, (2, 4, 4), Ball(norms(x), grid=4))
    assert (ball.error == 0).all()
    assert ball.grid is not None
    single = copy.deepcopy(network).float()
    results = [rounding.reordered(single, order)(x.float()).double() for order in range(3)]
    results += [single(x.float()).double(), network(x)]
    for result in results:
        assert torch.equal(result, results[0])
        assert bits(result) <= ball.grid


def test_a_sum_that_needs_one_bit_more_is_not_exact() -> None:
    layer = nn.Linear(2, 1, bias=False).eval()
    layer.weight.data = torch.tensor([[1.0, 2.0**-12]])
    for top, exact in ((2.0**11 - 1, True), (2.0**12, False)):
        ball = Analysis("float32")(layer, (2,), Ball(top, grid=0))
        assert (ball.grid is not None) == exact
        assert (ball.error == 0) == exact
    x = torch.tensor([[2.0**12 + 1, 1.0]]).float()
    assert layer.float()(x).double().item() != 2.0**12 + 1 + 2.0**-12
    # A grid finer than the smallest number of a format is none.
    tiny = nn.Linear(1, 1, bias=False).eval()
    tiny.weight.data = torch.tensor([[2.0**-100]])
    assert Analysis("float32")(tiny, (1,), Ball(2.0**-60, grid=60)).grid is None
    assert Analysis("float64")(tiny, (1,), Ball(2.0**-60, grid=60)).grid == 160


def test_pixels_that_are_read_twice_count_twice() -> None:
    """A kernel of 5 taps around a circle of 3 pixels reads two of them again."""
    layer = nn.Conv1d(1, 1, 5, padding=2, padding_mode="circular", bias=False).eval()
    layer.weight.data = torch.ones(1, 1, 5)
    x = torch.tensor([[[1.0, 1.0, 1.0]]])
    analysis = Analysis("float32")
    analysis(layer, (1, 3), Ball(norms(x), grid=0))
    rows = next(v for (_, what), (v, _) in analysis.facts.items() if "rows" in what)
    assert layer(x).max().item() <= rows * norms(x).item()
    assert math.sqrt(5) * norms(x).item() < 5 < rows * norms(x).item()


@pytest.mark.parametrize("block", ["potential", "sandwich"])
def test_blocks_on_grids_are_exact(block) -> None:
    makers = {"potential": layers.PotentialLinear, "sandwich": layers.SandwichLinear}
    module = makers[block](6, 6).eval()
    for parameter in module.parameters():
        parameter.data = torch.randint(-4, 5, parameter.shape).double() / 4
    x = torch.randint(-16, 17, (8, 6)).double() / 8
    ball = Analysis("float32")(module, (6,), Ball(norms(x), grid=3))
    assert (ball.error == 0).all()
    assert ball.grid == 7
    assert torch.equal(module(x), copy.deepcopy(module).float()(x.float()).double())
    # Without the grid there is a bound of errors, and it is not zero.
    assert (Analysis("float32")(module, (6,), Ball(norms(x))).error > 0).all()


# Logits, each for itself


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("measured", [False, True])
def test_errors_of_logits_are_bounded_one_by_one(name, measured) -> None:
    a = ARITHMETICS[name]
    for scale in (1.0, 1e-6, 30.0):
        head = nn.Linear(30, 4).eval()
        with torch.no_grad():
            head.weight.mul_(scale * torch.tensor([1.0, 0.1, 10.0, 1.0])[:, None])
            head.bias.mul_(torch.tensor([1.0, 0.0, 1e3, 1e-3]))
        x = a.stored(torch.randn(6, 30))
        center = {"center": x, "drift": torch.zeros(6)} if measured else {}
        proved = row_errors(head, Ball(norms(x), **center), Analysis(a))
        computed = copy.deepcopy(head).to(a.dtype)(x.to(a.dtype)).double()
        weights, biases = head.weight.tolist(), head.bias.tolist()
        for i, row in enumerate(x.tolist()):
            for j, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                pairs = zip(weight, row, strict=True)
                exact = sum((Fraction(w) * Fraction(v) for w, v in pairs), Fraction(bias))
                error = abs(Fraction(computed[i, j].item()) - exact)
                assert error <= Fraction(proved[i, j].item())
                size = abs(bias) + 300 * max(map(abs, weight))
                assert proved[i, j].item() < 100 * a.unit * size + 1000 * a.tiny


def test_errors_of_logits_are_those_of_one_arithmetic_though_analyses_share_what_they_know() -> (
    None
):
    head, known = nn.Linear(30, 4).eval(), Analysis()
    for name, a in ARITHMETICS.items():
        ball = Ball(2.0)
        shared = row_errors(head, ball, Analysis(name, known))
        assert torch.equal(shared, row_errors(head, ball, Analysis(name)))
        moved = (a.stored(head.weight) - head.weight).norm(dim=1).detach()
        assert (shared >= moved * 2).all()  # an input along what storing changes has this error


def test_logits_on_grids_are_exact() -> None:
    head = nn.Linear(5, 3).eval()
    head.weight.data = torch.randint(-4, 5, (3, 5)).double()
    head.bias.data = torch.tensor([0.5, -2.0, 0.25])
    x = torch.randint(-9, 10, (4, 5)).double()
    assert not row_errors(head, Ball(norms(x), grid=0), Analysis("float32")).any()
    assert row_errors(head, Ball(2.0**22, grid=0), Analysis("float32")).all()
    assert row_errors(head, Ball(norms(x)), Analysis("float32")).all()


# Formats and numbers


def test_bits_against_fractions() -> None:
    numbers = [0.0, -0.0, 1.0, -0.75, 3 * 2.0**-20, 5e-324, -(2.0**-1060), 2.0**300, 1 / 3, 0.1]
    for value in numbers:
        denominator = Fraction(value).denominator
        assert bits(torch.tensor([value])) == denominator.bit_length() - 1, value
    assert bits(torch.tensor(numbers), limit=60) is None
    assert bits(torch.zeros(0)) == 0
    assert (
        bits(torch.tensor([0.1]).bfloat16())
        == Fraction(torch.tensor(0.1).bfloat16().item()).denominator.bit_length() - 1
    )
    every = torch.arange(-60, 60)
    assert [bits(2.0 ** e[None].double()) for e in every] == [max(-int(e), 0) for e in every]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_norms_are_not_below_the_exact_ones(dtype) -> None:
    for scale in (1.0, 1e-4, 1e-160, 5e-324, 1e3):
        x = (torch.randn(5, 3, 4) * scale).to(dtype)
        for row, norm in zip(x, norms(x).tolist(), strict=True):
            square = sum(Fraction(v) ** 2 for v in row.double().flatten().tolist())
            assert square <= Fraction(norm) ** 2
            assert float(square) ** 0.5 * (1 + 1e-12) + 1e-150 >= norm


def test_numbers_are_float64_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float32)
    third = 1 / 3 + 1e-12
    ball = Ball(third, error=float("nan"))
    assert ball.norm.item() == third
    assert ball.error == math.inf
    assert number(third).dtype == torch.float64
    layer = nn.Linear(2, 2).double().eval()
    one = Analysis("float64")(layer, (2,), Ball(1e300)).error.item()
    assert 0 < one < 1e290
    assert Analysis("float64")(layer, (2,), Ball(1.0)).error.dtype == torch.float64


@pytest.mark.parametrize("a", list(ARITHMETICS.values()), ids=list(ARITHMETICS))
def test_formats_are_what_torch_says(a) -> None:
    info = torch.finfo(a.dtype)
    assert a.largest == info.max
    assert a.unit == info.eps / 2
    assert a.elementwise.bits == -math.log2(a.unit)
    assert a.gamma(3) >= 3 * a.summing
    assert a.gamma(2**60) == math.inf
    assert a.gamma(round(0.6 / a.summing)) >= 1.5  # k u / (1 - k u)
    for share in (1.0, 1.2, 3.0):
        assert a.gamma(round(share / a.summing)) == math.inf
    assert arithmetic(a.name) is a
    with pytest.raises(ValueError, match="should be one of"):
        arithmetic("float8")
    smallest = info.smallest_normal * info.eps
    assert a.tiny == (smallest if a not in (TF32, BFLOAT16) else info.smallest_normal)


# The frame


def test_a_module_without_a_rule_is_refused() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    with pytest.raises(NotCertifiedError, match="No rule bounds the rounding of Doubled"):
        Analysis()(Doubled().eval(), (2,), Ball(1.0))
    with pytest.raises(ValueError, match="already has a rounding rule"):
        rounding_rule(nn.Linear)(lambda *args: args[2])
    with pytest.raises(NotCertifiedError, match="training mode"):
        Analysis()(nn.Linear(2, 2), (2,), Ball(1.0))


def test_weights_are_bounded_once_for_all_arithmetics(monkeypatch) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), layers.Residual(nn.Conv2d(3, 3, 3, padding=1)))
    network = network.eval()
    first = Analysis()
    assert first.bound(network, (2, 6, 6)).value == lipschitz(network, (2, 6, 6)).value
    monkeypatch.setattr("lipnets.rules.conv_norm", None)
    for name in ARITHMETICS:
        ball = Analysis(name, first)(network, (2, 6, 6), Ball(1.0))
        assert ball.error > 0


def test_centers_are_float64_and_in_their_balls() -> None:
    network = nn.Sequential(nn.Linear(8, 8), layers.MaxMin(), nn.Linear(8, 3)).eval()
    x = torch.randn(20, 8)
    drift = torch.full((20,), 0.5)
    ball = Ball(norms(x) + drift, center=x, drift=drift)
    after = Analysis("float32")(network, (8,), ball)
    assert torch.equal(after.center, network(x))
    assert (norms(after.center) <= after.norm).all()
    moved = x + 0.5 * torch.nn.functional.normalize(torch.randn(20, 8), dim=1) * (1 - 1e-9)
    out = copy.deepcopy(network).float()(moved.float()).double()
    slack = 1e-6  # of float32 inputs, which the ball was not told of
    assert (norms(out - after.center) <= after.drift + slack).all()
    assert (norms(out) <= after.norm + slack).all()


def test_axes_are_products_one_after_another() -> None:
    pool = AxisMaps([None, torch.full((1, 4), 0.25), torch.full((1, 4), 0.25)]).eval()
    x = torch.randint(-8, 9, (3, 2, 4, 4)).double()
    ball = Analysis("float32")(pool, (2, 4, 4), Ball(norms(x), grid=0))
    assert (ball.error == 0).all()
    assert ball.grid == 4
    assert torch.equal(pool(x), x.mean(dim=(2, 3), keepdim=True))


def test_measured_activations_are_followed_from_axis_to_axis() -> None:
    """Along one axis after the other, each of a size of its own: against rationals."""
    matrices = [torch.randn(5, 2), torch.randn(2, 3), torch.randn(6, 4)]
    maps = AxisMaps(list(matrices)).eval()
    x = torch.randn(1, 2, 3, 4).float().double()
    measured = Ball(norms(x), center=x, drift=torch.zeros(1))
    for name in ("float64", "float32"):
        a = ARITHMETICS[name]
        near = Analysis(name)(maps, (2, 3, 4), measured)
        assert torch.equal(near.center, maps(x))
        assert near.error < Analysis(name)(maps, (2, 3, 4), Ball(norms(x))).error
        out = copy.deepcopy(maps).to(a.dtype)(x.to(a.dtype)).double()[0]
        one, two, three = ([[Fraction(v) for v in row] for row in m.tolist()] for m in matrices)
        image = [[[Fraction(v) for v in row] for row in rows] for rows in x[0].tolist()]
        square = Fraction(0)
        for i, j, k in itertools.product(range(5), range(2), range(6)):
            exact = sum(
                one[i][p] * two[j][q] * three[k][r] * image[p][q][r]
                for p, q, r in itertools.product(range(2), range(3), range(4))
            )
            square += (Fraction(out[i, j, k].item()) - exact) ** 2
        assert square <= Fraction(near.error.item()) ** 2


def test_float64_costs_nothing_that_is_seen() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 4),
    ).eval()  # fmt: skip
    images = torch.rand(20, 3, 16, 16)
    certificate = certify(model, (3, 16, 16))
    logits = certificate.logits(images)
    labels = logits.argmax(dim=1)
    radii = certificate.radii(images, labels)
    others = logits.gather(1, labels[:, None]) - logits
    slopes = certificate.slopes[labels]
    exact = (others / slopes).masked_fill(slopes == 0, math.inf).amin(dim=1)
    assert (radii <= exact).all()
    assert (radii >= exact * (1 - 1e-8) - 1e-12).all()
    single = certificate.radii(images, labels, arithmetic="float32")
    assert (single < radii).all()
    assert FLOAT64.unit < FLOAT32.unit


# Of which arithmetic float32 products are on this machine, by settings that are put back

SETTINGS = [  # where, what, the device it counts on, and what float32 is there then at the best
    ("backends", "tf32", "cpu", TF32),
    ("backends", "tf32", "cuda", TF32),
    ("backends.mkldnn.matmul", "bf16", "cpu", BFLOAT16),
    ("backends.mkldnn.conv", "tf32", "cpu", TF32),
    ("backends.cuda.matmul", "tf32", "cuda", TF32),
]


@pytest.fixture
def precisions() -> Iterator[None]:
    places = [*dict.fromkeys(name for name, *_ in SETTINGS), "backends.mkldnn", "backends.cudnn"]
    places += ["backends.cudnn.conv"]
    found = {name: operator.attrgetter(name)(torch) for name in places}
    before = {name: place.fp32_precision for name, place in found.items()}
    yield
    for name, place in found.items():
        place.fp32_precision = before[name]
    assert {name: place.fp32_precision for name, place in found.items()} == before


@pytest.mark.parametrize(("where", "value", "device", "expected"), SETTINGS)
def test_settings_of_lower_precision_are_noticed_where_they_count(
    where, value, device, expected, precisions
) -> None:
    assert float32_products(device, cudnn=False) == FLOAT32
    operator.attrgetter(where)(torch).fp32_precision = value
    found = float32_products(device, cudnn=False)
    assert found == expected or found == BFLOAT16  # where torch finds that settings disagree


@pytest.mark.parametrize(
    ("precision", "name"), [("highest", "float32"), ("high", "tf32"), ("medium", "bfloat16")]
)
def test_the_precision_of_matrix_products_is_noticed(precision, name) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert float32_products("cpu").name == name
        assert float32_products().name == float32_products("cuda", cudnn=False).name == name
    finally:
        torch.set_float32_matmul_precision(before)


def test_cudnn_has_tf32_for_convolutions_unless_told_otherwise() -> None:
    assert float32_products("cuda", cudnn=False).name == "float32"
    with torch.backends.cudnn.flags(allow_tf32=True):
        assert float32_products("cuda").name == "tf32"
    with torch.backends.cudnn.flags(allow_tf32=False):
        assert float32_products("cuda").name == "float32"
