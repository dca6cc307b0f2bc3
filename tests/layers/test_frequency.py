"""Gains per frequency, against the explicit matrix of the layer in the Fourier basis."""

import math

import pytest
import torch
from torch import Tensor, nn

from lipnets import NotCertifiedError, lipschitz
from lipnets.layers import (
    Concat,
    MaxMin,
    Residual,
    Scale,
    Standardize,
    band_gains,
    frequency,
    frequency_gains,
)

SIZES = [(4, 4), (5, 6), (3, 7), (1, 4)]


def true_gains(layer: nn.Module, channels: int, size: tuple[int, int]) -> Tensor:
    """Norms of the restrictions of a layer to images of one frequency, complex amplitudes."""
    rows = torch.arange(size[0])[:, None] * torch.ones(size)
    columns = torch.arange(size[1]) * torch.ones(size)
    gains = torch.zeros(size)
    offset = layer(torch.zeros(1, channels, *size))
    for k in range(size[0]):
        for j in range(size[1]):
            phase = 2 * math.pi * (k * rows / size[0] + j * columns / size[1])
            images = []
            for wave in (phase.cos(), phase.sin()):
                images.append(torch.eye(channels)[:, :, None, None] * wave)
            real, imaginary = (layer(image) - offset for image in images)
            out = torch.complex(real, imaginary).flatten(1).mT  # (O H W, I)
            gains[k, j] = torch.linalg.matrix_norm(out, ord=2) / math.sqrt(math.prod(size))
    return gains


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (1, 5), (3, 1)])
def test_gains_of_a_convolution_are_those_of_its_symbol(kernel_size, groups, size) -> None:
    padding = tuple((k - 1) // 2 for k in kernel_size)
    if any(p > n for p, n in zip(padding, size, strict=True)):
        pytest.skip("torch refuses to pad more than the size")
    layer = nn.Conv2d(4, 2, kernel_size, groups=groups, padding=padding, padding_mode="circular")
    found = frequency_gains(layer.eval(), size)
    torch.testing.assert_close(found, true_gains(layer, 4, size), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(2, 2, 3, padding=1), "keeps frequencies apart"),
        (nn.Conv2d(2, 2, 3), "keeps frequencies apart"),
        (nn.Conv2d(2, 2, 1, stride=4), "divide the size"),
        (nn.AvgPool2d(3, 1), "side by side"),
        (nn.AvgPool2d(4), "side by side"),
        (nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"), "keeps frequencies apart"),
        (nn.ReLU(), "no proved gain"),
    ],
)
def test_layers_that_mix_frequencies_have_no_gains(layer, why) -> None:
    with pytest.raises(NotCertifiedError, match=why):
        frequency_gains(layer.eval(), (6, 6))


def test_gains_are_refused_in_training_mode() -> None:
    with pytest.raises(NotCertifiedError, match="training mode"):
        frequency_gains(nn.Conv2d(1, 1, 1).train(), (3, 3))


def test_a_class_has_one_rule_of_gains() -> None:
    with pytest.raises(ValueError, match="already has gains"):
        frequency.gain_rule(nn.Conv2d)(lambda module, size: torch.ones(size))


def circular(channels: tuple[int, int], kernel_size: int = 3, **given: object) -> nn.Conv2d:
    padding = kernel_size // 2
    return nn.Conv2d(*channels, kernel_size, padding=padding, padding_mode="circular", **given)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(channels)
    module.running_var.uniform_(0.5, 2)
    return module


# name: (layer, channels, whether the bound is exact)
KEEPING = {
    "Identity": (nn.Identity(), 2, True),
    "Scale": (Scale(-3), 2, True),
    "ChannelShuffle": (nn.ChannelShuffle(2), 4, True),
    "BatchNorm2d": (batch_norm(3), 3, True),
    "Conv2d, dilated": (circular((2, 3), 1, dilation=2), 2, True),
    "Conv2d, 1 × 1 and strided": (nn.Conv2d(2, 3, 1, stride=2), 2, True),
    "Conv2d, strided": (circular((2, 3), 3, stride=2), 2, True),
    "Conv2d, strides of two axes": (circular((2, 3), 5, stride=(1, 3)), 2, True),
    "Conv2d, tiles": (nn.Conv2d(2, 5, (2, 1), stride=(2, 3), padding_mode="reflect"), 2, True),
    "AvgPool2d": (nn.AvgPool2d(2), 2, True),
    "AvgPool2d, two axes": (nn.AvgPool2d((2, 3), divisor_override=5), 1, True),
    "Standardize": (Standardize((0.4, 0.5), (0.25, 0.25)), 2, True),
    "PixelUnshuffle": (nn.PixelUnshuffle(2), 2, True),
    "Residual": (Residual(circular((2, 2))), 2, False),
    "Residual, shortcut": (
        Residual(circular((2, 3), stride=2), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 3, 1))),
        2,
        False,
    ),
    "Concat": (Concat(circular((2, 2)), Scale(2.0), nn.Conv2d(2, 4, 1)), 2, False),
    "Sequential": (
        nn.Sequential(circular((2, 3)), nn.AvgPool2d(2), circular((3, 4), stride=3), Scale(2)),
        2,
        False,
    ),
    "Sequential, one channel": (
        nn.Sequential(circular((1, 1)), nn.PixelUnshuffle(2), Scale(3.0)),
        1,
        True,
    ),
}


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
    return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.parametrize("name", KEEPING)
