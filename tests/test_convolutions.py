"""Norms of convolutions against the explicit matrices of torch's own convolutions."""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from lipnets import NotCertifiedError, convolutions, lipschitz
from lipnets.convolutions import conv_norm, filtered_conv_gains, torus

CLOSE = 1 + 1e-9
BELOW = 1 - 1e-12  # of the oracle, a singular value decomposition in float64


def explicit_norm(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest singular value of the matrix of an affine map, column by column."""
    size = math.prod(shape)
    with torch.no_grad():
        images = torch.eye(size).reshape(size, *shape)
        columns = module(images) - module(torch.zeros(1, *shape))
    return torch.linalg.matrix_norm(columns.reshape(size, -1), ord=2).item()


def check(module: nn.Module, shape: tuple[int, ...], slack: float = 1e300) -> None:
    norm, bound = explicit_norm(module.eval(), shape), lipschitz(module, shape).value
    assert norm * BELOW <= bound, (module, shape, bound, norm)
    assert bound <= norm * slack or not norm, (module, shape, bound, norm)


def accepted(size: int, kernel: int, dilation: int, padding: int) -> bool:
    return size + 2 * padding >= dilation * (kernel - 1) + 1


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_zero_padded_convolution_in_one_dimension(kernel) -> None:
    for s, d, p, n in itertools.product((1, 2, 3), (1, 2), (0, 1, 2, 5), (1, 3, 4, 7)):
        if accepted(n, kernel, d, p):
            groups = 1 + (kernel + s + d + p + n) % 2
            check(nn.Conv1d(2, 4, kernel, s, p, d, groups=groups), (2, n))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_circular_convolution_in_one_dimension(kernel) -> None:
    for s, d, n in itertools.product((1, 2, 3), (1, 2), (4, 5, 6, 9)):
        p = d * (kernel - 1) // 2
        if p <= n and 2 * p == d * (kernel - 1):
            module = nn.Conv1d(3, 2, kernel, s, p, d, padding_mode="circular")
            check(module, (3, n), CLOSE if n % s == 0 else 1e300)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_transposed_convolution_in_one_dimension(kernel) -> None:
    for s, d, p, n, extra in itertools.product((1, 2, 3), (1, 2), (0, 1, 2), (1, 2, 5), (0, 1)):
        if (n - 1) * s - 2 * p + d * (kernel - 1) + extra + 1 > 0 and extra < max(s, d):
            groups = 1 + (kernel + s + n) % 2
            module = nn.ConvTranspose1d(
                4, 2, kernel, s, p, output_padding=extra, groups=groups, dilation=d
            )
            check(module, (4, n))


@pytest.mark.filterwarnings("ignore:Using padding")  # torch copies, says so, and is right
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_padding(kernel, mode) -> None:
    for d, n in itertools.product((1, 2), (4, 7, 9)):
        module = nn.Conv1d(2, 2, kernel, padding="same", dilation=d, padding_mode=mode)
        check(module, (2, n), CLOSE if mode == "circular" else 1e300)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_valid_padding(mode) -> None:
    for d, s, n in itertools.product((1, 2), (1, 2), (5, 8)):
        named = nn.Conv1d(2, 2, 3, s, "valid", d, padding_mode=mode)
        check(named, (2, n))
        plain = nn.Conv1d(2, 2, 3, s, 0, d).eval()
        plain.load_state_dict(named.state_dict())
        assert lipschitz(named, (2, n)).value == lipschitz(plain, (2, n)).value


def rectangles() -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    kernels, strides, pads = [(3, 3), (1, 4), (5, 2)], [(1, 1), (2, 3), (2, 2)], [(0, 0), (1, 2)]
    for k, s, p, d in itertools.product(kernels, strides, pads, [(1, 1), (1, 2)]):
        if all(map(accepted, (5, 4), k, d, p)):
            yield nn.Conv2d(2, 3, k, s, p, d), (2, 5, 4)
    yield nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 4, 4)
    yield nn.Conv2d(4, 2, 3, 2, 1, groups=2, padding_mode="circular"), (4, 4, 6)
    yield nn.Conv2d(2, 2, 3, 2, 1, padding_mode="circular"), (2, 5, 3)
    yield nn.Conv2d(2, 2, (3, 1), 1, (1, 0), padding_mode="circular"), (2, 5, 3)
    yield nn.Conv2d(2, 2, 3, 1, (1, 0), padding_mode="circular"), (2, 5, 4)
    yield nn.Conv2d(2, 2, 2, 2), (2, 5, 4)
    yield nn.ConvTranspose2d(3, 2, (3, 2), (2, 1), (1, 0)), (3, 3, 4)
    yield nn.Conv3d(2, 2, 3, 1, 1), (2, 3, 2, 3)
    yield nn.Conv3d(1, 2, (2, 1, 3), (2, 1, 1), (1, 0, 1)), (1, 3, 2, 4)
    yield nn.Conv3d(1, 2, 3, 1, 1, padding_mode="circular"), (1, 3, 4, 3)
    yield nn.ConvTranspose3d(2, 1, 2, 2), (2, 2, 2, 1)


def test_more_dimensions() -> None:
    for module, shape in rectangles():
        check(module, shape)


def test_the_circular_norm_is_exact_in_two_dimensions() -> None:
    check(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (3, 5, 6), CLOSE)
    check(nn.Conv2d(2, 3, 3, 2, padding=1, padding_mode="circular"), (2, 6, 4), CLOSE)
    check(nn.Conv2d(2, 3, 5, padding=4, dilation=2, padding_mode="circular"), (2, 7, 5), CLOSE)


def test_groups_and_transposition_lose_nothing() -> None:
    check(nn.Conv1d(4, 8, 3, padding=1, groups=4, padding_mode="circular"), (4, 6), CLOSE)
    for groups in (1, 2):
        forward = nn.Conv1d(4, 2, 3, padding=1, groups=groups).eval()
        adjoint = nn.ConvTranspose1d(2, 4, 3, padding=1, groups=groups).eval()
        adjoint.weight.data = forward.weight.data
        for n in (3, 8):
            same = lipschitz(adjoint, (2, n)).value
            assert same == pytest.approx(lipschitz(forward, (4, n)).value, rel=1e-12)


def test_the_image_size_is_not_the_period_of_a_zero_padded_convolution() -> None:
    """The counterexample of the second difference: 2 + √2 on three pixels, 3 on their circle."""
    kernel = torch.tensor([[[1.0, -2.0, 1.0]]])
    module = nn.Conv1d(1, 1, 3, padding=1)
    module.weight.data.copy_(kernel)
    assert explicit_norm(module, (1, 3)) == pytest.approx(2 + math.sqrt(2))
    assert conv_norm(kernel, period=(3,))[0] == pytest.approx(3)
    assert torus(size=3, outputs=3, kernel_size=3, stride=1, dilation=1, padding=1) == 4
    check(module, (1, 3))


def checkerboard() -> Tensor:
    signs = (-1.0) ** torch.arange(3)
    return (signs[:, None] * signs)[None, None]


@pytest.mark.parametrize("size", [3, 5])
def test_the_checkerboard_kernel(size) -> None:
    module = nn.Conv2d(1, 1, 3, padding=1)
    module.weight.data.copy_(checkerboard())
    circular = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    circular.weight.data.copy_(checkerboard())
    assert explicit_norm(circular, (1, size, size)) < explicit_norm(module, (1, size, size))
    check(module, (1, size, size))


@pytest.mark.parametrize("shape", [(3, 4, 3), (4, 2, 5), (2, 3, 3, 3), (3, 2, 2, 4)])
def test_the_bound_at_any_size_holds_at_every_size(shape) -> None:
    kernel, axes = torch.randn(shape), len(shape) - 2
    convolve = nn.functional.conv1d if axes == 1 else nn.functional.conv2d
    norms = []
    for n in (1, 2, 5, 16) if axes == 1 else (1, 3, 7):
        images = torch.eye(shape[1] * n**axes).reshape(-1, shape[1], *[n] * axes)
        columns = convolve(images, kernel, padding=4).flatten(1)
        norms.append(torch.linalg.matrix_norm(columns, ord=2).item())
    bound, _ = conv_norm(kernel)
    assert max(norms) * BELOW <= bound <= max(norms) * 1.3


def test_every_theorem_is_above_a_fine_grid() -> None:
    for _ in range(20):
        kernel = torch.randn(3, 2, 3, 2) * torch.rand(3, 2, 3, 2) ** 3
        symbol = convolutions._Symbol.of(kernel / kernel.abs().max() / 2, 1, (1, 1), (1, 1))
        truth = max(s.max().item() for _, s in symbol.squared_norms_on_grid((64, 65)))
        assert symbol.from_coefficients()[0] >= truth * BELOW
        assert symbol.any_size()[0] >= truth * BELOW
        assert symbol.any_size()[0] <= truth * 1.03


def test_theorems_c3_and_c6_are_what_they_say() -> None:
    """Against closed forms: the cosines of C3; of C6, windows and norms computed by other means."""
    kernel = torch.randn(3, 2, 3, 2) / 8
    symbol = convolutions._Symbol.of(kernel, 1, (1, 1), (1, 1))
    points, degrees = (12, 9), (2, 1)
    cosines = [math.cos(math.pi * t / (2 * m)) for t, m in zip(degrees, points, strict=True)]
    assert symbol.sampled(2.0, points) == pytest.approx(2 / math.prod(cosines) ** 2, rel=1e-3)
    assert symbol.sampled(2.0, points) > 2 / math.prod(cosines) ** 2

    spectrum = torch.fft.fft2(kernel, s=(16, 16)).permute(2, 3, 0, 1)  # the sign of θ is no matter
    coefficients = torch.fft.ifft2((spectrum.mH @ spectrum).permute(2, 3, 0, 1)).real
    windows = []
    for t, m in zip(degrees, points, strict=True):
        window = torch.sin(math.pi * torch.arange(1, m - t + 1) / (m - t + 1))
        full = nn.functional.conv1d(window[None, None], window[None, None], padding=t)[0, 0]
        windows.append({s: (full[t - s] / full[t]).item() for s in range(t + 1)})
    excess = 0.0
    for i, j in itertools.product(range(-2, 3), range(-1, 2)):
        norm = torch.linalg.matrix_norm(coefficients[:, :, i, j], ord=2).item()
        excess += (1 - windows[0][abs(i)] * windows[1][abs(j)]) * norm
    assert symbol.smoothed(2.0, points) == pytest.approx(2 + excess, rel=1e-9)


def test_c4_is_the_better_theorem_for_rounded_orthogonal_kernels() -> None:
    bound, theorem = conv_norm(orthogonal_kernel(64).float(), period=(9, 9))
    assert "C4" in theorem
    assert bound <= 1 + 3e-7


def test_the_sampling_factor_has_teeth(monkeypatch) -> None:
    """A coarse grid alone is below the supremum; the theorems for any size are above it."""
    monkeypatch.setattr(convolutions, "_COARSE", 1)
    missed = 0
    for _ in range(20):
        symbol = convolutions._Symbol.of(torch.rand(2, 2, 4) - 0.5, 1, (1,), (1,))
        truth = max(s.max().item() for _, s in symbol.squared_norms_on_grid((2000,)))
        coarse = max(s.max().item() for _, s in symbol.squared_norms_on_grid((25,)))
        missed += coarse < truth * (1 - 1e-6)
        assert symbol.any_size()[0] >= truth * BELOW
    assert missed


def test_a_grid_that_costs_too_much_is_replaced_by_a_bound_at_any_size(monkeypatch) -> None:
    kernel = torch.randn(4, 4, 3, 3)
    exact, name = conv_norm(kernel, period=(33, 33))
    assert "C2" in name
    monkeypatch.setattr(convolutions, "_FLOPS", 1.0)
    coarse, name = conv_norm(kernel, period=(33, 33))
    assert "any size" in name
    assert exact * BELOW <= coarse <= 1.5 * exact


def orthogonal_kernel(channels: int) -> Tensor:
    """Shifts of orthogonal directions: a paraunitary kernel of size 3."""
    columns = torch.linalg.qr(torch.randn(channels, channels))[0]
    kernel = torch.zeros(channels, channels, 3, 3)
    for i in range(channels):
        kernel[:, i, i % 3, (i // 3) % 3] = columns[:, i]
    return kernel


@pytest.mark.parametrize("rows", [24, 10])
def test_orthogonal_kernels_need_no_grid(rows) -> None:
    kernel = orthogonal_kernel(24)[:rows].float()
    bound, theorem = conv_norm(kernel, period=(9, 9))
    assert "C4" in theorem or "C5" in theorem
    assert 1 - 1e-6 <= bound <= 1 + 2e-6


SCALES = [1e37, 1e-37, 1e-44, 1.0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "family", ["gaussian", "zeros", "one tap", "rank one", "clustered", "dynamic"]
)
def test_extreme_kernels(family, scale) -> None:
    kernel = {
        "gaussian": torch.randn(3, 2, 3, 3),
        "zeros": torch.zeros(3, 2, 3, 3),
        "one tap": nn.functional.pad(torch.randn(3, 2, 1, 1), (0, 2, 1, 1)),
        "rank one": torch.ones(3, 2, 3, 3),
        "clustered": orthogonal_kernel(3)[:, :2] * (1 + 1e-7 * torch.randn(3, 2, 3, 3)),
        "dynamic": torch.randn(3, 2, 3, 3) * 10.0 ** -torch.randint(0, 20, (3, 2, 3, 3)),
    }[family]
    module = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    module.weight.data = (kernel * scale).float()
    exact = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    power = 2.0 ** -math.frexp(scale)[1]  # exactly undone, so that the oracle is in range
    exact.weight.data = module.weight.data.double() * power
    norm, bound = explicit_norm(exact, (2, 4, 4)), lipschitz(module.eval(), (2, 4, 4)).value
    assert norm * BELOW <= bound * power <= norm * 1.6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_kernels_that_are_not_finite_have_no_norm(bad) -> None:
    kernel = torch.ones(1, 1, 3)
    kernel[0, 0, 1] = bad
    assert conv_norm(kernel)[0] == math.inf
    assert conv_norm(kernel, period=(4,))[0] == math.inf
    assert (filtered_conv_gains(kernel, torch.ones(4)) == math.inf).all()


def test_subnormal_kernels_count() -> None:
    kernel = torch.full((1, 1, 3), 5e-324)
    assert conv_norm(kernel, period=(8,))[0] >= 3 * 5e-324


def test_the_period_is_a_multiple_of_the_stride() -> None:
    with pytest.raises(ValueError, match="multiple of the stride"):
        conv_norm(torch.ones(1, 1, 3), stride=2, period=(5,))


def test_torus_counts_outputs_that_lie_in_the_padding() -> None:
    """With more padding than the kernel reaches, outputs outnumber the pixels that are read."""
    assert torus(size=1, outputs=11, kernel_size=1, stride=1, dilation=1, padding=5) == 11
    assert torus(size=6, outputs=3, kernel_size=3, stride=2, dilation=1, padding=1) == 8
    check(nn.Conv1d(1, 1, 1, padding=5), (1, 1), CLOSE)


@pytest.mark.parametrize("size", [(4, 4), (5, 6)])
def test_filtered_convolutions(size) -> None:
    kernel, gain = torch.randn(3, 2, 3, 3), torch.rand(size)
    mirrored = gain.flip(0, 1).roll((1, 1), (0, 1))
    gain = torch.maximum(gain, mirrored)  # that of a real filter

    class Filtered(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.fft.ifft2(torch.fft.fft2(x) * gain).real
            x = nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
            return nn.functional.conv2d(x, kernel)

    norm = explicit_norm(Filtered(), (2, *size))
    gains = filtered_conv_gains(kernel, gain)
    assert norm * BELOW <= gains.max() <= norm * CLOSE
    assert (filtered_conv_gains(kernel, 0 * gain) == 0).all()
    assert filtered_conv_gains(kernel, gain.float()).max() == pytest.approx(norm, rel=1e-6)
    taps = torch.zeros(3, 2, *size).index_put(
        (
            torch.arange(3)[:, None, None, None],
            torch.arange(2)[:, None, None],
            torch.arange(3)[:, None],
            torch.arange(3),
        ),
        kernel,
    )
    symbols = torch.fft.fft2(taps).permute(2, 3, 0, 1)
    truth = gain * torch.linalg.matrix_norm(symbols, ord=2)
    assert (gains >= truth * BELOW).all()
    assert (gains <= truth * CLOSE).all()


def test_gains_are_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        filtered_conv_gains(torch.ones(1, 1, 3), torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="2 axes"):
        filtered_conv_gains(torch.ones(1, 1, 3, 3), torch.ones(4))


def test_roots_of_unity_are_rounded_correctly() -> None:
    for count in (1, 2, 3, 8, 17, 45, 100):
        cosines, sines = convolutions.roots_of_unity(count)
        angles = 2 * math.pi * torch.arange(count) / count
        assert (cosines - angles.cos()).abs().max() < 2e-15
        assert (cosines**2 + sines**2 - 1).abs().max() < 5e-16
        assert cosines[0] == 1
        assert sines[0] == 0
        if count % 4 == 0:
            assert cosines[count // 4] == pytest.approx(0, abs=1e-60)
            assert sines[count // 4] == 1


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_padding_that_repeats_pixels_is_refused(mode) -> None:
    with pytest.raises(NotCertifiedError, match="repeats pixels"):
        lipschitz(nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode).eval(), (2, 5, 5))


@pytest.mark.parametrize(("kernel", "padding"), [(2, 1), (4, 1), (3, 2), (5, 1)])
def test_circular_padding_that_repeats_pixels_is_refused(kernel, padding) -> None:
    module = nn.Conv1d(2, 2, kernel, padding=padding, padding_mode="circular").eval()
    with pytest.raises(NotCertifiedError, match="repeats pixels"):
        lipschitz(module, (2, 8))


def theorem_gamma(operations: int) -> Fraction:
    return Fraction(operations, 2**53 - operations)


def scalar_symbol(*taps: float) -> convolutions._Symbol:
    """A symbol of one channel, for which every quantity is a rational number or a root of one."""
    return convolutions._Symbol.of(torch.tensor([[taps]], dtype=torch.float64), 1, (1,), (1,))


def test_the_error_of_the_autocorrelation_is_that_of_the_theorem() -> None:
    for outs, ins, count in [(1, 1, 1), (1, 1, 4), (2, 3, 3), (5, 2, 2)]:
        kernel = torch.rand(2 * outs, ins, count) - 0.5
        symbol = convolutions._Symbol.of(kernel, 2, (1,), (1,))
        error = symbol._coefficients()[1]
        taps = symbol.taps.tolist()
        squares = [
            [sum((Fraction(x) ** 2 for row in tap for x in row), Fraction(0)) for tap in group]
            for group in taps
        ]
        # Roots from below, to 2⁻⁸⁰: the bound is above them, and by little.
        totals = [
            sum(Fraction(math.isqrt(int(s * 4**80)), 2**80) for s in each) for each in squares
        ]
        least = theorem_gamma(max(outs, ins) + count) * max(totals) ** 2
        assert least <= Fraction(error) <= least * Fraction(2)


def test_theorems_c4_and_c5_are_rounded_upwards() -> None:
    for _ in range(50):
        taps = (torch.rand(3) - 0.5).tolist()
        symbol = scalar_symbol(*taps)
        error = symbol._coefficients()[1]
        a, b, c = map(Fraction, taps)
        exact = a * a + b * b + c * c + 2 * abs(a * b + b * c) + 2 * abs(a * c)
        assert exact <= Fraction(symbol.from_coefficients()[0]) - Fraction(error)
        assert Fraction(symbol.from_coefficients()[0]) <= exact * (1 + Fraction(1, 10**13))


def test_the_error_of_a_symbol_is_added_to_its_norm() -> None:
    taps = [0.5, -0.5, 0.5, -0.5 + 2.0**-40]  # they cancel at frequency 0, and errors do not
    symbol = scalar_symbol(*taps)
    for grid, squares in symbol.squared_norms_on_grid((5,)):
        root = Fraction(squares[0, grid[:, 0] == 0].item())
        moduli = sum(abs(Fraction(tap)) for tap in taps)
        error = moduli * (4 * Fraction(1, 2**53) + Fraction(3, 2) * theorem_gamma(5))
        assert root >= (Fraction(1, 2**40) + error) ** 2
        assert root <= (Fraction(1, 2**40) + 2 * error) ** 2


def test_what_underflow_takes_counts_for_each_tap() -> None:
    found = convolutions._unscaled(1.0, 1, 2.0**-10, torch.ones(2, 3, 4, 5))
    assert found == 2 + 20 * 2.0**-10


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 4), (3, 7)])
def test_quick_norms_are_bounds(shape) -> None:
    for matrices in (torch.ones(2, *shape), torch.randn(20, *shape), torch.randn(2, *shape) ** 9):
        found = convolutions._quick_norms(matrices)
        for matrix, bound in zip(matrices.tolist(), found.tolist(), strict=True):
            rows = [[Fraction(x) for x in row] for row in matrix]
            frobenius = sum((x * x for row in rows for x in row), Fraction(0))
            sums = [sum(map(abs, row), Fraction(0)) for row in rows]
            columns = [sum(map(abs, column), Fraction(0)) for column in zip(*rows, strict=True)]
            exact = min(frobenius, max(sums) * max(columns))
            assert exact <= Fraction(bound) ** 2 <= exact * (1 + Fraction(1, 10**13))
