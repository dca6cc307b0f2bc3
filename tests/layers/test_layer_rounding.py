"""Rounding rules of layers against exact fractions, and decimal roots of sixty digits."""

import copy
import decimal
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from lipnets import layers, lipschitz
from lipnets.layers import Concat, Parallel, Residual
from lipnets.layers.filtered_conv2d import StoredFilter2d
from lipnets.layers.householder_activation import StoredHouseholder
from lipnets.operations import GroupNorms, PiecewiseLinear
from lipnets.program import Affine, lower
from lipnets.rounding import ARITHMETICS, FLOAT64, Analysis, Ball, norms

Exact = Callable[[list[Fraction]], list[Decimal]]
decimal.getcontext().prec = 60


def number(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def fractions(tensor: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in tensor.detach().double().flatten().tolist()]


def householder(module: StoredHouseholder) -> Exact:
    def function(x: list[Fraction]) -> list[Decimal]:
        x = list(x)
        for normal in module.normals:
            for k, (s, c) in enumerate(normal.tolist()):
                s, c, a, b = Fraction(s), Fraction(c), x[2 * k], x[2 * k + 1]
                if s * a - c * b < 0:
                    x[2 * k], x[2 * k + 1] = (
                        a - 2 * (s * a - c * b) * s,
                        b + 2 * (s * a - c * b) * c,
                    )
        return [number(value) for value in x]

    return function


def n_activation(module: layers.NActivation) -> Exact:
    pairs = [sorted(map(Fraction, pair)) for pair in module.thresholds.T.tolist()]

    def function(x: list[Fraction]) -> list[Decimal]:
        clamped = [min(max(v, low), high) for v, (low, high) in zip(x, pairs, strict=True)]
        return [number(v - 2 * c) for v, c in zip(x, clamped, strict=True)]

    return function


def spline(module: layers.LinearSpline) -> Exact:
    """The value at the first knot, and slopes times how far is gone within each piece."""
    spacing = 2 * Fraction(module.limit) / (module.knots - 1)

    def one(x: Fraction, slopes: Sequence[float], start: float) -> Fraction:
        clipped = [Fraction(min(max(slope, -1.0), 1.0)) for slope in slopes]
        place, value = -Fraction(module.limit), Fraction(start)
        if x <= place:
            return value + clipped[0] * (x - place)
        for slope in clipped[1:-1]:
            if x <= place + spacing:
                return value + slope * (x - place)
            place, value = place + spacing, value + slope * spacing
        return value + clipped[-1] * (x - place)

    def function(x: list[Fraction]) -> list[Decimal]:
        rows = zip(x, module.slopes.tolist(), module.offset.tolist(), strict=True)
        return [number(one(*row)) for row in rows]

    return function


def huber(module: layers.SoftHuber) -> Exact:
    delta = number(Fraction(module.delta))
    return lambda x: [(number(v * v) + delta * delta).sqrt() - delta for v in x]


def root_of_window(overlap: int) -> Exact:
    return lambda x: [number(sum(v * v for v in x) / overlap).sqrt()]


def summed(module: Residual) -> Exact:
    """X + (c ⊙ x + b)."""

    def function(x: list[Fraction]) -> list[Decimal]:
        scale, shift = fractions(module.branch.scale), fractions(module.branch.shift)
        return [number(v + c * v + b) for v, c, b in zip(x, scale, shift, strict=True)]

    return function


def affine(size: int) -> Affine:
    return Affine(torch.randn(size), torch.randn(size))


def reflections() -> StoredHouseholder:
    layer = layers.Householder2(8)
    nn.init.uniform_(layer.angles, -4, 4)
    return lower(layer.eval(), (8,))


def bent() -> layers.NActivation:
    layer = layers.NActivation(8)
    nn.init.normal_(layer.thresholds)
    return layer


def curve() -> layers.LinearSpline:
    layer = layers.LinearSpline(8, knots=7, limit=1.7)
    nn.init.normal_(layer.slopes)
    nn.init.normal_(layer.offset)
    return layer


def lines() -> PiecewiseLinear:
    knots = torch.randn(8, 4).sort(dim=1).values
    return PiecewiseLinear(knots, torch.randn(8, 5), torch.randn(8))


def between_knots(module: PiecewiseLinear) -> Exact:
    """The value at the first knot, and slopes times how far is gone within each piece."""

    def one(
        x: Fraction, knots: list[Fraction], slopes: list[Fraction], value: Fraction
    ) -> Fraction:
        if x <= knots[0]:
            return value + slopes[0] * (x - knots[0])
        for low, high, slope in zip(knots, [*knots[1:], x], slopes[1:], strict=True):
            end = min(x, high) if low != knots[-1] else x
            value += slope * max(end - low, Fraction(0))
        return value

    def function(x: list[Fraction]) -> list[Decimal]:
        rows = zip(map(fractions, module.knots), map(fractions, module.slopes), strict=True)
        parts = zip(x, rows, fractions(module.first), strict=True)
        return [number(one(v, knots, slopes, first)) for v, (knots, slopes), first in parts]

    return function


# name: (module, its exact function, shape, least share of the bound that is measured in float32)
CASES = {
    "householder": (reflections, householder, (8,), 0.01),
    "n_activation": (bent, n_activation, (8,), 0.1),
    "linear_spline": (curve, spline, (8,), 0.005),
    "soft_huber": (lambda: layers.SoftHuber(0.3), huber, (8,), 0.005),
    "l2_norm_pool2d": (
        lambda: layers.L2NormPool2d(2),
        lambda module: root_of_window(1),
        (1, 2, 2),
        0.05,
    ),
    "adaptive_l2_norm_pool2d": (
        lambda: layers.AdaptiveL2NormPool2d(1),
        lambda module: root_of_window(1),
        (1, 2, 3),
        0.03,
    ),
    "piecewise_linear": (lines, between_knots, (8,), 0.005),
    "group_norms": (lambda: GroupNorms(4), lambda module: root_of_window(1), (4,), 0.03),
    "residual": (lambda: Residual(affine(8)), summed, (8,), 0.1),
}


def distance(found: Tensor, exact: list[Decimal]) -> Decimal:
    differences = [number(a) - b for a, b in zip(fractions(found), exact, strict=True)]
    return sum(((d * d) for d in differences), Decimal(0)).sqrt()


def images(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Numbers of all sizes, and some at which functions change their piece."""
    x = torch.randn(24, *shape) * torch.logspace(-3, 1, 24).view(-1, *[1] * len(shape))
    if isinstance(module, layers.LinearSpline):
        knots = torch.linspace(-module.limit, module.limit, module.knots)
        x[:12] = knots[torch.randint(len(knots), (12, *shape))] * (
            1 + 1e-7 * torch.randn(12, *shape)
        )
    return x.to(dtype)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("arithmetic", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_computed_is_within_the_bound_of_the_exact_function(
    name, arithmetic, measured
) -> None:
    build, exact, shape, least = CASES[name]
    module = build().eval()
    a = ARITHMETICS[arithmetic]
    x = images(module, shape, a.dtype)
    start = Ball(norm=norms(x))
    if measured:  # around other activations, near those that are computed
        center = x.double() + 1e-3 * torch.randn(x.shape)
        start = Ball(norm=norms(x) + 1, center=center, drift=norms(center - x.double()))
    ball = Analysis(arithmetic)(module, shape, start)
    function, shares = exact(module), []
    found = lower_precision(module, a.dtype)(x)
    for row, image, error in zip(found, x, ball.error.tolist(), strict=True):
        if math.isinf(error):
            assert arithmetic == "float16"  # squares that may overflow
            continue
        off = distance(row, function(fractions(image)))
        assert off <= Decimal(error)
        shares.append(float(off / Decimal(error)))
    assert (norms(found) <= ball.norm).all()
    if ball.center is not None:
        assert (norms(found.double() - ball.center) <= ball.drift).all()
    if arithmetic == "float32" and not measured:
        assert max(shares) >= least  # no bound is far from what happens


def lower_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(module).to(dtype)


def shifted(value: float) -> Affine:
    return Affine(shift=torch.tensor([value]))


def test_the_rounding_of_a_sum_is_attained() -> None:
    """The sum x + 1 is half a step above 1 for x = u: no bound of its error may be below u (x + 1)."""
    module = Residual(shifted(1.0)).eval()
    u = 2.0**-24
    ball = Analysis("float32")(module, (1,), Ball(norm=u))
    x = torch.tensor([[u]], dtype=torch.float32)
    off = abs(lower_precision(module, torch.float32)(x).item() - (1 + 2 * u))
    assert off == 2 * u
    assert off <= ball.error.item() <= 1.01 * off  # u of the sum of both, and u of the branch


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "float16"])
def test_sums_on_a_grid_are_exact_as_long_as_they_fit(arithmetic) -> None:
    a = ARITHMETICS[arithmetic]
    module = Residual(nn.ReLU()).eval()
    top = 2.0 ** (a.bits - 4)
    fits = Analysis(arithmetic)(module, (1,), Ball(norm=top / 2 * (1 - 1e-6), grid=4))
    assert fits.error.item() == 0
    assert fits.grid == 4
    beyond = Analysis(arithmetic)(module, (1,), Ball(norm=top / 2 * (1 + 1e-6), grid=4))
    assert beyond.error.item() > 0
    assert beyond.grid is None
    finer = Analysis(arithmetic)(Concat(nn.ReLU(), nn.Identity()).eval(), (1,), Ball(1.0, grid=4))
    assert finer.error.item() == 0
    assert finer.grid == 4


@pytest.mark.parametrize("name", ["maxmin", "groupsort", "fullsort", "abs", "beta_abs"])
def test_what_only_picks_numbers_keeps_them_and_their_grid(name) -> None:
    module, shape = layers.build(name).eval(), (4,)
    before = Ball(norm=3.0, error=0.25, grid=5)
    after = Analysis("bfloat16")(module, shape, before)
    assert after.error.item() == pytest.approx(0.25, rel=1e-9)
    assert after.grid == 5
    x = torch.randn(8, *shape)
    moduli = module(x).abs().sort(dim=1).values
    assert torch.equal(moduli, x.abs().sort(dim=1).values)


def test_thresholds_on_a_grid_keep_sums_exact() -> None:
    module = layers.NActivation(2).eval()
    module.thresholds.data = torch.tensor([[-0.5, 0.25], [1.0, 0.75]])
    after = Analysis("float32")(module, (2,), Ball(norm=8.0, grid=1))
    assert after.error.item() == 0
    assert after.grid == 2
    module.thresholds.data = torch.tensor([[-0.5, 0.1], [1.0, 0.75]])  # which float32 rounds
    assert Analysis("float32")(module, (2,), Ball(norm=8.0, grid=1)).error.item() > 0


def test_errors_behind_groups_are_those_of_the_worst_group_and_not_of_all() -> None:
    """Each branch passes on the error of its group: together, that of the whole, times the worst."""
    module = Parallel([nn.Identity() for _ in range(4)], (1, 1, 1, 1)).eval()
    ball = Analysis("float32")(module, (4,), Ball(norm=2.0, error=1e-3))
    assert ball.error.item() == pytest.approx(1e-3, rel=1e-9)
    assert ball.norm.item() == pytest.approx(2.0, rel=1e-9)


def test_branches_of_constants_count_where_the_input_is_zero() -> None:
    """f(0) of concatenated branches is the root of the sum of their squares."""
    module = Concat(shifted(3.0), shifted(4.0)).eval()
    ball = Analysis("float64")(module, (1,), Ball(norm=0.0))
    assert ball.norm.item() == pytest.approx(5.0, rel=1e-9)
    assert module(torch.zeros(1, 1)).norm().item() == 5.0


def test_a_normal_that_is_no_unit_vector_has_the_constant_of_its_own_reflection() -> None:
    """Against singular values on both sides of the line: 2‖v‖² − 1, exactly."""
    module = StoredHouseholder(torch.tensor([[[0.9, 0.8]]])).eval()
    x = torch.randn(50, 2)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: module(v[None])[0]))(x)
    slopes = torch.linalg.matrix_norm(jacobians, ord=2)
    assert lipschitz(module, (2,)).value == pytest.approx(2 * (0.81 + 0.64) - 1)
    assert slopes.max().item() == pytest.approx(2 * (0.81 + 0.64) - 1)
    assert slopes.min().item() == pytest.approx(1)


def test_a_band_without_a_frequency_rounds_nothing_but_the_bias() -> None:
    """Between the frequencies of an image there are none: what comes out is the bias."""
    empty = torch.zeros(0, 1, 2, 2, dtype=torch.complex128)
    layer = StoredFilter2d(empty, (6, 6), (0.01, 0.02), torch.tensor([0.1, -2.0])).eval()
    ball = Analysis(FLOAT64)(layer, (2, 6, 6), Ball(norm=3.0))
    assert torch.equal(layer(torch.rand(1, 2, 6, 6))[0, 1], torch.full((6, 6), -2.0))
    size = 6 * math.hypot(0.1, 2.0)
    assert size <= float(ball.norm) <= size + 3.0 + 1e-9
    assert float(ball.error) <= 1e-14
