"""Scaled poolings, against explicit matrices, loops over windows and Jacobians."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers

SIZES = [(4, 6), (5, 7), (1, 9)]
WINDOWS = [
    (kernel, stride, padding)
    for kernel, stride in itertools.product([1, 2, 3, 4, (3, 2)], [None, 1, 2, 3, (1, 2)])
    for padding in [0, 1]
    if padding == 0 or kernel not in (1,)
]


def fits(size: tuple[int, int], kernel: object, padding: int) -> bool:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return all(n + 2 * padding >= k for n, k in zip(size, sides, strict=True))


def norm_at(layer: nn.Module, x: Tensor) -> float:
    """Norm of the Jacobian at a point, a lower bound of the constant."""
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0], x)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), ord=2).item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_scaled_poolings_are_1_lipschitz(kernel, stride, padding, size) -> None:
    if not fits(size, kernel, padding):
        return
    x = torch.randn(1, *size)
    for name in ("scaled_avg_pool2d", "max_pool2d", "l2_norm_pool2d"):
        given = {"kernel_size": kernel, "stride": stride, "padding": padding}
        layer = layers.build(name, **given).eval()
        bound = lipnets.lipschitz(layer, (1, *size)).value
        assert norm_at(layer, x) * (1 - 1e-12) <= bound <= 1 + 1e-9


@pytest.mark.parametrize("size", [(6, 6), (12, 18)])
@pytest.mark.parametrize("kernel", [1, 2, 3, (2, 3)])
def test_averages_of_windows_side_by_side_keep_the_norm_of_constants(kernel, size) -> None:
    layer, x = layers.scaled_avg_pool2d(kernel), torch.full((1, 2, *size), 3.0)
    torch.testing.assert_close(layer(x).norm(), x.norm())
    assert lipnets.lipschitz(layer.eval(), (2, *size)).value == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 1), (5, 2)])
def test_averages_that_overlap_lose_little_on_large_images(kernel, stride) -> None:
    layer = layers.scaled_avg_pool2d(kernel, stride).eval()
    assert lipnets.lipschitz(layer, (1, 64, 64)).value > 0.98


@pytest.mark.parametrize(
    "arguments", [{"ceil_mode": True}, {"count_include_pad": False}, {"divisor_override": 2}]
)
def test_averages_divided_by_several_numbers_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="divides each window"):
        layers.build("scaled_avg_pool2d", kernel_size=3, **arguments)


@pytest.mark.parametrize("size", [(5, 6), (7, 7)])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), list(itertools.product([1, 2, 3], [1, 2, 3], [1, 2, 3]))
)
def test_maxima_are_divided_by_the_overlap(kernel, stride, dilation, ceil_mode, size) -> None:
    if dilation * (kernel - 1) >= min(size):
        return
    given = {"kernel_size": kernel, "stride": stride, "dilation": dilation}
    layer = layers.build("max_pool2d", **given, ceil_mode=ceil_mode).eval()
    plain = layers.build("max_pool2d", **given, ceil_mode=ceil_mode, scaled=False).eval()
    pixels = torch.eye(math.prod(size)).reshape(-1, 1, *size)
    counts = plain(pixels).flatten(1).sum(dim=1)
    shared = counts.max().item()  # windows that hold a pixel
    bound = lipnets.lipschitz(layer, (1, *size)).value
    assert bound <= 1 + 1e-12
    assert lipnets.lipschitz(plain, (1, *size)).value == pytest.approx(math.sqrt(shared))
    y = torch.randn(2, 1, *size)
    torch.testing.assert_close(layer(y) / plain(y), torch.full_like(plain(y), layer[1].factor))
    # On an image with room for all windows that may share a pixel, the bound is 1.
    assert lipnets.lipschitz(layer, (1, 24, 24)).value == pytest.approx(1)


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_l2_pools_are_norms_of_windows(kernel, stride, padding) -> None:
    x = torch.randn(2, 3, 6, 7)
    layer = layers.build("l2_norm_pool2d", kernel_size=kernel, stride=stride, padding=padding)
    step = layer.stride
    windows = F.unfold(x, layer.kernel_size, padding=padding, stride=step)
    windows = windows.unflatten(1, (3, -1)).norm(dim=2)
    shares = [-(-k // s) for k, s in zip(layer.kernel_size, step, strict=True)]
    torch.testing.assert_close(layer(x).flatten(2), windows / math.prod(shares) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_l2_pools_have_finite_gradients_at_zero(dtype) -> None:
    for layer in (layers.L2NormPool2d(2), layers.AdaptiveL2NormPool2d(2)):
        for scale in (0.0, 1e-30, 1e-15):
            x = (scale * torch.randn(1, 1, 4, 4, dtype=dtype)).requires_grad_()
            layer(x).sum().backward()
            assert x.grad.isfinite().all()
            assert x.grad.abs().max() <= 1 + 1e-6


OUTPUTS = [1, 2, 3, (2, 3), (None, 2), (4, 5), 7]


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (7, 3)])
@pytest.mark.parametrize("output_size", OUTPUTS)
@pytest.mark.parametrize(
    "name", ["adaptive_scaled_avg_pool2d", "adaptive_l2_norm_pool2d", "adaptive_max_pool2d"]
)
def test_adaptive_poolings_are_1_lipschitz_at_any_size(name, output_size, size) -> None:
    layer = layers.build(name, output_size=output_size).eval()
    x = torch.randn(1, *size)
    bound = lipnets.lipschitz(layer, (1, *size)).value
    assert norm_at(layer, x) * (1 - 1e-12) <= bound <= 1 + 1e-9
    assert layer(x[None]).shape == F.adaptive_avg_pool2d(x[None], output_size).shape


@pytest.mark.parametrize("output_size", [1, 2, (3, 2)])
def test_adaptive_averages_side_by_side_keep_the_norm_of_constants(output_size) -> None:
    layer, x = layers.AdaptiveScaledAvgPool2d(output_size), torch.full((1, 2, 6, 6), 3.0)
    torch.testing.assert_close(layer(x).norm(), x.norm())
    assert lipnets.lipschitz(layer.eval(), (2, 6, 6)).value == pytest.approx(1)


@pytest.mark.parametrize("output_size", [1, 2, (3, 5), 7])
def test_adaptive_l2_pools_are_norms_of_the_windows_of_torch(output_size) -> None:
    x, layer = torch.randn(2, 3, 5, 6), layers.AdaptiveL2NormPool2d(output_size)
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    expected = torch.zeros(2, 3, height, width)
    counts = torch.zeros(5, 6)
    for i, j in itertools.product(range(height), range(width)):
        rows = slice(i * 5 // height, -(-(i + 1) * 5 // height))
        columns = slice(j * 6 // width, -(-(j + 1) * 6 // width))
        expected[:, :, i, j] = x[:, :, rows, columns].flatten(2).norm(dim=2)
        counts[rows, columns] += 1
    torch.testing.assert_close(layer(x), expected / counts.max().sqrt())


def test_poolings_of_what_is_no_image_are_refused() -> None:
    for layer in (layers.L2NormPool2d(2), layers.AdaptiveL2NormPool2d(2)):
        with pytest.raises(NotCertifiedError, match="images with channels"):
            lipnets.lipschitz(layer.eval(), (4, 4))


def test_windows_changed_after_construction_are_refused() -> None:
    layer = layers.build("l2_norm_pool2d", kernel_size=2, stride=2).eval()
    layer.stride = (1, 1)
    with pytest.raises(NotCertifiedError, match="4 windows share"):
        lipnets.lipschitz(layer, (1, 4, 4))
