"""Singular values set at each frequency, against explicit matrices."""

import math

import pytest
import torch

from lipnets import NotCertifiedError, lipschitz
from lipnets.layers import FourierConv2d, frequency_gains
from lipnets.layers.fourier_conv2d import radial_gains


def matrix(layer: FourierConv2d, shape: tuple[int, int, int]) -> torch.Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (5, 2)])
@pytest.mark.parametrize("channels", [(2, 2), (2, 3), (3, 2)])
def test_every_singular_value_is_the_gain_of_its_frequency(channels, size) -> None:
    layer = FourierConv2d(*channels, size, lambda radius: 1 - radius).eval()
    found = torch.linalg.svdvals(matrix(layer, (channels[0], *size)))
    axes = torch.meshgrid(*(torch.fft.fftfreq(n) for n in size), indexing="ij")
    expected = 1 - torch.hypot(*axes).flatten().repeat(min(channels))
    found = found[: len(expected)]
    torch.testing.assert_close(found, expected.sort(descending=True).values)
    gains = frequency_gains(layer, size)
    torch.testing.assert_close(gains, 1 - torch.hypot(*axes))


def test_without_a_profile_it_is_orthogonal() -> None:
    layer = FourierConv2d(2, 2, 4)
    with torch.no_grad():
        layer.weight.mul_(100)
    values = torch.linalg.svdvals(matrix(layer.eval(), (2, 4, 4)))
    torch.testing.assert_close(values, torch.ones_like(values))
    x = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(layer.train()(x), layer.eval()(x))


def test_any_frequency_may_have_any_orthogonal_matrix() -> None:
    layer = FourierConv2d(2, 2, (4, 4))
    symbols = layer.symbols((4, 4))
    distances = torch.linalg.matrix_norm(symbols[1:] - symbols[:1])
    assert distances.min() > 1e-2  # raw matrices are independent


def test_profiles_are_lines_between_gains_at_equal_distances() -> None:
    gains = radial_gains((1.0, 0.0), (2, 2))
    torch.testing.assert_close(gains, torch.tensor([1.0, 1 - 0.5**0.5, 1 - 0.5**0.5, 0.0]))
    assert radial_gains((0.5,), (3, 3)).eq(0.5).all()


@pytest.mark.parametrize("profile", [(1.0, 1.1), (-0.1,), lambda radius: math.nan])
def test_gains_above_1_are_refused(profile) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        FourierConv2d(2, 2, 4, profile)


def test_other_sizes_are_refused() -> None:
    layer = FourierConv2d(2, 2, (4, 6)).eval()
    for training in (True, False):
        with pytest.raises(ValueError, match=r"of size \(4, 6\), got \(6, 4\)"):
            layer.train(training)(torch.randn(1, 2, 6, 4))
    with pytest.raises(NotCertifiedError, match="was built for images of size"):
        lipschitz(layer, (2, 6, 4))
