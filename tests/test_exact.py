"""Exact programs: the same logits in whatever order sums are added, proved and counted in rationals."""

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from lipnets import NotCertifiedError, certify, export, lipschitz, snapping
from lipnets.exact import Round, Sums, snap
from lipnets.layers import (
    Abs,
    Concat,
    GroupSort,
    Householder,
    L2NormPool2d,
    MaxMin,
    NActivation,
    Parallel,
    PotentialConv2d,
    PotentialLinear,
    Residual,
    SandwichConv2d,
    SandwichLinear,
    Standardize,
    build,
)
from lipnets.program import Affine, AxisMaps, Gather
from lipnets.rounding import Analysis, Ball, bits
from lipnets.snapping import _Snapper


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


PLACES = {  # of a sum that needs more bits than there are, before its result is put on a grid again
    "chain": lambda sums, back: nn.Sequential(sums, Round(20)),
    "branch": lambda sums, back: Residual(nn.Sequential(sums, Round(20))),
    "two branches": lambda sums, back: Concat(nn.Identity(), nn.Sequential(sums, Round(20))),
    "groups": lambda sums, back: Parallel(
        [nn.Identity(), nn.Sequential(nn.Linear(2, 4), Round(9))], [2, 2]
    ),
    "block": lambda sums, back: potential(back),
    "axes": lambda sums, back: nn.Sequential(AxisMaps([back.weight]), Round(20)),
    "affine": lambda sums, back: nn.Sequential(Affine(back.weight[0], None), Round(20)),
    "slopes": lambda sums, back: nn.Sequential(nn.LeakyReLU(0.3), Round(20)),
}


def potential(inner: nn.Linear) -> PotentialLinear:
    block = PotentialLinear(4, 4, activation=nn.Sequential(Round(20), nn.ReLU()))
    block.inner.weight.data = inner.weight.data
    return block


@pytest.mark.parametrize("place", PLACES)
def test_numbers_on_a_grid_do_not_hide_a_sum_that_was_rounded_before(place) -> None:
    """Attack: what comes out is on a grid, and has errors that are proved; but it depends on orders."""
    sums, back = nn.Linear(4, 4), nn.Linear(4, 4)
    back.weight.data = torch.randint(-(2**20), 2**20, (4, 4)) * 2.0**-22 + 2.0**-22
    module = PLACES[place](sums, back).eval()
    ball = Ball(norm=2.0, grid=40)
    assert Analysis("float64")(module, (4,), ball).grid is not None
    assert not Sums().are_exact(module, (4,), 2.0)
    with pytest.raises(NotCertifiedError, match="is not exact"):
        _Snapper().after([module], (4,), ball)


def test_a_rounded_sum_in_a_block_differs_from_its_rational() -> None:
    """What the block above rounds: numerators of 40 and 20 bits have products of 60."""
    weight = torch.randint(-(2**20), 2**20, (4, 4)) * 2.0**-22 + 2.0**-22
    x = torch.randint(-(2**40), 2**40, (8, 4)) * 2.0**-41
    rows = [[Fraction(each) for each in row] for row in weight.tolist()]
    rounded = 0
    for example in x:
        values = [Fraction(each) for each in example.tolist()]
        exact = [sum(w * v for w, v in zip(row, values, strict=True)) for row in rows]
        rounded += [Fraction(each) for each in (weight @ example).tolist()] != exact
    assert rounded > 4


@pytest.mark.parametrize("more", [4, 12])
def test_grids_that_are_too_fine_are_found_out(more, monkeypatch) -> None:
    """Attack: who builds the program believes to have more room than there is."""
    room = snapping._room
    monkeypatch.setattr(snapping, "_room", lambda top: room(top) + more)
    branch = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    block, parts = PotentialLinear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.3))
    for module in (block, Residual(branch), parts):
        model = nn.Sequential(module, nn.Linear(6, 3)).eval()
        try:
            program = export(model, (6,), program="exact")
        except NotCertifiedError:
            continue
        sizes = 2 * math.sqrt(6)
        assert Sums().are_exact(program.eval(), (6,), sizes)


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


