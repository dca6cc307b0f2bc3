"""Constrained convolutions, against the matrix of the map from images to images."""

import copy
import io
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import layers

STRIDED = ["aoc_conv2d", "aol_conv2d", "frobenius_conv2d", "rko_conv2d", "spectral_conv2d"]
ALL = [*STRIDED, "bcop_conv2d"]
CHANNELS = [(4, 4), (3, 5), (5, 3), (1, 4), (3, 1), (1, 1)]
KERNELS = [1, 2, 3, 4, 5, (1, 3), (3, 2)]


def built(name: str, channels: tuple[int, int], kernel_size: object, **kwargs: object) -> nn.Conv2d:
    """A constrained layer whose raw weights are random."""
    given = {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": kernel_size}
    layer = layers.build(name, **given, **kwargs)
    for weight in layer.parameters():
        nn.init.normal_(weight)
    return layer


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """The matrix of the linear part of a layer, column by column."""
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        outputs = layer.double()(pixels) - layer(torch.zeros(1, *shape))
    return outputs.flatten(1).mT


def singular_values(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    return torch.linalg.svdvals(matrix(layer, shape))


@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_bcop_is_orthogonal_on_the_torus(channels, kernel_size) -> None:
    layer = built("bcop_conv2d", channels, kernel_size, padding="same", padding_mode="circular")
    values = singular_values(layer, (channels[0], 5, 6))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [(16, 16), (8, 12), (12, 8)])
def test_bcop_is_orthogonal_to_5_millionths_in_float32(channels) -> None:
    given = {"padding": 1, "padding_mode": "circular", "dtype": torch.float32}
    layer = built("bcop_conv2d", channels, 3, **given)
    stored = nn.Conv2d(*channels, 3, padding=1, padding_mode="circular", bias=False)
    stored.weight = nn.Parameter(layer.weight.detach().double())  # the float32 numbers
    values = singular_values(stored, (channels[0], 4, 4))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=5e-6)
    assert values.max() <= 1


def test_bcop_reaches_kernels_that_are_no_shift() -> None:
    kernel = built("bcop_conv2d", (6, 6), 3).weight
    assert (kernel.square().sum(dim=(0, 1)) > 0.01).all()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("kernel_size", [1, 3, 4, (2, 3)])
@pytest.mark.parametrize("channels", [(3, 5), (5, 3)])
@pytest.mark.parametrize("name", ALL)
def test_no_singular_value_exceeds_1(name, channels, kernel_size, padding_mode) -> None:
    layer = built(name, channels, kernel_size, padding="same", padding_mode=padding_mode)
    assert singular_values(layer, (channels[0], 5, 6)).max() <= 1 + 1e-9


@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (3, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("name", ALL)
def test_no_singular_value_exceeds_1_whatever_the_padding(name, padding, dilation) -> None:
    layer = built(name, (2, 3), 3, padding=padding, dilation=dilation)
    assert singular_values(layer, (2, 7, 8)).max() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("stride", "kernel_size", "groups"),
    [*itertools.product([1, 2, 3, (1, 2)], [1, 2, 4], [1, 2])],
)
def test_aol_contracts_with_strides_and_groups(stride, kernel_size, groups) -> None:
    given = {"stride": stride, "groups": groups, "padding": 1}
    layer = built("aol_conv2d", (4, 6), kernel_size, **given)
    assert singular_values(layer, (4, 6, 5)).max() <= 1 + 1e-12


def test_aol_of_windows_that_do_not_overlap_is_that_of_a_matrix() -> None:
    layer = built("aol_conv2d", (2, 5), 2, stride=2)
    raw = layer.parametrizations.weight.original.flatten(1)
    scale = (raw.mT @ raw).abs().sum(dim=1).rsqrt()
    torch.testing.assert_close(layer.weight.flatten(1), raw * scale)


