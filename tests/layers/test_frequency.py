"""Gains per frequency, against the explicit matrix of the layer in the Fourier basis."""

import math

import pytest
import torch
from torch import Tensor, nn

from lipnets import NotCertifiedError
from lipnets.layers import Scale, frequency, frequency_gains

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
        (nn.Conv2d(2, 2, 1, stride=2), "keeps frequencies apart"),
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