# Every operation that is exact, beside numbers of 64 bits instead of 53


IMAGE = (3, 6, 6)


def tail(features: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, 4)]


def randomized(*modules: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*modules).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, NActivation):
                module.thresholds.normal_()
    return model


CASES = {
    "conv": lambda: [nn.Conv2d(3, 8, 3, padding=1, stride=2), MaxMin(), *tail(72)],
    "groups": lambda: [nn.Conv2d(3, 6, 3, groups=3, dilation=2), GroupSort(3), *tail(24)],
    "circular": lambda: [nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), Abs(), *tail(144)],
    "transposed": lambda: [nn.ConvTranspose2d(3, 4, 2, stride=2), nn.ReLU(), *tail(576)],
    "one axis": lambda: [nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.ReLU(), *tail(136)],
    "standardized": lambda: [Standardize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), *tail(108)],
    "batch norm": lambda: [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.PReLU(4), *tail(144)],
    "averages": lambda: [nn.Conv2d(3, 4, 1), nn.AvgPool2d(3), nn.ReLU(), *tail(16)],
    "maxima": lambda: [nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2), *tail(16)],
    "pieces": lambda: [
        nn.Conv2d(3, 4, 1),
        NActivation(4),
        nn.LeakyReLU(0.1),
        nn.Hardtanh(-0.3, 0.7),
        nn.Softshrink(0.1),
        *tail(144),
    ],
    "sum": lambda: [
        Residual(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 1))),
        Residual(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 1)),
        *tail(180),
    ],
    "side by side": lambda: [
        Concat(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 3, padding=1)),
        Parallel([nn.Conv2d(2, 2, 1), nn.Identity()], [2, 4]),
        *tail(216),
    ],
    "potential": lambda: [
        build("sll_conv2d", in_channels=3, out_channels=3, kernel_size=3, padding=1),
        nn.Flatten(),
        build("cpl_linear", in_features=108, out_features=108),
        nn.Linear(108, 4),
    ],
    "sandwich": lambda: [
        build("sandwich_conv2d", in_channels=3, out_channels=4, kernel_size=3, padding=1),
        nn.Flatten(),
        build("sandwich_linear", in_features=144, out_features=9),
        nn.Linear(9, 4),
    ],
}


