"""Smooth functions and attention in the checker: against ball arithmetic, and against false files."""

import copy
import hashlib
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, arb_series, ctx
from torch import nn

from lipnets import layers, verify
from lipnets.certify import certify
from lipnets.layers import attention_bound
from lipnets.program import Affine

Meta, Arrays = dict[str, Any], dict[str, np.ndarray]
BITS = 300


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    before = ctx.prec
    ctx.prec = BITS
    yield
    ctx.prec = before


# Slopes and values of functions


def tanh(x: Any) -> Any:
    return 1 - 2 / ((2 * x).exp() + 1)


def normal(x: Any) -> Any:
    return x * (1 + (x / arb(2).sqrt()).erf()) / 2


def normal_by_tanh(x: Any) -> Any:
    cubic = x + arb("0.044715") * x * x * x
    return x * (1 + tanh((2 / arb.pi()).sqrt() * cubic)) / 2


def sign(x: Any) -> int:
    """Of a number, or of the constant of a series; intervals here have one sign, but for 0."""
    middle = (x[0] if isinstance(x, arb_series) else x).mid()
    return 1 if middle > 0 else -1


REAL: dict[str, Callable[[Any], Any]] = {
    "tanh": tanh,
    "tanhshrink": lambda x: x - tanh(x),
    "softsign": lambda x: x / (1 + sign(x) * x),
    "logsigmoid": lambda x: -((-x).exp() + 1).log(),
    "elu": lambda x: x if sign(x) > 0 else x.exp() - 1,
    "silu": lambda x: x / ((-x).exp() + 1),
    "gelu": normal,
    "gelu_tanh": normal_by_tanh,
}


def slope(name: str, left: float, right: float) -> arb:
    """Encloses the derivative on an interval, by that in its middle and by the second one."""
    middle, half = (left + right) / 2, (right - left) / 2
    ball = arb(middle, half)
    at = REAL[name](arb_series([arb(middle), 1], prec=2))
    bent = REAL[name](arb_series([ball, 1], prec=3))
    return at[1] + 2 * bent[2] * arb(0, half)


@pytest.mark.parametrize("name", verify.SMOOTH)
def test_slopes_are_in_their_interval_and_reach_its_end(name) -> None:
    """On [−16, 16]; beyond, all that differs from 0 or 1 is below 17 e^−16 and falls."""
    steepest, ctx.prec = verify.SMOOTH[name][1], 80
    room, largest = (
        1e-6 if steepest == 1 else 0.0,
        0.0,
    )  # what a bound of 1 attains, intervals exceed
    open_ = [(k / 4, (k + 1) / 4) for k in range(-64, 64)]
    while open_:
        left, right = open_.pop()
        found = slope(name, left, right)
        if found < steepest + room and found > 1 - steepest - room:
            largest = max(largest, float(found.mid()))
            continue
        assert right - left > 2.0**-20, (left, found)
        middle = (left + right) / 2
        open_ += [(left, middle), (middle, right)]
    assert largest > steepest - (5e-3 if steepest == 1 else 2e-5)


def worst(function: Callable[[Any], Any], ulps: float) -> Callable[[Any], Any]:
    """A function that is as far off as is assumed."""
    return lambda x: (y := function(x)) + ulps * np.spacing(np.abs(y))


@pytest.mark.parametrize("name", verify.SMOOTH)
def test_values_are_within_what_is_proved_of_the_worst_functions_assumed(name, monkeypatch) -> None:
    _, _, relative, each = verify.SMOOTH[name]
    x = np.concatenate(
        [np.linspace(-30, 30, 241), np.logspace(-12, 2, 60), -np.logspace(-12, 2, 60)]
    )
    exact = [REAL[name](arb(float(value))) for value in x]
    allowed = verify.U * (relative * np.abs(x) + each) * 1.01 + 1e-300
    true = {key: getattr(np, key) for key in ("exp", "expm1", "log1p", "tanh")}
    erf, largest = verify.ERF, 0.0
    for first, second in itertools.product((-16, 16), (-16, 16)):
        for key, function in true.items():
            monkeypatch.setattr(np, key, worst(function, second if key == "log1p" else first))
        monkeypatch.setattr(verify, "ERF", worst(erf, first))
        f = np.tanh if name == "tanh" else verify.SMOOTH[name][0]
        values = f(x)
        off = [float(abs(arb(float(y)) - z)) for y, z in zip(values, exact, strict=True)]
        assert np.all(np.array(off) <= allowed)
        largest = max(largest, float(np.max(np.array(off) / allowed)))
    assert largest > 0.2  # so much of the constants is needed


