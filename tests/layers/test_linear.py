"""Constrained linear layers, against their singular values."""

import copy
import io

import pytest
import torch
from torch import nn

from lipnets import layers

SHAPES = [(5, 5), (5, 8), (8, 5), (1, 4), (4, 1), (1, 1)]
POLAR = ["bjorck_linear", "newton_schulz_linear"]
TRIANGULAR = ["cholesky_linear", "qr_linear"]
SMOOTH = ["cayley_linear", "exp_linear", "geotorch_linear", "householder_linear"]
ORTHOGONAL = [*POLAR, *TRIANGULAR, *SMOOTH]
RANKS = ["fixed_rank_linear", "low_rank_linear"]
CONTRACTIVE = [*ORTHOGONAL, *RANKS, "aol_linear", "frobenius_linear", "spectral_linear"]
ALL = [*CONTRACTIVE, "unit_norm_linear"]


def make(name: str, in_features: int, out_features: int, **kwargs: object) -> nn.Linear:
    if name in RANKS:
        kwargs = {"rank": (min(in_features, out_features) + 1) // 2, **kwargs}
    return layers.build(name, in_features=in_features, out_features=out_features, **kwargs)


def built(name: str, shape: tuple[int, int] = (6, 5), **kwargs: object) -> nn.Linear:
    """A constrained layer whose raw weight is away from its start."""
    layer = make(name, *shape, **kwargs)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(torch.randn_like(weight))
    return layer


def raw(layer: nn.Linear) -> nn.Parameter:
    return layer.parametrizations.weight.original


def singular_values(layer: nn.Linear) -> torch.Tensor:
    return torch.linalg.svdvals(layer.weight.detach().double())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CONTRACTIVE)
def test_no_singular_value_exceeds_1(name, shape) -> None:
    assert singular_values(built(name, shape)).max() <= 1 + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ORTHOGONAL)
def test_all_singular_values_of_orthogonal_layers_are_1(name, shape, dtype) -> None:
    values = singular_values(built(name, shape, dtype=dtype))
    assert (values - 1).abs().max() < (5e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_singular_value_of_spectral_layers_is_1(shape) -> None:
    assert singular_values(built("spectral_linear", shape)).max() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(150, 90), (90, 150), (120, 120)])
def test_large_spectral_layers_are_a_thousandth_below_1_at_the_most(shape, dtype) -> None:
    assert (
        1 - 1e-3 < singular_values(built("spectral_linear", shape, dtype=dtype)).max() <= 1 + 3e-7
    )


@pytest.mark.parametrize("name", [*POLAR, "aol_linear", "spectral_linear"])
def test_orthogonal_weights_are_left_as_they_are(name) -> None:
    layer = make(name, 4, 6)
    torch.testing.assert_close(layer.weight, raw(layer), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*ORTHOGONAL, "aol_linear", "spectral_linear", "unit_norm_linear"])
def test_layers_start_with_orthonormal_rows_or_columns_and_no_bias(name) -> None:
    layer = make(name, 8, 5)
    gram = layer.weight @ layer.weight.mT
    if name == "aol_linear":  # rescales rows' matrices even where their columns are not orthonormal
        assert torch.linalg.matrix_rank(gram) == 5
    else:
        torch.testing.assert_close(gram, torch.eye(5), rtol=0, atol=1e-10)
    assert not layer.bias.any()


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_those_of_torch(name) -> None:
    layer = make(name, 3, 4, bias=False, dtype=torch.float32)
    assert isinstance(layer, nn.Linear)
    assert layer.bias is None
    assert layer.weight.shape == (4, 3)
    assert layer.weight.dtype == torch.float32
    rank = [1] if name in RANKS else []
    assert getattr(layers, name)(3, 4, *rank)(torch.ones(2, 3)).shape == (2, 4)


EXTREME = {
    "zeros": torch.zeros(5, 6),
    "rank one": torch.ones(5, 6),
    "one entry": torch.nn.functional.pad(torch.ones(1, 1), (0, 5, 0, 4)),
    "huge": 100 * torch.randn(5, 6, generator=torch.Generator().manual_seed(0)),
    "tiny": 1e-6 * torch.randn(5, 6, generator=torch.Generator().manual_seed(1)),
    "vanishing": torch.full((5, 6), 1e-38),
}


