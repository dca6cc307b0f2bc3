"""Layers of the channels of pixels, against convolutions of kernel 1 × 1 and explicit products."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import Conjugate, Pointwise, PositionBias2d, Scale, SpatialShift2d


@pytest.mark.parametrize("size", [(3, 4), (5,), ()])
def test_dense_layers_act_on_pixels_as_convolutions_do(size: tuple[int, ...]) -> None:
    linear, x = nn.Linear(3, 6), torch.randn(2, 3, *size)
    images = x.reshape(2, 3, -1, 1)
    expected = F.conv2d(images, linear.weight[:, :, None, None], linear.bias)
    torch.testing.assert_close(Pointwise(linear)(x), expected.reshape(2, 6, *size))


def test_layers_of_vectors_alone_act_on_pixels_too() -> None:
    layer, x = layers.build("cpl_linear", in_features=4, out_features=4), torch.randn(2, 4, 3, 2)
    out = Pointwise(layer)(x)
    torch.testing.assert_close(out[1, :, 2, 0], layer(x[1:, :, 2, 0])[0])
    assert lipschitz(Pointwise(layer).eval(), (4, 3, 2)).value <= 1 + 1e-6


def test_conjugates_turn_act_and_turn_back() -> None:
    linear, shift, x = nn.Linear(5, 5, bias=False), SpatialShift2d(), torch.randn(2, 5, 3, 4)
    turned = torch.einsum("ij,bjhw->bihw", linear.weight, x)
    expected = torch.einsum("ji,bjhw->bihw", linear.weight, shift(turned))
    torch.testing.assert_close(Conjugate(linear, shift)(x), expected)


@pytest.mark.parametrize("name", ["manifold_linear", "cayley_linear", "bjorck_linear"])
def test_conjugates_by_orthogonal_matrices_keep_norms(name: str) -> None:
    linear = layers.build(name, in_features=6, out_features=6, bias=False)
    module, x = Conjugate(linear, SpatialShift2d()).eval(), torch.randn(3, 6, 3, 4)
    torch.testing.assert_close(module(x).norm(), x.norm())
    assert lipschitz(module, (6, 3, 4)).value <= 1 + 1e-6
    exported = lipnets.export(module)
    assert type(exported.linear) in (nn.Linear, layers.ManifoldLinear)
    torch.testing.assert_close(exported(x), module(x))


def test_bounds_of_conjugates_are_those_of_the_weights_in_use() -> None:
    module = Conjugate(nn.Linear(4, 4, bias=False), Scale(2.0)).eval()
    module.linear.weight.data = 3 * torch.eye(4)
    assert lipschitz(module, (4, 2, 2)).value == pytest.approx(18)


def test_conjugates_need_a_matrix_alone() -> None:
    for layer in (nn.Linear(3, 3), layers.build("cpl_linear", in_features=3, out_features=3)):
        with pytest.raises(ValueError, match=r"nn\.Linear without bias"):
            Conjugate(layer, nn.ReLU())


def test_inner_maps_that_change_the_number_of_channels_are_refused() -> None:
    module = Conjugate(nn.Linear(4, 4, bias=False), nn.PixelUnshuffle(2)).eval()
    with pytest.raises(NotCertifiedError, match="keep 4 channels, got 16"):
        lipschitz(module, (4, 2, 2))


def test_positions_are_told_apart_by_a_number_each() -> None:
    layer = PositionBias2d((2, 3))
    assert not layer.bias.any()
    layer.bias.data = torch.arange(6.0).view(2, 3)
    x = torch.randn(4, 5, 2, 3)
    difference: Tensor = layer(x) - x
    assert torch.allclose(difference, torch.arange(6.0).view(2, 3).expand(4, 5, 2, 3))
    for shape in [(5, 1, 3), (5, 2, 1), (5, 3, 2), (2, 3)]:
        with pytest.raises(NotCertifiedError, match="takes images of"):
            lipschitz(layer.eval(), shape)
    with pytest.raises(ValueError, match="made for images of"):
        layer(torch.zeros(1, 5, 1, 3))
