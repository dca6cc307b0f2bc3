"""Normalizations, against statistics of the batches they have seen."""

import copy
import math

import pytest
import torch
from torch import nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import BatchCentering, BatchLipNorm, LayerCentering

SHAPES = [(3,), (3, 4), (3, 4, 5), (3, 2, 2, 2)]


def batch(*shape: int) -> torch.Tensor:
    """Images whose channels have means and deviations of their own."""
    scales = torch.tensor([0.1, 1.0, 5.0]).view(-1, *[1] * (len(shape) - 1))
    return scales * torch.randn(6, *shape) + 3 * scales


@pytest.mark.parametrize("shape", SHAPES)
def test_in_training_channels_are_centered_in_the_batch(shape) -> None:
    axes = (0, *range(2, len(shape) + 1))
    for module in (BatchCentering(3), BatchLipNorm(3)):
        torch.testing.assert_close(module(batch(*shape)).mean(dim=axes), torch.zeros(3))


@pytest.mark.parametrize("shape", SHAPES)
def test_in_evaluation_running_means_are_subtracted(shape) -> None:
    module, expected = BatchCentering(3, momentum=0.3), torch.zeros(3)
    nn.init.normal_(module.bias)
    axes = (0, *range(2, len(shape) + 1))
    for _ in range(4):
        x = batch(*shape)
        module(x)
        expected = 0.7 * expected + 0.3 * x.mean(dim=axes)
    x = batch(*shape)
    shift = (module.bias - expected).view(-1, *[1] * (len(shape) - 1))
    torch.testing.assert_close(module.eval()(x), x + shift)


@pytest.mark.parametrize("lipschitz", [0.1, 1.0, 20.0])
def test_one_scale_serves_all_channels(lipschitz) -> None:
    module, x = BatchLipNorm(3, lipschitz, eps=0.0), batch(3, 4, 5)
    deviation = x.var(dim=(0, 2, 3), correction=0).mean().sqrt().item()
    centered = x - x.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(module(x), centered * min(lipschitz, 1 / deviation))


@pytest.mark.parametrize("constant", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 100.0])
def test_the_bound_is_the_scale_and_never_above_the_constant(constant, scale) -> None:
    module = BatchLipNorm(3, constant)
    for _ in range(50):
        module(scale * batch(3, 4))
    x = torch.eye(12).reshape(12, 3, 4)
    shift = module.eval()(torch.zeros(1, 3, 4))
    norm = torch.linalg.matrix_norm((module(x) - shift).flatten(1), ord=2).item()
    bound = lipschitz(module, (3, 4)).value
    assert norm * (1 - 1e-9) <= bound <= norm * (1 + 1e-9)
    assert bound <= constant * (1 + 1e-15)


def test_layer_centering_is_the_projection_along_constants() -> None:
    module, x = LayerCentering((3, 4)), torch.randn(2, 5, 3, 4)
    nn.init.normal_(module.bias)
    torch.testing.assert_close(module(x) - module.bias, x - x.mean(dim=(2, 3), keepdim=True))
    matrix = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x[0, 0])
    values = torch.linalg.svdvals(matrix.reshape(12, 12))
    torch.testing.assert_close(values, torch.cat([torch.ones(11), torch.zeros(1)]))
    assert lipschitz(module.eval(), (5, 3, 4)).value == 1
    assert lipschitz(LayerCentering((1, 1)).eval(), (5, 1, 1)).value == 0


def test_statistics_survive_copies_states_and_exports() -> None:
    for module in (BatchCentering(3), BatchLipNorm(3)):
        module(batch(3, 4))
        again = type(module)(3)
        again.load_state_dict(module.state_dict())
        x = batch(3, 4)
        for other in (again.eval(), copy.deepcopy(module).eval(), lipnets.export(module)):
            assert torch.equal(other(x), module.eval()(x))
        module.train()


def test_gradients_pass_through_the_statistics_of_the_batch() -> None:
    x = batch(3, 4).requires_grad_()
    for module in (BatchCentering(3), BatchLipNorm(3)):
        assert torch.autograd.gradcheck(lambda x, m=module: copy.deepcopy(m)(x), x)


@pytest.mark.parametrize("module", [BatchCentering(3), BatchLipNorm(3)])
def test_other_numbers_of_channels_are_refused(module) -> None:
    with pytest.raises(ValueError, match="3 channels"):
        module(torch.zeros(2, 4, 5))
    with pytest.raises(NotCertifiedError, match="3 channels"):
        lipschitz(module.eval(), (1, 5))


def test_other_sizes_are_refused() -> None:
    module = LayerCentering(4).eval()
    for shape in [(2, 3), (4,)]:
        with pytest.raises(ValueError, match="last axes"):
            module(torch.zeros(shape))
    with pytest.raises(NotCertifiedError, match="does not take"):
        lipschitz(module, (3,))


@pytest.mark.parametrize("given", [{"lipschitz": 0.0}, {"lipschitz": math.nan}, {"eps": -1.0}])
def test_impossible_constants_are_refused(given) -> None:
    with pytest.raises(ValueError, match="should be positive"):
        layers.build("batch_lip_norm", num_features=3, **given)


def test_negative_variances_are_refused() -> None:
    module = BatchLipNorm(3).eval()
    module.running_var[1] = -1.0
    with pytest.raises(NotCertifiedError, match="negative"):
        lipschitz(module, (3, 4))
