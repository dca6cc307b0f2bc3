"""Audits: attained slopes are below the bounds, and close where the truth is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from lipnets import audit, certify
from lipnets.audit import format_table, named_layers
from lipnets.estimates import attained_slope
from lipnets.layers.residual import Residual
from lipnets.layers.scale import Scale


def network() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(48, 6))
    return nn.Sequential(body, Residual(nn.Linear(6, 6)), nn.Linear(6, 4)).eval()


def test_layers_that_work_in_place_leave_images_alone() -> None:
    model = nn.Sequential(nn.Hardtanh(inplace=True), nn.Flatten(), nn.Linear(4, 3)).eval()
    images = 4 * torch.randn(3, 1, 2, 2)
    before = images.clone()
    rows = audit(model, (1, 2, 2), images)
    certify(model, (1, 2, 2)).logits(images)
    assert torch.equal(images, before)
    assert all(row.slope <= row.bound * (1 + 1e-12) for row in rows)


def test_every_layer_has_a_row_and_no_slope_is_above_its_bound() -> None:
    rows = audit(network(), (1, 4, 4))
    assert [row.name for row in rows] == ["0.0", "0.1", "0.2", "0.3", "1", "2", ""]
    assert [row.shape for row in rows[:4]] == [(1, 4, 4), (3, 4, 4), (3, 4, 4), (48,)]
    for row in rows:
        assert 0 < row.slope <= row.bound * (1 + 1e-12)
        assert row.ratio == row.slope / row.bound
    assert math.prod(row.bound for row in rows[:-1]) == pytest.approx(rows[-1].bound)


@pytest.mark.parametrize("size", [(7, 5), (5, 7), (6, 6)])
def test_the_slope_of_a_matrix_is_its_norm(size) -> None:
    layer = nn.Linear(*size)
    norm = torch.linalg.matrix_norm(layer.weight, ord=2).item()
    slope = attained_slope(layer, torch.randn(3, size[0]), steps=200)
    assert norm * (1 - 1e-3) <= slope <= norm * (1 + 1e-12)


def test_ascent_finds_the_steepest_point_of_a_smooth_function() -> None:
    at_rest = attained_slope(nn.SiLU(), torch.full((2, 1), 0.2), ascents=0)
    climbed = attained_slope(nn.SiLU(), torch.full((2, 1), 0.2), ascents=60)
    assert climbed > at_rest
    assert climbed <= 1.0998394


def test_constant_functions_have_slope_zero() -> None:
    assert attained_slope(nn.Hardtanh(-1, 1), torch.full((2, 3), 5.0), ascents=0) == 0
    zero = nn.Linear(3, 3)
    nn.init.zeros_(zero.weight)
    assert attained_slope(zero, torch.randn(2, 3)) == 0
    (row, _) = audit(nn.Sequential(Scale(0.0)).eval(), (3,))
    assert (row.bound, row.slope, row.ratio) == (0, 0, 0)


def test_the_audit_leaves_model_and_random_numbers_alone() -> None:
    model = network().float()
    state, before = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    audit(model, (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None and p.dtype == torch.float32 for p in model.parameters())


def test_a_wrong_bound_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    from lipnets import Bound, bounds

    forward, _ = bounds._RULES[nn.GELU]
    monkeypatch.setitem(bounds._RULES, nn.GELU, (forward, lambda m, s: Bound(0.5, "false")))
    rows = audit(network(), (1, 4, 4))
    assert [row.module for row in rows if row.ratio > 1] == ["GELU"]


def test_images_are_where_slopes_are_searched() -> None:
    layer = nn.Sequential(nn.Hardtanh(-1, 1)).eval()
    far = torch.full((2, 3), 1e6)
    assert audit(layer, (3,), images=torch.zeros(2, 3))[0].slope == 1
    assert audit(layer, (3,), images=far)[0].slope == 0


def test_named_layers_follow_the_network() -> None:
    layers = [
        (name, type(layer).__name__, shape)
        for name, layer, shape in named_layers(network(), (1, 4, 4))
    ]
    assert layers[:2] == [("0.0", "Conv2d", (1, 4, 4)), ("0.1", "GELU", (3, 4, 4))]
    assert layers[-1] == ("2", "Linear", (6,))


def test_the_table_reads() -> None:
    table = format_table(audit(network(), (1, 4, 4))).splitlines()
    assert table[0].split() == [
        "layer",
        "module",
        "input",
        "bound",
        "slope",
        "slope/bound",
        "proved",
        "by",
    ]
    assert table[2].startswith("0.0      Conv2d")
    assert table[-1].startswith("network  Sequential  1×4×4")


@pytest.mark.parametrize("learned", [False, True])
def test_a_function_from_which_no_gradient_comes_back_has_no_slope(learned: bool) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(3), requires_grad=learned)

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), 3)

    assert attained_slope(Constant(), torch.rand(2, 4)) == 0