def test_aol_scales_by_the_rows_of_the_explicit_gram_matrix() -> None:
    layer = built("aol_conv2d", (2, 3), 3, padding="same", padding_mode="circular")
    plain = nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular")
    plain.weight = layer.parametrizations.weight.original
    columns = matrix(plain, (2, 7, 7))
    sums = (columns.mT @ columns).abs().sum(dim=1).reshape(2, 7, 7)[:, 0, 0]
    torch.testing.assert_close(layer.weight, plain.weight / sums.sqrt()[:, None, None])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] if name not in ("aoc_conv2d", "rko_conv2d") else []
        )
        for name in STRIDED
    ],
)
def test_at_every_size_the_certificate_is_true_and_1_but_where_strided_circles_close(name) -> None:
    cases = itertools.product(
        [1, 2, 3, (3, 2)], [1, 2, (1, 3)], [1, 2], [1, 2], ["zeros", "circular"], [(5, 6), (6, 6)]
    )
    for kernel_size, stride, dilation, groups, padding_mode, size in cases:
        kernel = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        strides = (stride,) * 2 if isinstance(stride, int) else stride
        pairs = zip(kernel, strides, strict=True)
        if name == "aoc_conv2d" and any(k < s // math.gcd(s, dilation) for k, s in pairs):
            continue
        reach = [dilation * (k - 1) for k in kernel]
        if padding_mode == "circular" and any(r % 2 for r in reach):
            continue
        given = {"stride": stride, "dilation": dilation, "groups": groups}
        padding = tuple(r // 2 for r in reach)
        layer = built(
            name, (2, 4), kernel_size, padding=padding, padding_mode=padding_mode, **given
        )
        norm = singular_values(layer, (2, *size)).max()
        bound = lipnets.lipschitz(lipnets.export(layer), (2, *size)).value
        assert norm <= bound * (1 + 1e-9)
        if padding_mode == "zeros" or all(n % s == 0 for n, s in zip(size, strides, strict=True)):
            assert bound <= 1 + 1e-6


@pytest.mark.parametrize("channels", [(2, 4), (2, 8), (1, 9), (4, 2), (2, 12)])
@pytest.mark.parametrize(
    ("kernel_size", "stride"), [(2, 2), (3, 2), (4, 2), ((3, 4), (1, 2)), (3, 3)]
)
def test_aoc_is_orthogonal_with_strides(kernel_size, stride, channels) -> None:
    for groups, dilation in [(1, 1), (math.gcd(*channels), 1), (1, 2), (1, 5)]:
        layer = built("aoc_conv2d", channels, kernel_size, stride=stride, groups=groups, dilation=dilation)  # fmt: skip
        strides = (stride,) * 2 if isinstance(stride, int) else stride
        inner = [s // math.gcd(s, dilation) for s in strides]
        if inner != list(strides) and channels[1] > channels[0] * math.prod(inner):
            continue  # sees some pixels only
        if any(k < s for k, s in zip(layer.kernel_size, inner, strict=True)):
            continue
        reach = [dilation * (k - 1) for k in layer.kernel_size]
        pixels = torch.eye(channels[0] * 36).reshape(-1, channels[0], 6, 6)
        pixels = pixels.repeat(1, 1, 4, 4)[:, :, : 6 + reach[0], : 6 + reach[1]]  # the torus
        out = F.conv2d(pixels, layer.weight.detach(), None, stride, 0, dilation, groups)
        values = torch.linalg.svdvals(out.flatten(1))
        torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


def test_a_strided_circle_that_does_not_close_exceeds_1_and_the_certificate_says_so() -> None:
    given = {"stride": 2, "padding": 1, "padding_mode": "circular"}
    layer = built("aoc_conv2d", (4, 8), 3, **given)
    norm = singular_values(layer, (4, 5, 5)).max().item()
    assert 1.01 < norm <= lipnets.lipschitz(lipnets.export(layer), (4, 5, 5)).value


@pytest.mark.parametrize("method", ["aoc", "aol", "rko"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_layers_contract_and_aoc_keeps_norms(axes, method) -> None:
    for kernel_size, stride, groups, padding in itertools.product([2, 3], [1, 2], [1, 2], [0, 1]):
        name = f"{method}_conv_transpose{axes}d"
        given = {"stride": stride, "groups": groups, "padding": padding, "bias": False}
        layer = layers.build(name, in_channels=4, out_channels=4, kernel_size=kernel_size, **given)
        for weight in layer.parameters():
            nn.init.normal_(weight)
        values = torch.linalg.svdvals(explicit(layer, (4, *(3, 2, 2)[:axes])))
        assert values.max() <= 1 + 1e-9
        bound = lipnets.lipschitz(lipnets.export(layer), (4, *(3, 2, 2)[:axes])).value
        assert values.max() <= bound <= 1 + 1e-6
        if method == "aoc" and padding == 0:
            torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["aoc", "aol", "frobenius", "rko", "spectral"])
@pytest.mark.parametrize("axes", [1, 3])
def test_layers_of_signals_and_volumes_contract(axes, method) -> None:
    for stride, groups in itertools.product([1, 2], [1, 2, 4]):
        given = {"stride": stride, "groups": groups, "padding": 1, "bias": False}
        name = f"{method}_conv{axes}d"
        layer = layers.build(name, in_channels=4, out_channels=8, kernel_size=3, **given)
        for weight in layer.parameters():
            nn.init.normal_(weight)
        shape = (4, *(4, 3, 3)[:axes])
        bound = lipnets.lipschitz(lipnets.export(layer), shape).value
        assert torch.linalg.matrix_norm(explicit(layer, shape), ord=2) <= bound <= 1 + 1e-6


def explicit(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear layer."""
    with torch.no_grad():
        return layer(torch.eye(math.prod(shape)).reshape(-1, *shape)).flatten(1).mT


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (3, 1)])
@pytest.mark.parametrize("channels", [(4, 4), (4, 2), (2, 6)])
def test_the_norm_of_spectral_kernels_is_1_over_all_frequencies(
    channels, kernel_size, groups
) -> None:
    layer = built("spectral_conv2d", channels, kernel_size, groups=groups)
    for kernel in layer.weight.detach().chunk(groups):
        symbols = torch.fft.fft2(kernel, s=(256, 256)).permute(2, 3, 0, 1)
        norm = torch.linalg.svdvals(symbols).max()
        assert 1 - 1e-3 <= norm <= 1  # frequencies between those of the grid


def test_rko_divides_by_the_windows_that_share_a_pixel() -> None:
    for stride, dilation, windows in [(1, 1, 9), (2, 1, 4), (3, 1, 1), (2, 2, 9), (1, 2, 9)]:
        layer = built("rko_conv2d", (2, 4), 3, stride=stride, dilation=dilation)
        values = torch.linalg.svdvals(layer.weight.flatten(1))
        torch.testing.assert_close(values, torch.full((4,), windows**-0.5))


def test_the_norm_of_a_spectral_kernel_is_found_at_a_symmetric_frequency() -> None:
    layer = built("spectral_conv2d", (1, 1), 3)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.ones(3, 3))  # largest for constants
    torch.testing.assert_close(layer.weight, torch.full((1, 1, 3, 3), 1 / 9), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("name", ["aoc_conv2d", "aol_conv2d", "bcop_conv2d", "spectral_conv2d"])
def test_layers_start_orthogonal(name, kernel_size) -> None:
    given = {"in_channels": 3, "out_channels": 5, "kernel_size": kernel_size}
    layer = layers.build(name, **given, padding="same", padding_mode="circular")
    values = singular_values(layer, (3, 4, 4))
    torch.testing.assert_close(
        values, torch.ones_like(values), rtol=0, atol=5e-6 if name == "spectral_conv2d" else 1e-9
    )
    assert not layer.bias.any()


def test_strided_layers_start_orthogonal() -> None:
    layer = layers.build("aol_conv2d", in_channels=2, out_channels=8, kernel_size=3, stride=2)
    values = singular_values(layer, (2, 5, 5))[: 2 * 4 * 4]
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


def extreme(kind: str, weight: Tensor) -> Tensor:
    """Raw weights that have broken layers like these elsewhere."""
    return {
        "zeros": torch.zeros_like(weight),
        "constant": torch.ones_like(weight),
        "one entry": torch.zeros_like(weight).index_fill(0, torch.tensor(0), 1.0),
        "huge": 100 * torch.randn_like(weight),
        "tiny": 1e-6 * torch.randn_like(weight),
    }[kind]


@pytest.mark.parametrize("kind", ["zeros", "constant", "one entry", "huge", "tiny"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_extreme_weights_give_finite_kernels_and_gradients(name, dtype, kind) -> None:
    layer = built(name, (4, 6), 3, padding="same", dtype=dtype)
    weights = list(layer.parametrizations.parameters())
    for weight in weights:
        weight.data = extreme(kind, weight.data)
    layer.weight.square().sum().backward()
    assert layer.weight.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in weights)
    assert singular_values(layer, (4, 4, 4)).max() <= 1 + 1e-6


@pytest.mark.parametrize("channels", [(2, 3), (3, 2)])
@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name, channels) -> None:
    layer = built(name, channels, (3, 2))
    constraint = layer.parametrizations.weight
    names = [key for key, _ in constraint.named_parameters()]

    def kernel(*weights: Tensor) -> Tensor:
        return torch.func.functional_call(constraint, dict(zip(names, weights, strict=True)))

    weights = [weight.detach().clone().requires_grad_() for weight in constraint.parameters()]
    assert torch.autograd.gradcheck(kernel, weights, fast_mode=True)


@pytest.mark.parametrize("name", ALL)
def test_copies_and_loaded_states_have_the_same_kernel(name) -> None:
    layer, other = built(name, (3, 4), 3), built(name, (3, 4), 3)
    assert torch.equal(layer.train().weight, layer.eval().weight)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.weight, layer.weight)
    layer.weight.sum().backward()
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)


@pytest.mark.parametrize("name", ALL)
def test_autocast_does_not_reach_into_the_constraint(name) -> None:
    layer = built(name, (3, 4), 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.weight
    assert torch.equal(inside, layer.weight)


@pytest.mark.parametrize("name", ALL)
def test_layers_are_built_on_the_meta_device(name) -> None:
    given = {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "device": "meta"}
    assert layers.build(name, **given).weight.shape == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        *((name, {"padding_mode": "reflect"}, "repeats") for name in ALL),
        *((name, {"padding_mode": "replicate"}, "repeats") for name in ALL),
        *((name, {"padding_mode": "circular", "padding": 2}, "repeat") for name in ALL),
        ("bcop_conv2d", {"stride": 2}, "stride"),
        ("aoc_conv2d", {"stride": 4}, "at least as large as the stride"),
    ],
)
def test_refuses_what_it_cannot_constrain(name, arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        layers.build(name, in_channels=4, out_channels=4, kernel_size=3, **arguments)


def test_a_bcop_kernel_cannot_be_assigned() -> None:
    layer = built("bcop_conv2d", (3, 3), 3)
    with pytest.raises((RuntimeError, NotImplementedError)):
        layer.weight = torch.zeros(3, 3, 3, 3)


@pytest.mark.parametrize("channels", [151, 160])
def test_large_layers_do_not_hang_with_two_threads(channels) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        layer = built("bcop_conv2d", (channels, channels), 2, dtype=torch.float32)
        layer.weight.sum().backward()
    finally:
        torch.set_num_threads(threads)
    assert layer.weight.isfinite().all()
