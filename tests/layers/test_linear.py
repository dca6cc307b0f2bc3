"""Constrained linear layers, against their singular values."""

import copy
import io

import pytest
import torch
from torch import nn

from lipnets import layers

SHAPES = [(5, 5), (5, 8), (8, 5), (1, 4), (4, 1), (1, 1)]
ORTHOGONAL = ["bjorck_linear", "cayley_linear", "geotorch_linear"]
CONTRACTIVE = [*ORTHOGONAL, "aol_linear", "spectral_linear"]
ALL = [*CONTRACTIVE, "unit_norm_linear"]


def built(name: str, shape: tuple[int, int] = (6, 5), **kwargs: object) -> nn.Linear:
    """A constrained layer whose raw weight is away from its start."""
    layer = layers.build(name, in_features=shape[0], out_features=shape[1], **kwargs)
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
    assert (values - 1).abs().max() < (1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_singular_value_of_spectral_layers_is_1(shape) -> None:
    assert singular_values(built("spectral_linear", shape)).max() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["aol_linear", "bjorck_linear", "spectral_linear"])
def test_orthogonal_weights_are_left_as_they_are(name) -> None:
    layer = layers.build(name, in_features=4, out_features=6)
    torch.testing.assert_close(layer.weight, raw(layer), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_layers_start_with_orthonormal_rows_or_columns_and_no_bias(name) -> None:
    layer = layers.build(name, in_features=8, out_features=5)
    gram = layer.weight @ layer.weight.mT
    if name == "aol_linear":  # rescales rows' matrices even where their columns are not orthonormal
        assert torch.linalg.matrix_rank(gram) == 5
    else:
        torch.testing.assert_close(gram, torch.eye(5), rtol=0, atol=1e-10)
    assert not layer.bias.any()


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_those_of_torch(name) -> None:
    layer = layers.build(name, in_features=3, out_features=4, bias=False, dtype=torch.float32)
    assert isinstance(layer, nn.Linear)
    assert layer.bias is None
    assert layer.weight.shape == (4, 3)
    assert layer.weight.dtype == torch.float32
    assert getattr(layers, name)(3, 4)(torch.ones(2, 3)).shape == (2, 4)


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
    layer = layers.build(name, in_features=6, out_features=5, dtype=dtype)
    with torch.no_grad():
        raw(layer).copy_(weight)
    layer.weight.square().sum().backward()
    assert layer.weight.isfinite().all()
    assert raw(layer).grad.isfinite().all()
    if name != "unit_norm_linear":
        assert singular_values(layer).max() <= 1 + (3e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("scale", [100, 1e-6])
@pytest.mark.parametrize("name", ["bjorck_linear", "cayley_linear"])
def test_scaled_weights_stay_orthogonal_in_float32(name, scale) -> None:
    layer = built(name, dtype=torch.float32)
    with torch.no_grad():
        raw(layer).mul_(scale)
    assert (singular_values(layer) - 1).abs().max() < 1e-6


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


@pytest.mark.parametrize("name", set(ALL) - {"geotorch_linear"})
def test_layers_are_built_on_the_meta_device(name) -> None:
    layer = layers.build(name, in_features=3, out_features=4, device="meta")
    assert layer.weight.is_meta


def test_geotorch_says_that_it_needs_a_device() -> None:
    with pytest.raises(ValueError, match="meta device"):
        layers.build("geotorch_linear", in_features=3, out_features=4, device="meta")


def test_rows_of_unit_norm_layers_have_norm_1() -> None:
    norms = built("unit_norm_linear", (4, 7)).weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(7))


def test_rows_of_zeros_stay_zeros() -> None:
    layer = layers.build("unit_norm_linear", in_features=3, out_features=2)
    with torch.no_grad():
        raw(layer)[0] = 0
    assert not layer.weight[0].any()
    assert layer.weight[1].norm().item() == pytest.approx(1)