# Attention


def checked(u: np.ndarray, sharpness: np.ndarray, spread: float) -> verify.State:
    """What the checker computes of tokens with shape (D, N, B), and proves of it."""
    program = object.__new__(verify.Program)
    program.arrays, program.unused = {"s": sharpness}, {"s"}
    size = np.sqrt((u**2).sum(axis=(0, 1))) * (1 + 1e-12)
    state = verify.State(u, size, 0 * size, 1074)
    return program._attention(state, 1.0, "s", len(sharpness), spread)


def averages(u: np.ndarray, sharpness: np.ndarray) -> list[list[arb]]:
    """The same in ball arithmetic, of one example, by distances."""
    width, tokens = u.shape
    part = width // len(sharpness)
    real = [[arb(float(u[c, i])) for i in range(tokens)] for c in range(width)]
    out = []
    for c in range(width):
        head, row = range(c // part * part, (c // part + 1) * part), []
        square = arb(float(sharpness[c // part])) ** 2
        for i in range(tokens):
            weights = [
                (-square * sum((d := real[k][i] - real[k][j]) * d for k in head)).exp()
                for j in range(tokens)
            ]
            sums = sum(w * real[c][j] for j, w in enumerate(weights))
            row.append(sums / sum(weights))
        out.append(row)
    return out


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0, 30.0])
def test_averages_are_within_their_error_and_a_worse_library_is_not(scale, monkeypatch) -> None:
    generator, true = np.random.default_rng(0), np.exp
    sharpness = scale * np.array([1.0, -0.5])
    u = generator.normal(size=(4, 5, 2))
    exact = [averages(u[..., b], sharpness) for b in range(2)]

    def off(ulps: float) -> tuple[float, float]:
        noise = lambda y: ulps * generator.choice([-1, 1], y.shape) * np.spacing(y)
        monkeypatch.setattr(np, "exp", lambda x: (y := true(x)) + noise(y))
        end = checked(u, sharpness, layers.attention.token_spread(4))
        shares = []
        for b, real in enumerate(exact):
            away = [arb(float(end.x[c, i, b])) - real[c][i] for c in range(4) for i in range(5)]
            lost = sum(each * each for each in away)  # powers of balls around 0 are no numbers
            shares.append(float(lost.upper()) ** 0.5 / float(end.error[b]))
        return max(shares), float(end.lip)

    share, _ = off(16)
    assert 0 < share <= 1
    if scale <= 3:
        assert off(2.0**20)[0] > 1


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 16, 64, 257])
def test_the_constant_is_that_of_its_formula(tokens) -> None:
    """By Lambert's function: c e^{1 + c} = n for c = W(n / e)."""
    spread = layers.attention.token_spread(tokens - 1)
    u = np.zeros((1, tokens, 1))
    found = checked(u, np.ones(1), spread).lip
    c, pair = (arb(n).__truediv__(arb(1).exp()).lambertw() for n in (tokens - 1, 1))
    exact = (arb(tokens + 1) / 2).sqrt() + 2 * c + 2 * (c * pair * (tokens - 1)).sqrt()
    assert exact <= found
    assert found <= float(exact.mid()) * (1 + 1e-9)
    assert found == pytest.approx(attention_bound(tokens), rel=1e-9)


@pytest.mark.parametrize("tokens", [2, 5, 64])
def test_a_smaller_spread_is_none(tokens) -> None:
    spread = layers.attention.token_spread(tokens - 1)
    for false in (spread * (1 - 1e-9), 0.0, -spread, math.nan, math.inf, 1, True, "1", None):
        with pytest.raises(verify.Doubt):
            checked(np.zeros((1, tokens, 1)), np.ones(1), false)
    larger = checked(np.zeros((1, tokens, 1)), np.ones(1), 2 * spread)
    assert larger.lip > attention_bound(tokens)


