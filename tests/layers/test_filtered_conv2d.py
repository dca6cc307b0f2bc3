"""Sums of filtered convolutions, against Fourier transforms and explicit matrices."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError
from lipnets.layers import FilteredConv2d, RadialBand, RadialCurve, frequency_gains

BANDS = [(0.0, 0.25), (0.1, 0.4), (0.2, 1.0), (0.0, 0.8)]
SIZES = [(6, 7), (8, 8), (5, 3), (24, 20)]
Responses = list[RadialBand | RadialCurve]


def random(responses: Responses, kernel_size: object = 3, **given: object) -> FilteredConv2d:
    """The module with random kernels, not normalized."""
    given = {"padding": "same", "padding_mode": "circular", **given}
    layer = FilteredConv2d([nn.Conv2d(2, 4, kernel_size, **given) for _ in responses], responses)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.eval()


def band(low: float, high: float) -> RadialBand:
    return RadialBand(low, high, 0.05)


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


def convolved(layer: FilteredConv2d, x: Tensor) -> Tensor:
    """The definition: circular convolutions, then filters of their complex spectra."""
    rows, columns = (torch.fft.fftfreq(n) for n in x.shape[2:])
    radius = torch.hypot(rows[:, None], columns)
    total = torch.zeros(())
    for conv, response in zip(layer.convs, layer.responses, strict=True):
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        pad = (reach[1] // 2, -(-reach[1] // 2), reach[0] // 2, -(-reach[0] // 2))
        padded = F.pad(x, pad, mode="circular")
        out = F.conv2d(padded, conv.weight, groups=conv.groups, dilation=conv.dilation)
        filtered = torch.fft.ifft2(torch.fft.fft2(out) * response(radius))
        assert filtered.imag.abs().max() < 1e-12
        total = total + filtered.real + conv.bias[:, None, None]
    return total


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (3, 2)])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_it_filters_a_circular_convolution(low, high, kernel_size, size) -> None:
    layer, x = random([band(low, high)], kernel_size), torch.randn(2, 2, *size)
    torch.testing.assert_close(layer(x), convolved(layer, x))
    torch.testing.assert_close(layer.materialize((2, *size))(x), layer(x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("groups", "dilation"), [(2, 1), (1, (1, 2)), (2, 2)])
def test_it_sums_filtered_convolutions(groups, dilation, size) -> None:
    if size == (5, 3) and dilation != 1:
        return  # smaller than the kernel
    responses = [band(0.0, 0.3), band(0.2, 0.5), RadialCurve((0.2,), (1.0, 3.0))]
    layer = random(responses, 3, groups=groups, dilation=dilation)
    x = torch.randn(2, 2, *size)
    torch.testing.assert_close(layer(x), convolved(layer, x))
    torch.testing.assert_close(layer.materialize((2, *size))(x), layer(x))


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_the_bound_of_a_band_is_the_largest_singular_value(low, high, size) -> None:
    layer = random([band(low, high)])
    norm = torch.linalg.matrix_norm(matrix(layer, (2, *size)), ord=2).item()
    for certified in (layer, layer.materialize((2, *size))):
        bound = lipnets.lipschitz(certified.eval(), (2, *size)).value
        assert norm * (1 - 1e-12) <= bound <= norm * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_bound_of_a_sum_is_above_the_largest_singular_value(size) -> None:
    layer = random([band(0.0, 0.3), band(0.2, 0.5), RadialCurve((0.2,), (1.0, 3.0))])
    norm = torch.linalg.matrix_norm(matrix(layer, (2, *size)), ord=2).item()
    stored = lipnets.lipschitz(layer.materialize((2, *size)).eval(), (2, *size)).value
    assert norm * (1 - 1e-12) <= stored <= norm * (1 + 1e-9)
    assert stored * (1 - 1e-12) <= lipnets.lipschitz(layer, (2, *size)).value <= 3 * norm


def test_the_bound_depends_on_the_size_of_images() -> None:
    layer = random([band(0.1, 0.4)])
    bounds = [lipnets.lipschitz(layer, (2, n, n)).value for n in (3, 8, 16)]
    assert len(set(bounds)) == 3


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", SIZES[:3])
def test_gains_are_the_norms_of_the_response_to_each_frequency(size, groups) -> None:
    layer = random([band(0.1, 0.4)], groups=groups)
    symbols = torch.fft.fft2(matrix(layer, (2, *size)).T.reshape(2, *size, 4, *size)[:, 0, 0])
    norms = torch.linalg.svdvals(symbols.permute(2, 3, 0, 1)).amax(dim=-1)
    for module in (layer, layer.materialize((2, *size)).eval()):
        gains = frequency_gains(module, size)
        torch.testing.assert_close(gains, norms, rtol=1e-9, atol=1e-12)
        assert gains.max() == lipnets.lipschitz(module, (2, *size)).value


def test_a_band_between_the_frequencies_passes_nothing() -> None:
    layer = random([RadialBand(0.05, 0.15, 0.01)])
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    out = layer(x)
    torch.testing.assert_close(out, layer.convs[0].bias[:, None, None].expand_as(out))
    out.sum().backward()
    assert lipnets.lipschitz(layer, (2, 4, 4)).value == 0
    assert lipnets.lipschitz(layer.materialize((2, 4, 4)).eval(), (2, 4, 4)).value == 0


def test_derivatives_are_those_of_finite_differences() -> None:
    layer = random([band(0.0, 0.3), RadialCurve((0.2,), (1.0, 3.0))])
    names = [name for name, _ in layer.named_parameters()]
    for size in ((4, 5), (30, 31)):  # a product with waves, and a fast transform

        def function(x: Tensor, *weights: Tensor) -> Tensor:
            values = dict(zip(names, weights, strict=True))
            return torch.func.functional_call(layer, values, x)

        x = torch.randn(1, 2, *size, requires_grad=True)
        assert torch.autograd.gradcheck(function, (x, *layer.parameters()), fast_mode=True)


def test_reduced_precision_is_computed_in_float32() -> None:
    layer = random([band(0.0, 0.3)]).float()
    x = torch.randn(1, 2, 6, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(x)
    assert torch.equal(inside, layer(x))
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_images_of_other_sizes_are_refused() -> None:
    layer = random([band(0.0, 0.3)])
    with pytest.raises(ValueError, match="at least as large"):
        layer(torch.zeros(1, 2, 2, 5))
    with pytest.raises(NotCertifiedError, match="at least as large"):
        lipnets.lipschitz(layer, (2, 2, 5))
    stored = layer.materialize((2, 6, 6)).eval()
    with pytest.raises(ValueError, match="export"):
        stored(torch.zeros(1, 2, 6, 5))
    with pytest.raises(NotCertifiedError, match="size"):
        lipnets.lipschitz(stored, (2, 6, 5))


def test_convolutions_of_several_kinds_are_refused() -> None:
    given = {"padding": 1, "padding_mode": "circular"}
    with pytest.raises(ValueError, match="as many"):
        FilteredConv2d([], [])
    with pytest.raises(ValueError, match="stride 1"):
        FilteredConv2d([nn.Conv2d(2, 2, 3, 2, **given)], [band(0, 1)])
    convs = [nn.Conv2d(2, n, 3, **given) for n in (2, 3)]
    with pytest.raises(ValueError, match="equal channels"):
        FilteredConv2d(convs, [band(0, 1), band(0, 1)])
