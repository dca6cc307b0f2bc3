"""Layers whose weights an optimizer keeps orthonormal."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lipnets import lipschitz
from lipnets.layers import ManifoldConv2d, ManifoldLinear, manifold_weights


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 4)])
def test_weights_start_orthonormal(shape: tuple[int, int]) -> None:
    out, inputs = shape
    for layer in (ManifoldLinear(inputs, out), ManifoldConv2d(inputs, out, 1)):
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        torch.testing.assert_close(values, torch.ones(min(shape)))
        assert not layer.bias.any()
    assert lipschitz(layer.eval(), (inputs, 2, 2)).value <= 1 + 1e-11


def test_certificates_are_those_of_the_weights_in_use() -> None:
    layer = ManifoldLinear(4, 4).eval()
    layer.weight.data *= 3
    assert lipschitz(layer, (4,)).value == pytest.approx(3)


@pytest.mark.parametrize("arguments", [{"kernel_size": 3}, {"kernel_size": 1, "groups": 2}])
def test_kernels_that_are_no_matrices_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"kernel of 1 × 1 and one group.*bcop_conv2d"):
        ManifoldConv2d(4, 4, **arguments)


def test_weights_on_manifolds_are_found_by_name() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), ManifoldLinear(4, 4), nn.Sequential(ManifoldConv2d(4, 4, 1))
    )
    found = manifold_weights(model)
    assert list(found) == ["1.weight", "2.0.weight"]
    assert found["1.weight"] is model[1].weight
    assert manifold_weights(orthogonal(ManifoldLinear(4, 4))) == {}  # parametrized: free
    assert list(manifold_weights(ManifoldLinear(4, 4))) == ["weight"]
