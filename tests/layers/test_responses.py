"""Functions of the radius of a frequency, against closed forms."""

import math

import pytest
import torch
from torch import nn

from lipnets.layers import RadialBand, RadialCurve

RADII = torch.linspace(0, math.sqrt(0.5), 201, dtype=torch.float64)


def test_a_band_is_1_inside_and_0_outside() -> None:
    factor = RadialBand(0.15, 0.45, 0.1)(RADII)
    assert (factor[(RADII < 0.15) | (RADII > 0.45)] == 0).all()
    assert (factor[(RADII > 0.25) & (RADII < 0.35)] == 1).all()
    edge = (RADII > 0.15) & (RADII < 0.25)
    expected = torch.sin(torch.pi / 2 * (RADII[edge] - 0.15) / 0.1).square()
    torch.testing.assert_close(factor[edge], expected)


@pytest.mark.parametrize("rolloff", [0.0, 0.03, 0.1])
def test_bands_that_overlap_by_their_edges_sum_to_1(rolloff) -> None:
    half = rolloff / 2
    bands = [(0.0, 0.2 + half), (0.2 - half, 0.4 + half), (0.4 - half, 1.0)]
    total = torch.stack([RadialBand(*band, rolloff)(RADII) for band in bands]).sum(dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_edges_of_bands_are_half_open_in_the_middle() -> None:
    assert RadialBand(0, 0.35, 0.1)(torch.tensor([0.3])).item() == pytest.approx(0.5)
    assert RadialBand(0, 0.35, 0.1, gain=3)(torch.tensor([0.0])).item() == 3


@pytest.mark.parametrize(
    ("low", "high", "rolloff"), [(0.3, 0.2, 0.01), (0.1, 0.2, 0.06), (0.1, 0.2, -0.1), (0, 0, 0)]
)
def test_empty_bands_are_refused(low, high, rolloff) -> None:
    with pytest.raises(ValueError, match="low < high"):
        RadialBand(low, high, rolloff)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("knots", [1, 3])
def test_a_curve_is_within_its_budgets_edges_included(knots, scale) -> None:
    edges, budgets = (0.1, 0.25, 0.5), (1.0, 0.2, 0.7, 0.0)
    curve = RadialCurve(edges, budgets, knots)
    for _ in range(20):
        nn.init.normal_(curve.raw, std=scale)
        values = curve(RADII)
        assert (values >= 0).all()
        bounds = [0.0, *edges, 1.0]
        for band, budget in enumerate(budgets):
            inside = (bounds[band] <= RADII) & (bounds[band + 1] >= RADII)
            assert (values[inside] <= budget * (1 + 1e-12)).all()
    assert (curve.low, curve.high) == (0.0, 0.5)


def test_a_curve_is_linear_between_knots() -> None:
    curve = RadialCurve((0.2,), (1.0, 0.5), knots=2)
    nn.init.normal_(curve.raw)
    values = torch.tensor(curve.limits) * curve.raw.sigmoid()
    torch.testing.assert_close(curve(torch.tensor(curve.places)), values)
    middle = curve(torch.tensor([0.05]))
    torch.testing.assert_close(middle, (values[:1] + values[1:2]) / 2)


@pytest.mark.parametrize(
    ("edges", "budgets", "knots"),
    [
        ((0.2, 0.1), (1, 1, 1), 1),
        ((0.8,), (1, 1), 1),
        ((0.2,), (1,), 1),
        ((0.2,), (1, -1), 1),
        ((0.2,), (0, 0), 1),
        ((0.2,), (1, math.inf), 1),
        ((0.2,), (1, 1), 0),
    ],
)
def test_curves_without_sense_are_refused(edges, budgets, knots) -> None:
    with pytest.raises(ValueError, match="should"):
        RadialCurve(edges, budgets, knots)
