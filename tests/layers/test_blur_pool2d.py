"""Blurred downsampling, against explicit matrices."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers
from lipnets.layers import BlurPool2d, frequency_gains

KINDS = list(itertools.product([1, 2, 3, 4, 5], [1, 2, 3], ["circular", "zeros"]))


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.parametrize("kernel", ["binomial", "least_squares"])
@pytest.mark.parametrize(("kernel_size", "stride", "padding_mode"), KINDS)
def test_the_constant_is_1_at_every_size(kernel_size, stride, padding_mode, kernel) -> None:
    layer = BlurPool2d(kernel_size, stride, padding_mode, kernel).eval()
    for size in [(5, 6), (7, 9), (8, 12), (5, 5)]:
        norm = torch.linalg.matrix_norm(matrix(layer, (1, *size)), ord=2).item()
        bound = lipnets.lipschitz(layer, (1, *size)).value
        assert norm * (1 - 1e-12) <= bound <= 1 + 1e-9
        assert norm == pytest.approx(1, abs=1e-9)
        assert layer(torch.zeros(1, 1, *size)).shape[2:] == tuple(-(-n // stride) for n in size)


def test_it_is_a_strided_depthwise_convolution() -> None:
    x = torch.randn(2, 3, 8, 6)
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    weight = (row[:, None] * row).expand(3, 1, 3, 3)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, stride=2, groups=3)
    torch.testing.assert_close(BlurPool2d()(x), 2 * expected)  # √2 along each axis


def test_constants_keep_their_norm_on_even_sizes() -> None:
    x = torch.ones(1, 1, 6, 8)
    torch.testing.assert_close(BlurPool2d()(x).norm(), x.norm())


def test_least_squares_is_the_projection_of_the_ideal_filter() -> None:
    """The taps are the first Fourier coefficients of the indicator of |ω| ≤ 1 / 2s."""
    taps = torch.tensor(BlurPool2d(5, 2, kernel="least_squares").taps(64))
    omega = (torch.arange(100000) + 0.5) / 100000 * 0.25
    ideal = torch.stack([2 * torch.cos(2 * math.pi * t * omega).mean() * 0.25 for t in range(3)])
    torch.testing.assert_close(taps[2:] / taps[2], ideal / ideal[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(6, 6), (12, 6)])
@pytest.mark.parametrize(
    ("kernel_size", "stride"), list(itertools.product([1, 2, 3, 5], [1, 2, 3]))
)
def test_gains_are_the_norms_of_the_images_of_waves(kernel_size, stride, size) -> None:
    layer = BlurPool2d(kernel_size, stride).eval()
    full = matrix(layer, (1, *size)).to(torch.complex128)
    waves = torch.fft.ifft2(torch.eye(math.prod(size)).reshape(-1, *size), norm="ortho").flatten(1)
    expected = torch.linalg.vector_norm(full @ waves.mT, dim=0).view(size)
    torch.testing.assert_close(frequency_gains(layer, size), expected, rtol=1e-9, atol=1e-12)


def test_what_aliases_most_is_blurred_away() -> None:
    gains = frequency_gains(BlurPool2d(3, 2).eval(), (8, 8))
    assert gains[0, 0] == pytest.approx(1)
    assert gains[4].max() < 1e-9


def test_strides_that_do_not_divide_the_size_have_no_gains() -> None:
    for layer, size in ((BlurPool2d(), (5, 6)), (BlurPool2d(padding_mode="zeros"), (6, 6))):
        with pytest.raises(NotCertifiedError, match="circular padding"):
            frequency_gains(layer.eval(), size)


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 0}, {"stride": 0}, {"padding_mode": "reflect"}, {"kernel": "box"}]
)
def test_other_arguments_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match=r"should be|takes"):
        layers.build("blur_pool2d", **arguments)


def test_images_smaller_than_the_kernel_are_refused() -> None:
    with pytest.raises(NotCertifiedError, match="at least as large"):
        lipnets.lipschitz(BlurPool2d(5).eval(), (1, 4, 8))


@pytest.mark.parametrize("padding_mode", ["circular", "zeros"])
@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
def test_antialiased_convolutions_are_1_lipschitz(size, padding_mode) -> None:
    given = {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding_mode": padding_mode}
    layer = layers.build("antialiased_conv2d", **given).eval()
    assert layer(torch.zeros(1, 2, *size)).shape == (1, 3, *(-(-n // 2) for n in size))
    norm = torch.linalg.matrix_norm(matrix(layer, (2, *size)), ord=2).item()
    assert norm * (1 - 1e-12) <= lipnets.lipschitz(layer, (2, *size)).value <= 1 + 1e-6