def test_gains_are_those_of_images_of_one_frequency(name) -> None:
    layer, channels, exact = KEEPING[name]
    layer.double().eval()
    found, expected = frequency_gains(layer, (6, 6)), true_gains(layer, channels, (6, 6))
    assert (found >= expected * (1 - 1e-12)).all()
    if exact:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("edges", [(), (0.2,), (0.1, 0.3, 0.6)])
def test_gains_of_bands_bound_the_restriction_to_a_band(name, edges) -> None:
    layer, channels, _ = KEEPING[name]
    full = matrix(layer.double().eval(), (channels, 6, 6))
    radius = torch.hypot(torch.fft.fftfreq(6)[:, None], torch.fft.fftfreq(6))
    found = band_gains(layer, (channels, 6, 6), edges)
    assert len(found) == len(edges) + 1
    for gain, low, high in zip(found, (0, *edges), (*edges, 1), strict=True):
        inside = (radius >= low) & (radius < high)
        pixels = torch.eye(36).reshape(-1, 6, 6)
        projected = torch.fft.ifft2(torch.fft.fft2(pixels) * inside).real.flatten(1)
        project = torch.kron(torch.eye(channels), projected.mT.contiguous())
        norm = torch.linalg.matrix_norm(full @ project, ord=2)
        assert gain >= norm * (1 - 1e-12)
        if name in ("PixelUnshuffle", "Scale", "Identity"):
            assert gain <= 2 * norm + 1e-12


def test_folded_frequencies_add_up() -> None:
    layer = nn.Conv2d(1, 1, 1, stride=2, bias=False).eval()
    nn.init.ones_(layer.weight)
    torch.testing.assert_close(frequency_gains(layer, (4, 4)), torch.full((4, 4), 0.5))
    assert band_gains(layer, (1, 4, 4), ()).item() == pytest.approx(1)  # a pixel alone is kept


def test_layers_behind_those_with_gains_count_with_their_constant() -> None:
    first, second = circular((1, 2)), nn.Conv2d(2, 2, 3)
    network = nn.Sequential(nn.Sequential(first, Scale(0.5)), MaxMin(), second, nn.Flatten())
    alone = band_gains(nn.Sequential(first, Scale(0.5)).eval(), (1, 6, 6), (0.2,))
    bound = lipschitz(second.eval(), (2, 6, 6)).value
    found = band_gains(network.eval(), (1, 6, 6), (0.2,))
    torch.testing.assert_close(found, alone * bound)
    x, wave = torch.randn(1, 1, 6, 6), torch.cos(torch.arange(6) * math.pi / 3).expand(1, 1, 6, 6)
    slope = (network(x + wave) - network(x)).norm() / wave.norm()
    assert slope <= found[0]


def test_networks_that_mix_frequencies_at_once_have_no_gains_of_bands() -> None:
    with pytest.raises(NotCertifiedError, match="MaxMin has no proved gain"):
        band_gains(nn.Sequential(MaxMin(), circular((2, 2))).eval(), (2, 6, 6), (0.2,))
    with pytest.raises(ValueError, match="increase"):
        band_gains(circular((2, 2)).eval(), (2, 6, 6), (0.2, 0.1))
    with pytest.raises(NotCertifiedError, match="one stride"):
        frequency_gains(Concat(nn.Identity(), nn.AvgPool2d(2)).eval(), (6, 6))
    with pytest.raises(NotCertifiedError, match="keep the size"):
        frequency_gains(Residual(nn.AvgPool2d(2)).eval(), (6, 6))
    with pytest.raises(NotCertifiedError, match="stride of its shortcut"):
        frequency_gains(Residual(nn.AvgPool2d(2), nn.AvgPool2d(3)).eval(), (6, 6))


def test_statistics_of_more_channels_than_an_image_has_do_not_repeat_it() -> None:
    layer = Standardize((0.4, 0.5), (0.25, 0.25)).eval()
    with pytest.raises(ValueError, match="2 channels"):
        layer(torch.rand(1, 1, 6, 6))
    with pytest.raises(ValueError, match="2 channels"):
        band_gains(layer, (1, 6, 6), (0.2,))