@pytest.mark.parametrize("weight", EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_extreme_weights_give_finite_weights_and_gradients(name, dtype, weight) -> None:
    layer = make(name, 6, 5, dtype=dtype)
    with torch.no_grad():
        raw(layer).copy_(weight)
    layer.weight.square().sum().backward()
    assert layer.weight.isfinite().all()
    assert raw(layer).grad.isfinite().all()
    if name != "unit_norm_linear":
        assert singular_values(layer).max() <= 1 + (3e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("scale", [100, 1e-6])
@pytest.mark.parametrize("name", sorted(set(ORTHOGONAL) - {"geotorch_linear"}))
def test_scaled_weights_stay_orthogonal_in_float32(name, scale) -> None:
    layer = built(name, dtype=torch.float32)
    with torch.no_grad():
        raw(layer).mul_(scale)
    assert (singular_values(layer) - 1).abs().max() < 5e-6


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name) -> None:
    for shape in [(3, 3), (4, 2), (2, 4)]:
        layer = built(name, shape)
        original = raw(layer).detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(layer.parametrizations.weight[0], original, fast_mode=True)


@pytest.mark.parametrize("name", ALL)
def test_evaluation_uses_the_function_of_training(name) -> None:
    layer = built(name)
    assert torch.equal(layer.train().weight, layer.eval().weight)


@pytest.mark.parametrize("name", ALL)
def test_copies_and_loaded_states_have_the_same_weight(name) -> None:
    layer, other = built(name), built(name)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.weight, layer.weight)
    layer.weight.sum().backward()
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)


@pytest.mark.parametrize("name", ALL)
def test_raw_weights_are_stored_contiguously(name) -> None:
    for tensor in built(name, (8, 3)).state_dict().values():
        assert tensor.is_contiguous()


@pytest.mark.parametrize("name", ALL)
def test_autocast_does_not_reach_into_the_constraint(name) -> None:
    layer = built(name, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.weight
    assert torch.equal(inside, layer.weight)


@pytest.mark.parametrize("name", ALL)
def test_layers_are_built_on_the_meta_device(name) -> None:
    layer = make(name, 3, 4, device="meta")
    assert layer.weight.is_meta
    assert all(tensor.is_meta for tensor in layer.state_dict().values())


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("shape", [(5, 5), (5, 8), (8, 5)])
def test_layers_of_a_rank_have_that_rank(name, shape) -> None:
    values = singular_values(built(name, shape, rank=2))
    assert (values[2:] < 1e-12).all()
    assert values[1] > 0
    start = singular_values(make(name, *shape, rank=2))
    torch.testing.assert_close(start[:2], torch.ones(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("rank", [0, 5])
def test_ranks_that_no_matrix_has_are_refused(name, rank) -> None:
    with pytest.raises(ValueError, match="'rank' should be between 1 and 4"):
        make(name, 6, 4, rank=rank)


@pytest.mark.parametrize("name", ["householder_linear", "qr_linear", "cayley_linear", "exp_linear"])
def test_weight_decay_collapses_nothing(name) -> None:
    layer = built(name)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=9.0)
    for _ in range(30):
        optimizer.zero_grad()
        layer(torch.randn(4, 6)).sum().backward()
        optimizer.step()
    values = singular_values(layer)
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["householder_linear", "qr_linear"])
def test_zeros_give_orthonormal_rows_or_columns(name) -> None:
    layer = make(name, 4, 6)
    with torch.no_grad():
        raw(layer).zero_()
    torch.testing.assert_close(singular_values(layer), torch.ones(4))


@pytest.mark.parametrize("name", sorted(set(ALL) - {"geotorch_linear", "unit_norm_linear", *RANKS}))
def test_weights_that_are_not_finite_are_not_hidden(name) -> None:
    layer = make(name, 4, 4)
    with torch.no_grad():
        raw(layer)[0, 0] = torch.nan
    assert layer.weight.isnan().any()


def test_rows_of_unit_norm_layers_have_norm_1() -> None:
    norms = built("unit_norm_linear", (4, 7)).weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(7))


def test_rows_of_zeros_stay_zeros() -> None:
    layer = layers.build("unit_norm_linear", in_features=3, out_features=2)
    with torch.no_grad():
        raw(layer)[0] = 0
    assert not layer.weight[0].any()
    assert layer.weight[1].norm().item() == pytest.approx(1)
