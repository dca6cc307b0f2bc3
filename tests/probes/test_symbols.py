"""Tests of the gains of convolutions: closed forms of known kernels, and matrices written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lipnets.bounds import Bound
from lipnets.layers import SymbolConv2d
from lipnets.probes import InvariantError, symbols
from lipnets.records import Record

Build = Callable[..., Any]


def conv(kernel: Tensor, **settings: Any) -> nn.Conv2d:
    """The convolution with a kernel, circular and of the same size unless told otherwise."""
    settings = {"padding_mode": "circular"} | settings
    groups = settings.get("groups", 1)
    sides = kernel.shape[2:]
    dilation = settings.get("dilation", 1)
    settings.setdefault("padding", [dilation * (k - 1) // 2 for k in sides])
    layer = nn.Conv2d(kernel.shape[1] * groups, len(kernel), sides, bias=False, **settings)
    layer.weight.data = kernel.clone()
    return layer


def network(*layers: nn.Module, shape: tuple[int, ...]) -> nn.Sequential:
    body = nn.Sequential(*layers, nn.Flatten())
    size = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(body, nn.Linear(size, 2))


def gains(records: list[Record]) -> list[Record]:
    return [record for record in records if record.name == "layer_gain"]


def singular_values(layer: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """Those of the matrix of the layer, column by column."""
    basis = torch.eye(math.prod(shape)).unflatten(1, shape)
    return np.linalg.svd(layer(basis).detach().flatten(1).numpy(), compute_uv=False)


@pytest.mark.parametrize(
    ("taps", "closed"),
    [
        ([1.0, -2.0, 1.0], lambda theta: 2 - 2 * np.cos(theta)),
        ([0.25, 0.5, 0.25], lambda theta: (1 + np.cos(theta)) / 2),
        ([0.0, 1.0, 0.0], np.ones_like),
    ],
)
def test_gains_of_known_kernels(taps: list[float], closed: Any, examine: Build) -> None:
    kernel = torch.tensor(taps)[None, None, None]  # along rows
    shape = (1, 1, 8)
    (record,) = gains(list(symbols()(examine(network(conv(kernel), shape=shape), shape, 2))))
    assert record.details["kind"] == "exact"
    # An image of one row: its frequencies are 0, ±1/8, ..., each a ring of its own by k / 8, but
    # cycles per image count by the shorter side.
    values = closed(2 * np.pi * np.arange(8) / 8)
    assert record.value == pytest.approx(values.max())
    assert record.details["smallest"] == pytest.approx(values.min(), abs=1e-12)


def test_smoothing_in_two_dimensions_is_read_ring_by_ring(examine: Build) -> None:
    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel, shape = torch.outer(taps, taps)[None, None], (1, 8, 8)
    (record,) = gains(list(symbols()(examine(network(conv(kernel), shape=shape), shape, 2))))
    theta = 2 * np.pi * np.fft.fftfreq(8)
    table = np.outer((1 + np.cos(theta)) / 2, (1 + np.cos(theta)) / 2)
    f = np.fft.fftfreq(8, 1 / 8)
    rho = np.round(np.hypot(f[:, None], f)).astype(int)
    for i, frequency in enumerate(record.details["frequencies"]):
        ring = table[rho == round(8 * frequency)]
        assert record.details["largest"][i] == pytest.approx(ring.max(), abs=1e-12)
        assert record.details["mean"][i] == pytest.approx(ring.mean(), abs=1e-12)
        assert record.details["least"][i] == pytest.approx(ring.min(), abs=1e-12)


@pytest.mark.parametrize(
    ("kernel", "shape", "settings"),
    [
        ((3, 2, 3, 3), (2, 5, 6), {}),
        ((2, 3, 3, 5), (3, 5, 7), {}),
        ((4, 1, 3, 3), (2, 6, 4), {"groups": 2}),
        ((2, 2, 3, 3), (2, 6, 5), {"dilation": 2}),
        ((5, 2, 3, 3), (2, 6, 4), {"stride": 2}),
        ((2, 2, 3, 3), (2, 6, 4), {"stride": (2, 1)}),
        ((3, 2, 2, 2), (2, 4, 6), {"stride": 2, "padding": 0}),
    ],
)
def test_whole_convolutions_have_the_norm_of_their_matrix(
    kernel: tuple[int, ...], shape: tuple[int, ...], settings: Any, examine: Build
) -> None:
    layer = conv(torch.randn(kernel), **settings)
    (record,) = gains(list(symbols()(examine(network(layer, shape=shape), shape, 2))))
    values = singular_values(layer, shape)
    assert record.details["kind"] == "exact"
    assert record.value == pytest.approx(values.max())
    if not settings.get("groups"):
        assert record.details["smallest"] == pytest.approx(values.min(), abs=1e-9)
    assert max(record.details["largest"]) <= record.value * (1 + 1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_waves_of_a_stride_are_applied_by_hand(stride: int, examine: Build) -> None:
    """One channel: the gain for the wave e^{iωx} is the norm of what comes out over that of it."""
    layer = conv(torch.randn(3, 1, 3, 3), stride=stride)
    shape = (1, 6, 6)
    records = list(symbols()(examine(network(layer, shape=shape), shape, 2)))
    y, x = np.meshgrid(np.arange(6), np.arange(6), indexing="ij")
    expected: dict[int, list[float]] = {}
    for row in range(6):
        for column in range(6):
            angle = torch.from_numpy(2 * np.pi * (row * y + column * x) / 6)[None, None]
            out = torch.complex(layer(angle.cos()), layer(angle.sin())).detach()
            ring = round(math.hypot(min(row, 6 - row), min(column, 6 - column)))
            expected.setdefault(ring, []).append(out.abs().square().sum().sqrt().item() / 6)
    (record,) = gains(records)
    for i, frequency in enumerate(record.details["frequencies"]):
        ring = expected[round(6 * frequency)]
        assert record.details["largest"][i] == pytest.approx(max(ring))
        assert record.details["least"][i] == pytest.approx(min(ring))


@pytest.mark.parametrize("stride", [1, 2])
def test_stored_symbols_are_read_as_kernels_are(stride: int, examine: Build) -> None:
    """A layer that stores its symbols, and the convolution with the same kernel, have the same."""
    shape = (2, 6, 4)
    layer = SymbolConv2d(2, 3, 3, stride=stride, padding=1, bias=False, padding_mode="circular")
    same = conv(layer.weight.detach(), stride=stride)
    first, second = (
        gains(list(symbols()(examine(network(each, shape=shape), shape, 2))))[0]
        for each in (layer, same)
    )
    assert first.details["module"] == "StoredConv2d"
    assert first.value == pytest.approx(second.value)
    for name in ("least", "mean", "largest", "smallest"):
        assert first.details[name] == pytest.approx(second.details[name], abs=1e-9)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("circular", "exact"), ("zeros", "estimate"), ("reflect", None), ("replicate", None)],
)
def test_numbers_say_whether_padding_makes_them_exact(
    mode: str, kind: str | None, examine: Build
) -> None:
    taps = torch.tensor([0.25, 0.5, 0.25])
    layer = conv(torch.outer(taps, taps)[None, None], padding_mode=mode)
    shape = (1, 6, 6)
    records = list(symbols()(examine(network(layer, shape=shape), shape, 2)))
    assert [r.details["kind"] for r in gains(records)] == ([kind] if kind else [])
    if kind is None:
        assert [record.name for record in records] == ["symbols_skipped"]
    if mode == "zeros":  # on a torus it is 1; on the image cos²(π / 14) along each axis
        assert records[0].value == pytest.approx(1)
        norm = singular_values(layer, shape).max()
        assert norm == pytest.approx(math.cos(math.pi / 14) ** 4)


@pytest.mark.parametrize(
    ("kernel", "shape", "settings", "kind"),
    [
        ((2, 2, 3, 3), (2, 4, 5), {"padding": 1}, "exact"),
        ((2, 2, 3, 3), (2, 4, 5), {"padding": "same"}, "exact"),
        ((2, 2, 2, 2), (2, 4, 5), {"padding": "same"}, "exact"),
        ((2, 2, 3, 3), (2, 4, 5), {"padding": "same", "dilation": 2}, "exact"),
        ((2, 2, 3, 3), (2, 4, 5), {"padding": "valid"}, "estimate"),  # cuts the border off
        ((2, 2, 3, 3), (2, 4, 5), {"padding": 0}, "estimate"),
        ((2, 2, 3, 3), (2, 4, 5), {"padding": (1, 0)}, "estimate"),
        ((2, 2, 2, 2), (2, 4, 5), {"padding": 1}, "estimate"),  # repeats a row and a column
        ((2, 2, 3, 3), (2, 4, 5), {"padding": 2}, "estimate"),
        ((2, 2, 3, 3), (2, 4, 6), {"padding": 2, "stride": 2}, "estimate"),
        ((2, 2, 4, 4), (2, 4, 6), {"padding": 1, "stride": 2}, "exact"),
        ((2, 2, 3, 3), (2, 4, 5), {"padding": 1, "stride": 2}, "estimate"),  # no multiple of 2
    ],
)
def test_circular_padding_is_exact_where_each_output_of_the_torus_comes_once(
    kernel: tuple[int, ...], shape: tuple[int, ...], settings: Any, kind: str, examine: Build
) -> None:
    """Where it says exact, the matrix has these singular values; elsewhere, it has others."""
    layer = conv(torch.randn(kernel), **settings)
    (record,) = gains(list(symbols()(examine(network(layer, shape=shape), shape, 2))))
    values = singular_values(layer, shape)
    agrees = math.isclose(record.value, values.max(), rel_tol=1e-6)
    assert (record.details["kind"], agrees) == (kind, kind == "exact")


def test_the_envelope_is_the_product_over_depth(examine: Build) -> None:
    taps = torch.tensor([0.25, 0.5, 0.25])
    blur = torch.outer(taps, taps)[None, None]
    identity = torch.zeros(1, 4, 1, 1)
    identity[0, 0] = 1
    shape = (1, 8, 8)
    layers = (conv(blur), nn.PixelUnshuffle(2), conv(identity), conv(blur))
    records = list(symbols()(examine(network(*layers, shape=shape), shape, 2)))
    (record,) = [r for r in records if r.name == "linear_envelope"]
    theta = 2 * np.pi * np.fft.fftfreq(8)
    first, last = (1 + np.cos(theta)) / 2, (1 + np.cos(2 * theta)) / 2
    table = np.outer(first * last, first * last)
    f = np.fft.fftfreq(8, 1 / 8)
    rho = np.round(np.hypot(f[:, None], f)).astype(int)
    expected = [table[rho == ring].max() for ring in range(rho.max() + 1)]
    assert record.details["largest"] == pytest.approx(expected, abs=1e-12)


def test_fewer_points_are_frequencies_of_the_same_symbol(examine: Build) -> None:
    taps = torch.tensor([0.25, 0.5, 0.25])
    layer, shape = conv(torch.outer(taps, taps)[None, None]), (1, 12, 12)
    subject = examine(network(layer, shape=shape), shape, 2)
    (record,) = gains(list(symbols(points=4)(subject)))
    assert record.details["kind"] == "estimate"
    assert record.details["frequencies"] == [0.0, 0.25, 0.5, 0.75]
    assert record.details["largest"] == pytest.approx([1, 0.5, 0, 0], abs=1e-12)
    with pytest.raises(ValueError, match="between 1 and 32"):
        symbols(points=0)


def test_a_bound_below_a_singular_value_is_caught(
    examine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (1, 4, 4)
    subject = examine(network(conv(torch.randn(2, 1, 3, 3)), shape=shape), shape, 2)
    assert any(r.name == "check/symbols" for r in symbols()(subject))
    monkeypatch.setitem(symbols.__globals__, "lipschitz", lambda *given: Bound(0.01, "wrong"))
    with pytest.raises(InvariantError, match="above the bound of the layer"):
        list(symbols()(subject))
