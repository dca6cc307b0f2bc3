"""Convolutions in bands of frequencies, by name, against explicit matrices."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import layers
from lipnets.layers import FilteredConv2d, band_gains, frequency_gains

NAMES = ["band_conv2d", "octave_conv2d", "radial_conv2d"]
SIZES = [(6, 7), (8, 8), (5, 3), (12, 16), (28, 28)]


def built(name: str, **given: object) -> FilteredConv2d:
    layer = layers.build(name, **{"in_channels": 2, "out_channels": 3, "kernel_size": 3, **given})
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.eval()


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


def projection(size: tuple[int, int], low: float, high: float) -> Tensor:
    """The matrix of the orthogonal projection of one channel to a band of radii [low, high)."""
    pixels = torch.eye(math.prod(size)).reshape(-1, *size)
    rows, columns = (torch.fft.fftfreq(n) for n in size)
    radius = torch.hypot(rows[:, None], columns)
    inside = (radius >= low) & (radius < high)
    return torch.fft.ifft2(torch.fft.fft2(pixels) * inside).real.flatten(1).mT.contiguous()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("conv", ["aol_conv2d", "bcop_conv2d"])
@pytest.mark.parametrize("name", NAMES)
def test_they_are_1_lipschitz_at_any_size(name, conv, size) -> None:
    layer = built(name, conv=conv)
    assert lipnets.lipschitz(layer, (2, *size)).value <= 1 + 1e-6


@pytest.mark.parametrize("high", [0.25, 0.4, 0.8])
@pytest.mark.parametrize("size", SIZES)
def test_an_orthogonal_kernel_has_norm_1_in_the_whole_band(size, high) -> None:
    layer = built("band_conv2d", conv="bcop_conv2d", high=high, rolloff=0)
    rows, columns = (torch.fft.fftfreq(n) for n in size)
    expected = (torch.hypot(rows[:, None], columns) < high).double()
    torch.testing.assert_close(frequency_gains(layer, size), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["octave_conv2d", "radial_conv2d"])
@pytest.mark.parametrize("budgets", [(1.0, 0.5, 0.25), (0.1, 1.0, 0.0), (2.0, 0.3, 1.0)])
@pytest.mark.parametrize("size", [(6, 7), (8, 8)])
def test_the_gain_of_a_band_is_within_its_budget(name, budgets, size) -> None:
    edges = (0.15, 0.3)
    more = {"rolloff": 0.0} if name == "octave_conv2d" else {}
    layer = built(name, conv="bcop_conv2d", edges=edges, budgets=budgets, **more)
    full = matrix(layer, (2, *size))
    proved = band_gains(layer, (2, *size), edges)
    bands = pairwise((0.0, *edges, 1.0))
    for budget, gain, (low, high) in zip(budgets, proved.tolist(), bands, strict=True):
        project = torch.kron(torch.eye(2), projection(size, low, high))
        norm = torch.linalg.matrix_norm(full @ project, ord=2).item()
        assert norm - 1e-12 <= gain <= budget * (1 + 1e-9) + 1e-12
        if name == "octave_conv2d":
            assert gain == pytest.approx(budget, abs=1e-9)


@pytest.mark.parametrize("rolloff", [0.0, 0.05, 0.1])
def test_the_constant_of_octaves_is_the_largest_budget(rolloff) -> None:
    given = {"edges": (0.15, 0.3), "budgets": (0.5, 0.5, 0.5), "rolloff": rolloff}
    layer = built("octave_conv2d", conv="bcop_conv2d", **given)
    assert lipnets.lipschitz(layer, (2, 9, 10)).value <= 0.5 * (1 + 1e-9)


def test_octaves_of_equal_kernels_and_budgets_are_one_convolution() -> None:
    layer, x = built("octave_conv2d", conv="conv2d", rolloff=0.07), torch.randn(2, 2, 9, 8)
    for conv in layer.convs:
        conv.weight = layer.convs[0].weight
    plain = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    plain.weight, plain.bias = layer.convs[0].weight, layer.convs[0].bias
    torch.testing.assert_close(layer(x), plain(x))


def test_bands_without_budget_are_not_computed() -> None:
    layer = built("radial_conv2d", edges=(0.1, 0.2), budgets=(0.0, 1.0, 0.0))
    stored = layer.materialize((2, 12, 12))
    assert len(stored.weight) < 12 * 7 / 2
    torch.testing.assert_close(stored(torch.ones(1, 2, 12, 12)), layer(torch.ones(1, 2, 12, 12)))


@pytest.mark.parametrize("name", NAMES)
def test_they_take_groups_and_dilation(name) -> None:
    layer = built(name, in_channels=4, out_channels=6, groups=2, dilation=2, kernel_size=(3, 2))
    size = (7, 6)
    assert layer.convs[0].weight.shape == (6, 2, 3, 2)
    norm = torch.linalg.matrix_norm(matrix(layer, (4, *size)), ord=2).item()
    bound = lipnets.lipschitz(layer, (4, *size)).value
    assert norm * (1 - 1e-9) <= bound <= 1 + 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"stride": 2}, "strid"),
        ({"padding_mode": "zeros"}, "circular"),
        ({"padding": 0}, "circular"),
        ({"conv": "maxmin"}, "no argument"),
        ({"conv": "cayley_linear"}, "no argument"),
    ],
)
def test_what_does_not_keep_frequencies_apart_is_refused(name, arguments, why) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        built(name, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"edges": (0.2,), "budgets": (1.0,)},
        {"edges": (), "budgets": (1.0,)},
        {"edges": (0.02, 0.3), "budgets": (1.0, 1.0, 1.0)},
        {"edges": (0.2, 0.22), "budgets": (1.0, 1.0, 1.0)},
        {"budgets": (1.0, -1.0, 1.0)},
    ],
)
def test_octaves_that_are_no_partition_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="should"):
        built("octave_conv2d", **arguments)
