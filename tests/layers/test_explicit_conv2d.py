"""ECO, against explicit matrices, and what is wrong with it at other sizes."""

import math

import pytest
import torch
from torch import nn

import lipnets
from lipnets import NotCertifiedError, lipschitz
from lipnets.layers import ExplicitConv2d, frequency_gains


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> torch.Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


def random(ins: int, outs: int, kernel_size: int | tuple[int, int]) -> ExplicitConv2d:
    layer = ExplicitConv2d(ins, outs, kernel_size)
    nn.init.normal_(layer.weight)
    return layer.eval()


@pytest.mark.parametrize("size", [(3, 3), (3, 6), (9, 6)])
@pytest.mark.parametrize("channels", [(2, 2), (1, 3), (3, 1)])
def test_it_is_an_orthogonal_dilated_convolution(channels, size) -> None:
    layer, x = random(*channels, 3), torch.randn(2, channels[0], *size)
    values = torch.linalg.svdvals(matrix(layer, (channels[0], *size)))
    torch.testing.assert_close(values, torch.ones_like(values))
    conv = lipnets.export(layer, (channels[0], *size))
    assert type(conv) is nn.Conv2d
    torch.testing.assert_close(conv(x), layer(x))


def test_gains_are_1_at_every_frequency() -> None:
    gains = frequency_gains(random(2, 2, (3, 1)), (6, 4))
    torch.testing.assert_close(gains, torch.ones(6, 4))


@pytest.mark.parametrize("size", [6, 8, 16])
def test_a_kernel_orthogonal_at_multiples_has_norm_five_thirds_elsewhere(size) -> None:
    conv = nn.Conv2d(
        1, 1, (3, 1), padding="same", dilation=(size // 3, 1), padding_mode="circular", bias=False
    )
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([-2.0, 1.0, -2.0]).view(1, 1, 3, 1) / 3)
    values = torch.linalg.svdvals(matrix(conv, (1, size, 1)))
    assert values.max().item() == pytest.approx(1 if size % 3 == 0 else 5 / 3)


def test_sizes_that_are_no_multiples_are_refused() -> None:
    layer = random(2, 2, 3)
    with pytest.raises(ValueError, match="multiples of the kernel"):
        layer(torch.randn(1, 2, 6, 8))
    with pytest.raises(NotCertifiedError, match="multiples of the kernel"):
        lipschitz(layer, (2, 6, 8))
    with pytest.raises(ValueError, match="should be odd"):
        ExplicitConv2d(2, 2, 2)


def test_a_bias_that_would_repeat_rows_is_refused() -> None:
    module = random(3, 3, 3)
    module.constraint.rows = 1
    with pytest.raises(NotCertifiedError, match="repeat"):
        lipschitz(module, (3, 6, 6))