def linear_part(apply, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of an affine map and its constant, whose entries are weights: nothing is added up."""
    with torch.no_grad():
        constant = apply(torch.zeros(1, *shape)).flatten().numpy()
        basis = torch.eye(math.prod(shape)).view(-1, *shape)
        columns = apply(basis).flatten(1).numpy() - constant
    return columns.T.astype(np.longdouble), constant.astype(np.longdouble)


def unbiased(module: nn.Module) -> nn.Module:
    out = copy.deepcopy(module)
    for name in ("bias", "shift"):
        if getattr(out, name, None) is not None:
            with torch.no_grad():
                getattr(out, name).zero_()
    return out


class NotHeldError(Exception):
    """Raised for numbers that take more than 53 bits."""


def wide(module: nn.Module, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What an operation makes of one example, flat, in numbers of 64 bits."""
    if isinstance(module, nn.Sequential):
        for child in module:
            with torch.no_grad():
                after = tuple(child(torch.zeros(1, *shape)).shape[1:])
            x, shape = wide(child, x, shape), after
        return x
    if isinstance(module, Residual):
        start = x if module.shortcut is None else wide(module.shortcut, x, shape)
        return start + wide(module.branch, x, shape)
    if isinstance(module, Concat):
        return np.concatenate([wide(branch, x, shape) for branch in module.branches])
    if isinstance(module, Parallel):
        cuts = np.cumsum([size * math.prod(shape[1:]) for size in module.split_sizes])[:-1]
        groups = zip(module.branches, np.split(x, cuts), module.split_sizes, strict=True)
        return np.concatenate([wide(f, part, (size, *shape[1:])) for f, part, size in groups])
    if isinstance(module, PotentialLinear | PotentialConv2d | SandwichLinear | SandwichConv2d):
        inner, joint, outs = module.inner, shape, 0
        if isinstance(module, SandwichLinear):
            outs, joint = module.out_features, (shape[0] + module.out_features,)
        if isinstance(module, SandwichConv2d):
            outs = module.out_channels * math.prod(shape[1:])
            joint = (shape[0] + module.out_channels, *shape[1:])
        matrix, _ = linear_part(unbiased(inner), joint)
        _, bias = linear_part(inner, joint)
        with torch.no_grad():
            hidden = tuple(inner(torch.zeros(1, *joint)).shape[1:])
        units = wide(module.activation, matrix[:, outs:] @ x + bias, hidden)
        back = matrix[:, :outs].T if outs else matrix.T
        return back @ units if outs else x - back @ units
    if isinstance(module, nn.PReLU | nn.LeakyReLU):
        leaky = isinstance(module, nn.LeakyReLU)
        slope = np.array([module.negative_slope]) if leaky else module.weight.detach().numpy()
        slopes = np.repeat(slope, len(x) // len(slope)).astype(np.longdouble)
        return np.where(x > 0, x, slopes * x)
    if isinstance(module, NActivation):
        low, high = (
            np.repeat(each.detach().numpy(), len(x) // shape[0]).astype(np.longdouble)
            for each in module.thresholds.sort(dim=0).values
        )
        return x - 2 * np.minimum(np.maximum(x, low), high)
    if isinstance(module, nn.Softshrink):
        return np.sign(x) * np.maximum(abs(x) - np.longdouble(module.lambd), 0)
    if isinstance(module, Round):
        return np.round(x * np.longdouble(2) ** module.bits) / np.longdouble(2) ** module.bits
    if isinstance(
        module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | Affine | AxisMaps
    ):
        matrix, _ = linear_part(unbiased(module), shape)
        _, constant = linear_part(module, shape)
        return matrix @ x + constant
    # What moves numbers and picks some of them is exact in any format that holds them.
    assert isinstance(
        module,
        nn.ReLU | nn.Hardtanh | nn.MaxPool2d | MaxMin | GroupSort | Abs | Gather | nn.Identity,
    )
    if not np.array_equal(x.astype(np.float64), x):
        raise NotHeldError
    with torch.no_grad():
        return module(torch.from_numpy(x.astype(np.float64)).view(1, *shape)).flatten().numpy()


@pytest.mark.parametrize("name", CASES)
def test_every_operation_is_exact_where_plain_float64_is_not(name) -> None:
    model = randomized(*CASES[name]())
    program = export(model, IMAGE, program="exact")
    plain = export(model, IMAGE, program="float64")
    differ = 0
    for x in torch.rand(4, *IMAGE):
        flat = x.flatten().numpy().astype(np.longdouble)
        assert np.array_equal(wide(program, flat, IMAGE), program(x[None])[0].detach().numpy())
        try:
            same = np.array_equal(wide(plain, flat, IMAGE), plain(x[None])[0].detach().numpy())
        except NotHeldError:
            same = False
        differ += not same
    assert differ
    before, after = certify(model, IMAGE), certify(program, IMAGE)
    assert after.lipschitz <= before.lipschitz * (1 + 1e-6)
    images = torch.rand(5, *IMAGE)
    assert (before.logits(images) - after.logits(images)).abs().max() < 2e-5
    norm = 2 * math.sqrt(math.prod(IMAGE))
    assert Analysis("float64")(program, IMAGE, Ball(norm=norm)).grid is not None
    errors = after.errors(torch.zeros(1, dtype=torch.long), torch.full((1,), norm / 2), norm / 2)
    assert 0 < errors.max() < 1e-4


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)],
        [nn.Unflatten(1, (3, 1, 1)), L2NormPool2d(1), nn.Flatten(), nn.Linear(3, 2)],
        [nn.Linear(3, 4), Householder(4), nn.Linear(4, 2)],
        [nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)],
    ],
)
def test_what_is_exact_on_no_grid_is_refused(modules) -> None:
    with pytest.raises(NotCertifiedError, match="not exact, on no grid"):
        export(nn.Sequential(*modules).eval(), (3,), program="exact")