# Files


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        Affine(torch.full((1,), 4.0).double(), torch.full((1,), -2.0).double()),
        nn.GELU("tanh"),
        nn.GELU(),
        layers.L2SelfAttention(4, 2, None),
        nn.SiLU(),
        nn.ELU(0.5),
        nn.Tanhshrink(),
        nn.LogSigmoid(),
        nn.Softsign(),
        layers.cpl_linear(4, 4, hidden_features=5, activation=nn.Tanh()),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.Softplus(),
        nn.Linear(6, 4),
    ).eval()


@cache
def parts() -> tuple[Meta, Arrays]:
    certificate = certify(network(), (3, 4))
    images = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(1))
    path = Path(f"/tmp/lipnets-test-smooth-{id(certificate)}.npz")
    try:
        certificate.save(path, images, certificate.logits(images).argmax(dim=1))
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    finally:
        path.unlink(missing_ok=True)
    return json.loads(arrays.pop("meta").tobytes()), arrays


def check(meta: Meta, arrays: Arrays, tmp_path: Path) -> int:
    meta["arrays"] = {
        name: hashlib.sha256(f"{a.dtype.str} {a.shape} ".encode() + a.tobytes()).hexdigest()
        for name, a in arrays.items()
    }
    text: Any = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    np.savez(tmp_path / "c.npz", **text, **arrays)
    return verify.main([str(tmp_path / "c.npz")])


def found(meta: Meta, op: str, function: str | None = None) -> dict[str, Any]:
    """An operation of a file, also within a block."""
    nodes = list(meta["network"])
    nodes += [each for node in nodes for each in node.get("activation", ())]
    return next(
        node for node in nodes if node["op"] == op and function in (None, node.get("function"))
    )


def _as(old: str, **changes: Any) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: found(meta, "smooth", old).update(changes)


def _heads(**changes: Any) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: found(meta, "attention").update(changes)


def _lower(op: str, function: str | None = None, factor: float = 1 - 1e-6) -> Any:
    def change(meta: Meta, arrays: Arrays) -> None:
        found(meta, op, function)["lip"] *= factor

    return change


def _sharp(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Meta, Arrays], None]:
    def changed(meta: Meta, arrays: Arrays) -> None:
        name = found(meta, "attention")["sharpness"]
        arrays[name] = change(arrays[name])

    return changed


def _in_block(function: str) -> Callable[[Meta, Arrays], None]:
    def changed(meta: Meta, arrays: Arrays) -> None:
        nodes = found(meta, "block")["activation"]
        nodes[0].update(function=function, lip=2.0)

    return changed


def _dropped(op: str, function: str | None = None) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: meta["network"].remove(found(meta, op, function))


def _attention_in_block(meta: Meta, arrays: Arrays) -> None:
    node = found(meta, "attention")
    meta["network"].remove(node)
    found(meta, "block")["activation"].append(node)


def _spread(meta: Meta, arrays: Arrays) -> None:
    node = found(meta, "attention")
    node["spread"] *= 1 - 1e-9


