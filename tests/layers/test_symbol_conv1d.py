"""Convolutions of signals constrained at each frequency, against plain ones and explicit matrices."""

import math

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import StoredConv2d, SymbolConv1d

ORTHOGONAL = ["bro_conv1d", "cayley_conv1d", "lot_conv1d", "soc_conv1d"]
NAMES = [*ORTHOGONAL, "svcm_conv1d"]


def matrix(layer: nn.Module, shape: tuple[int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.parametrize("length", [4, 5, 7])
@pytest.mark.parametrize("padding", [0, 1, (2,), "valid"])
@pytest.mark.parametrize("stride", [1, 2, (3,)])
@pytest.mark.parametrize("kernel_size", [3, (4,)])
def test_without_constraint_it_is_the_plain_convolution(
    kernel_size, stride, padding, length
) -> None:
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    layer = SymbolConv1d(2, 3, **given).eval()
    nn.init.normal_(layer.lifted.weight)
    conv = nn.Conv1d(2, 3, **given)
    with torch.no_grad():
        conv.weight.copy_(layer.lifted.weight[:, :, 0])
        conv.bias.zero_()
    x = torch.randn(2, 2, length)
    torch.testing.assert_close(layer(x), conv(x))
    torch.testing.assert_close(layer.train()(x), conv(x))
    torch.testing.assert_close(lipnets.export(layer, (2, length))(x), conv(x))


@pytest.mark.parametrize("length", [1, 3, 6, 7])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
def test_the_bound_is_the_norm_of_the_matrix(name, kernel_size, length) -> None:
    for mode in ("circular", "zeros"):
        layer = layers.build(
            name, in_channels=3, out_channels=3, kernel_size=kernel_size, padding="same",
            padding_mode=mode,
        ).eval()  # fmt: skip
        values = torch.linalg.svdvals(matrix(layer, (3, length)))
        bound = lipschitz(layer, (3, length)).value
        assert values.max() <= bound <= 1 + 1e-9
        if mode == "circular" and name in ORTHOGONAL:
            torch.testing.assert_close(values, torch.ones_like(values))


@pytest.mark.parametrize("name", ORTHOGONAL)
@pytest.mark.parametrize("channels", [(2, 4), (4, 2), (1, 5)])
def test_strided_convolutions_of_any_channels_are_orthogonal(name, channels) -> None:
    layer = layers.build(
        name, in_channels=channels[0], out_channels=channels[1], kernel_size=2, stride=2,
        padding_mode="circular",
    ).eval()  # fmt: skip
    values = torch.linalg.svdvals(matrix(layer, (channels[0], 6)))
    torch.testing.assert_close(values, torch.ones_like(values))


def test_exports_store_the_matrices_of_one_length() -> None:
    layer = layers.build("cayley_conv1d", in_channels=2, out_channels=2, kernel_size=3, padding=1)
    stored = lipnets.export(layer, (2, 5))
    assert isinstance(stored.lifted, StoredConv2d)
    with pytest.raises(ValueError, match="size"):
        stored(torch.randn(1, 2, 6))


def test_images_and_dilations_are_refused() -> None:
    layer = layers.build("soc_conv1d", in_channels=2, out_channels=2, kernel_size=3).eval()
    with pytest.raises(NotCertifiedError, match="Signals"):
        lipschitz(layer, (2, 4, 4))
    with pytest.raises(ValueError, match="dilation"):
        layers.build("soc_conv1d", in_channels=2, out_channels=2, kernel_size=3, dilation=2)
