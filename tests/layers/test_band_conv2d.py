"""Convolutions in a band of frequencies, against Fourier transforms and explicit matrices."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers
from lipnets.layers import BandConv2d, band_gains

BANDS = [(0.0, 0.25), (0.1, 0.4), (0.2, 1.0), (0.0, 0.8)]
SIZES = [(6, 7), (8, 8), (5, 3)]


def random(low: float, high: float, kernel_size: object = 3, channels: int = 2) -> BandConv2d:
    """The plain module, not normalized."""
    layer = BandConv2d(channels, 3, kernel_size, low, high)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer.eval()


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


def convolved(layer: BandConv2d, x: Tensor) -> Tensor:
    """The definition: a circular convolution, then a filter of its complex spectrum."""
    height, width = layer.kernel_size
    pad = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
    out = F.conv2d(F.pad(x, pad, mode="circular"), layer.weight)
    mask = torch.from_numpy(layer.mask(tuple(x.shape[2:])))
    filtered = torch.fft.ifft2(torch.fft.fft2(out) * mask)
    assert filtered.imag.abs().max() < 1e-12
    return filtered.real + layer.bias[:, None, None]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (3, 2)])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_it_filters_a_circular_convolution(low, high, kernel_size, size) -> None:
    layer, x = random(low, high, kernel_size), torch.randn(2, 2, *size)
    torch.testing.assert_close(layer(x), convolved(layer, x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_frequencies_outside_the_band_do_not_pass(low, high, size) -> None:
    layer = random(low, high)
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    for i in range(size[0]):
        for j in range(size[1]):
            frequency = (min(i, size[0] - i) / size[0], min(j, size[1] - j) / size[1])
            wave = torch.cos(2 * math.pi * (i * rows / size[0] + j * columns / size[1]))
            response = layer(wave.expand(1, 2, *size)) - layer.bias[:, None, None]
            if not low <= math.hypot(*frequency) <= max(high, low):
                assert response.abs().max() < 1e-12
            elif math.hypot(*frequency) > low + 0.05 and math.hypot(*frequency) < high - 0.05:
                assert response.abs().max() > 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_the_bound_is_the_largest_singular_value(low, high, size) -> None:
    layer = random(low, high)
    norm = torch.linalg.matrix_norm(matrix(layer, (2, *size)), ord=2).item()
    bound = lipnets.lipschitz(layer, (2, *size)).value
    assert norm * (1 - 1e-12) <= bound <= norm * (1 + 1e-9) + 1e-300


def test_the_bound_depends_on_the_size_of_images() -> None:
    layer = random(0.0, 0.25)
    bounds = [lipnets.lipschitz(layer, (2, n, n)).value for n in (3, 8, 16)]
    assert len(set(bounds)) == 3


def test_gains_are_the_norms_of_the_response_to_each_frequency() -> None:
    layer, size = random(0.1, 0.4), (5, 6)
    gains = band_gains(layer, size)
    symbols = torch.fft.fft2(matrix(layer, (2, *size)).T.reshape(2, *size, 3, *size)[:, 0, 0])
    norms = torch.linalg.svdvals(symbols.permute(2, 3, 0, 1)).amax(dim=-1)
    torch.testing.assert_close(gains, norms, rtol=1e-9, atol=1e-12)
    assert gains.max() == lipnets.lipschitz(layer, (2, *size)).value


def test_two_images_are_no_further_apart_than_the_bound_says() -> None:
    layer = random(0.0, 0.3)
    x, y = torch.randn(2, 64, 2, 6, 6)
    ratios = (layer(x) - layer(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert 0 < ratios.max() <= lipnets.lipschitz(layer, (2, 6, 6)).value


@pytest.mark.parametrize("channels", [(3, 3), (2, 4), (4, 2)])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_by_name_its_norm_is_about_1(low, high, channels) -> None:
    given = {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": 3}
    layer = layers.build("band_conv2d", **given, low=low, high=high).eval()
    for _ in range(2):
        bound = lipnets.lipschitz(layer, (channels[0], 32, 32)).value
        assert bound == pytest.approx(1, abs=1e-6)  # the size at which norms are estimated
        assert 0.8 < lipnets.lipschitz(layer, (channels[0], 28, 28)).value < 1.05
        nn.init.normal_(layer.parametrizations.weight.original)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_weights_give_finite_kernels_and_gradients(dtype, scale) -> None:
    layer = layers.build("band_conv2d", in_channels=2, out_channels=3, kernel_size=3, dtype=dtype)
    original = layer.parametrizations.weight.original
    nn.init.normal_(original, std=scale)
    layer(torch.randn(1, 2, 5, 5, dtype=dtype)).square().sum().backward()
    assert layer.weight.isfinite().all()
    assert original.grad.isfinite().all()


def test_derivatives_are_those_of_finite_differences() -> None:
    layer = layers.build("band_conv2d", in_channels=2, out_channels=2, kernel_size=2, low=0.1)
    x, original = (
        torch.randn(1, 2, 4, 5, requires_grad=True),
        layer.parametrizations.weight.original,
    )
    nn.init.normal_(original)
    raw = original.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
    assert torch.autograd.gradcheck(layer.parametrizations.weight[0], raw, fast_mode=True)


def test_copies_and_loaded_states_compute_the_same() -> None:
    given = {"in_channels": 2, "out_channels": 2, "kernel_size": 3}
    one, other = layers.build("band_conv2d", **given), layers.build("band_conv2d", **given)
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 2, 6, 6)
    assert torch.equal(one(x), other(x))
    assert torch.equal(one(x), copy.deepcopy(one)(x))
    assert torch.equal(one(x), lipnets.export(one)(x))


def test_autocast_does_not_round_the_spectrum() -> None:
    layer = layers.build("band_conv2d", in_channels=2, out_channels=2, kernel_size=3, dtype=torch.float32)  # fmt: skip
    x = torch.randn(1, 2, 6, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(x)
    assert torch.equal(inside, layer(x))
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("low", "high", "rolloff"), [(0.3, 0.2, 0.01), (-0.1, 0.2, 0.01), (0.1, 0.2, 0.06), (0, 0.2, 0)]
)
def test_empty_bands_are_refused(low, high, rolloff) -> None:
    with pytest.raises(ValueError, match="low < high"):
        BandConv2d(2, 2, 3, low, high, rolloff)


def test_images_smaller_than_the_kernel_are_refused() -> None:
    layer = random(0.0, 0.3)
    with pytest.raises(ValueError, match="at least as large"):
        layer(torch.zeros(1, 2, 2, 5))
    with pytest.raises(NotCertifiedError, match="at least as large"):
        lipnets.lipschitz(layer, (2, 2, 5))


def test_the_mask_is_even_and_between_0_and_1() -> None:
    mask = random(0.1, 0.4).mask((7, 8))
    mirrored = np.roll(mask[::-1, ::-1], (1, 1), axis=(0, 1))
    assert np.array_equal(mask, mirrored)
    assert mask.min() == 0
    assert mask.max() <= 1