TAMPERS: dict[str, Callable[[Meta, Arrays], None]] = {
    **{f"a smaller bound of {name}": _lower("smooth", name) for name in verify.SMOOTH},
    "a smaller bound of attention": _lower("attention"),
    "half of the bound of attention": _lower("attention", factor=0.5),
    "a smaller bound of a block": _lower("block"),
    "gelu by tanh for gelu": _as("gelu", function="gelu_tanh", lip=1.2),
    "gelu for gelu by tanh": _as("gelu_tanh", function="gelu"),
    "silu for gelu": _as("gelu", function="silu"),
    "tanh for tanhshrink": _as("tanhshrink", function="tanh"),
    "elu for softsign": _as("softsign", function="elu"),
    "an unknown function": _as("silu", function="mish"),
    "a function that is a list": _as("silu", function=["silu"]),
    "a function of an array": _as("silu", function="labels"),
    "no function": lambda m, a: found(m, "smooth").pop("function"),
    "a slope of its own": _as("elu", alpha=2.0),
    "gelu in a block": _in_block("gelu"),
    "silu in a block": _in_block("silu"),
    "another function in a block": _in_block("softsign"),
    "attention in a block": _attention_in_block,
    "gelu dropped": _dropped("smooth", "gelu"),
    "attention dropped": _dropped("attention"),
    "a smaller spread": _spread,
    "no spread": lambda m, a: found(m, "attention").pop("spread"),
    "a spread of zero": _heads(spread=0.0),
    "a negative spread": _heads(spread=-1.0),
    "a spread that is nan": _heads(spread=math.nan),
    "a spread in words": _heads(spread="1"),
    "a larger spread with the bound of the true one": lambda m, a: _heads(
        spread=found(m, "attention")["spread"] * 1.01
    )(m, a),
    "one head": _heads(heads=1),
    "more heads": _heads(heads=4),
    "no heads": _heads(heads=0),
    "heads in floats": _heads(heads=2.0),
    "another sharpness": _sharp(lambda s: s * 1.5),
    "a sharpness of other heads": _sharp(lambda s: s[::-1] * np.array([1.0, 1.1])),
    "a sharpness with an axis": _sharp(lambda s: s[:, None]),
    "a sharpness too few": _sharp(lambda s: s[:1]),
    "a sharpness too many": _sharp(lambda s: np.repeat(s, 2)),
    "a sharpness that is nan": _sharp(lambda s: s * math.nan),
    "a huge sharpness": _sharp(lambda s: s * 2.0**60),
    "a sharpness in integers": _sharp(lambda s: s.astype("<i8")),
    "a smaller error": lambda m, a: m.update(error=m["error"] / 1e3),
    "a larger radius": lambda m, a: a.update(radii=a["radii"] + 1e-6),
    "another logit": lambda m, a: a.update(logits=a["logits"] + 1e-9 * np.eye(4)[0]),
    "exact sums": lambda m, a: m.update(program="exact"),
}


def test_what_is_true_is_proved_under_an_assumption_that_is_named(tmp_path, capsys) -> None:
    meta, arrays = copy.deepcopy(parts())
    assert check(meta, arrays, tmp_path) == 0
    said = capsys.readouterr().out
    assert "6, of which 6 with a radius" in said
    assert "Assumed" in said
    assert "exp, expm1, log1p, tanh and erf within 16 units in the last place" in said
    assert verify.R3 in meta["statement"]


@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampering_is_doubted(tamper, tmp_path, capsys) -> None:
    meta, arrays = copy.deepcopy(parts())
    TAMPERS[tamper](meta, arrays)
    assert check(meta, arrays, tmp_path) == 1
    assert "NOT proved" in capsys.readouterr().err


def test_tokens_of_several_images_are_not_averaged() -> None:
    """Numbers of a further axis are not taken for images."""
    for shape in ((4, 3, 1, 2), (4, 3), (4, 1, 1, 3)):
        with pytest.raises((ValueError, verify.Doubt)):
            checked(np.zeros(shape), np.ones(2), 1.0)
    with pytest.raises(ValueError, match="reshape"):
        checked(np.zeros((3, 2, 4)), np.ones(2), 1.0)


def test_scores_of_tokens_far_from_the_origin_round() -> None:
    """They are differences of squares: of numbers near 1e5, off by 1e-6."""
    u = 1e5 + np.random.default_rng(0).normal(size=(2, 5, 1))
    end, real = (
        checked(u, np.ones(1), layers.attention.token_spread(4)),
        averages(u[..., 0], np.ones(1)),
    )
    away = [float(abs(arb(float(end.x[c, i, 0])) - real[c][i])) for c in range(2) for i in range(5)]
    assert 1e-7 < np.linalg.norm(away) <= float(end.error[0])


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh", "silu"])
def test_slopes_beyond_one_are_not_taken_in_blocks(function, tmp_path, capsys) -> None:
    """Of a file without images, in which nothing else is wrong."""
    for name, accepted in (("tanh", True), ("softsign", True), (function, False)):
        meta, arrays = copy.deepcopy(parts())
        data = ("images", "labels", "logits", "radii")
        arrays |= {key: arrays[key][:0] for key in data}
        meta |= {"error": 1e9, "lipschitz": 1e9}
        _in_block(name)(meta, arrays)
        assert (check(meta, arrays, tmp_path) == 0) == accepted, capsys.readouterr().err
    assert "slopes in a block" in capsys.readouterr().err
