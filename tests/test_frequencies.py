"""Convolutions bounded together, frequency by frequency, against explicit matrices of secants."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lipnets import certify
from lipnets.bounds import NotCertifiedError
from lipnets.estimates import attained_slope
from lipnets.layers import Abs, MaxMin, Residual
from lipnets.program import Affine
from lipnets.rounding import Analysis
from lipnets.tighter import frequencies
from lipnets.tighter.chains import bounded, flattened
from lipnets.tighter.frequencies import (
    _Circulant,
    _State,
    _Survey,
    frequency_bound,
    frequency_costs,
)

EFFORT = 1e10


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    options = {"padding": size // 2, **options}
    return nn.Conv2d(inputs, outputs, size, **options).double().eval()


def secant(module: nn.Module, x: Tensor, chosen: list[Tensor], place: list[int]) -> Tensor:
    """The linear map of a network whose activations have chosen secants, of a batch of images."""
    if isinstance(module, nn.Sequential):
        for child in module:
            x = secant(child, x, chosen, place)
        return x
    if isinstance(module, Residual):
        other = x if module.shortcut is None else secant(module.shortcut, x, chosen, place)
        return other + secant(module.branch, x, chosen, place)
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return module(x) - module(torch.zeros_like(x))
    if isinstance(module, Affine):
        return x if module.scale is None else module.scale * x
    if len(chosen) == place[0]:
        chosen.append(torch.rand(x.shape[1:]).round().requires_grad_())
    d = chosen[place[0]]
    place[0] += 1
    if isinstance(module, MaxMin):  # a mean of both orders, of the pairs that have one entry of d
        pairs = x.unflatten(1, (-1, 2))
        share = d.unflatten(0, (-1, 2))[:, :1]
        return (share * pairs + (1 - share) * pairs.flip(2)).flatten(1, 2)
    low, high = {nn.ReLU: (0.0, 1.0), nn.LeakyReLU: (0.1, 1.0), Abs: (-1.0, 1.0)}[type(module)]
    return (low + (high - low) * d) * x


def attained(module: nn.Module, shape: tuple[int, ...], starts: int = 6) -> float:
    """The largest norm that is found among matrices of secants, whether or not an input has them."""
    eye = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    best = 0.0
    for _ in range(starts):
        chosen: list[Tensor] = []
        for _ in range(12):
            norm = torch.linalg.matrix_norm(secant(module, eye, chosen, [0]).flatten(1), 2)
            best = max(best, norm.item())
            slopes = torch.autograd.grad(norm, chosen)
            chosen = [(slope > 0).double().requires_grad_() for slope in slopes]
    return best


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "residual": (
        lambda: Residual(nn.Sequential(conv(2, 3), nn.ReLU(), conv(3, 2))),
        (2, 5, 5),
        0.9,
    ),
    "residual, circular": (
        lambda: Residual(
            nn.Sequential(
                conv(2, 2, padding_mode="circular"), nn.ReLU(), conv(2, 2, padding_mode="circular")
            )
        ),
        (2, 4, 6),
        0.9,
    ),
    "residual, stride": (
        lambda: Residual(
            nn.Sequential(conv(1, 2, stride=2), nn.ReLU(), conv(2, 2)),
            conv(1, 2, 1, stride=2),
        ),
        (1, 6, 5),
        0.9,
    ),
    "residual, stride, circular": (
        lambda: Residual(
            nn.Sequential(
                conv(2, 2, stride=2, padding_mode="circular"),
                nn.ReLU(),
                conv(2, 2, padding_mode="circular"),
            ),
            conv(2, 2, 1, stride=2),
        ),
        (2, 6, 4),
        0.9,
    ),
    "two residuals": (
        lambda: nn.Sequential(
            Residual(nn.Sequential(conv(1, 2), nn.ReLU(), conv(2, 1))),
            nn.ReLU(),
            Residual(nn.Sequential(conv(1, 2), nn.LeakyReLU(0.1), conv(2, 1))),
        ),
        (1, 4, 4),
        0.9,
    ),
    "chain": (
        lambda: nn.Sequential(
            conv(2, 4, groups=2), nn.LeakyReLU(0.1), conv(4, 2, dilation=2, padding=2)
        ),
        (2, 5, 5),
        1.0,
    ),
    "chain, stride and odd padding": (
        lambda: nn.Sequential(
            conv(1, 2, 2, padding=2), Abs(), conv(2, 2, stride=(2, 3), padding=(0, 1))
        ),
        (1, 5, 6),
        1.05,  # of a larger torus than each needs alone
    ),
    "three convolutions": (
        lambda: nn.Sequential(conv(1, 2), nn.ReLU(), conv(2, 2, 2), conv(2, 1)),
        (1, 5, 5),
        1.0,
    ),
    "sorted": (lambda: nn.Sequential(conv(1, 4), MaxMin(), conv(4, 1)), (1, 5, 5), 1.05),
    "factors of channels": (
        lambda: Residual(
            nn.Sequential(
                conv(2, 2),
                Affine(torch.tensor([[[3.0]], [[0.1]]])),
                nn.ReLU(),
                Affine(torch.tensor([[[0.2]], [[4.0]]])),
                conv(2, 2),
            )
        ),
        (2, 4, 4),
        0.9,
    ),
    "one dimension": (
        lambda: Residual(
            nn.Sequential(
                nn.Conv1d(2, 3, 5, padding=2), nn.ReLU(), nn.Conv1d(3, 2, 3, padding="same")
            )
        ),
        (2, 9),
        0.9,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_a_bound_is_between_matrices_of_secants_and_the_product(name, seed) -> None:
    torch.manual_seed(seed)
    build, shape, share = CASES[name]
    module = build().double().eval()
    for each in module.modules():
        if isinstance(each, (nn.Conv1d, nn.Conv2d)):
            each.weight.data *= 4.0**seed
    analysis = Analysis()
    found = frequency_bound([module], shape, analysis, EFFORT)
    assert found is not None
    assert found.secants > 0
    below = attained(module, shape)
    assert below * (1 - 1e-12) <= found.value
    assert found.value <= share * analysis.lipschitz(module, shape) * (1 + 1e-6)
    assert found.value < 2.5 * below


def test_a_torus_as_small_as_the_image_would_be_caught(monkeypatch) -> None:
    """Signs of a checkerboard: zero padding has a larger norm than the circle of five pixels."""
    first, last = conv(1, 1), conv(1, 1, 1)
    signs = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    first.weight.data[:], last.weight.data[:] = signs, 1.0
    chain = nn.Sequential(first, nn.ReLU(), last).eval()
    eye = torch.eye(25, dtype=torch.float64).reshape(-1, 1, 5, 5)
    below = torch.linalg.matrix_norm(secant(first, eye, [], [0]).flatten(1), 2).item()
    assert below == pytest.approx(7.464, abs=1e-3)
    right = frequency_bound(list(chain), (1, 5, 5), Analysis(), EFFORT)
    assert right is not None
    assert right.value >= below
    monkeypatch.setattr(frequencies, "torus", lambda size, *_: size)
    wrong = frequency_bound(list(chain), (1, 5, 5), Analysis(), EFFORT)
    assert wrong is not None
    assert wrong.value < below


def test_slopes_that_are_too_small_would_be_caught(monkeypatch) -> None:
    first, last = conv(1, 1, 1), conv(1, 1, 1)
    first.weight.data[:], last.weight.data[:] = 1.0, 2.0
    block = Residual(nn.Sequential(first, nn.ReLU(), last)).eval()
    right = frequency_bound([block], (1, 4, 4), Analysis(), EFFORT)
    assert right is not None
    assert right.value == pytest.approx(3.0, rel=1e-3)  # exact, for a single channel
    assert right.value >= 3.0
    low, high = torch.zeros(()).double(), torch.tensor(0.8).double()
    monkeypatch.setattr(frequencies, "slopes", lambda *_: (low, high))
    wrong = frequency_bound([block], (1, 4, 4), Analysis(), EFFORT)
    assert wrong is not None
    assert wrong.value < 3.0


def test_the_norm_of_a_product_of_symbols_is_none_of_two_convolutions_with_zero_padding() -> None:
    """z⁻¹ + 0.9 and z / (1 + 0.9 z), nearly: inverse on a torus, and not where the image ends."""
    first, last = (nn.Conv1d(1, 1, 31, padding=15, bias=False).double().eval() for _ in range(2))
    with torch.no_grad():
        first.weight.zero_()
        last.weight.zero_()
        first.weight[0, 0, 15:17] = torch.tensor([0.9, 1.0])
        last.weight[0, 0, :15] = ((-0.9) ** torch.arange(15.0)).flip(0)
    shape = (1, 10)
    pair = nn.Sequential(first, last)
    matrix = pair(torch.eye(10, dtype=torch.float64)[:, None]).flatten(1)
    truth = torch.linalg.matrix_norm(matrix, 2).item()
    angles = torch.arange(400) * 2 * math.pi / 400
    symbols = [
        (each.weight.flatten() * torch.exp(1j * angles[:, None] * torch.arange(31))).sum(dim=1)
        for each in (first, last)
    ]
    product = (symbols[0] * symbols[1]).abs().max().item()
    found = frequency_bound([first, last], shape, Analysis(), EFFORT)
    assert found is not None
    assert found.value >= truth
    assert product < 0.7 * truth


def test_consecutive_circular_convolutions_have_the_norm_of_their_product() -> None:
    pair = [conv(2, 3, padding_mode="circular"), conv(3, 2, 5, padding_mode="circular")]
    shape = (2, 5, 6)
    eye = torch.eye(60, dtype=torch.float64).reshape(-1, *shape)
    matrix = secant(nn.Sequential(*pair), eye, [], [0]).flatten(1)
    truth = torch.linalg.matrix_norm(matrix, 2).item()
    found = frequency_bound(pair, shape, Analysis(), EFFORT)
    assert found is not None
    assert found.secants == 0
    assert truth * (1 - 1e-12) <= found.value <= truth * (1 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), size=st.integers(-3, 3), level=st.floats(0.01, 30.0))
def test_any_level_and_any_multipliers_prove_something_true(seed, size, level) -> None:
    """What rounding leaves of the theorem holds however far they are from good ones."""
    torch.manual_seed(seed)
    module = Residual(nn.Sequential(conv(1, 2), nn.ReLU(), conv(2, 1))).double().eval()
    shape, analysis = (1, 4, 4), Analysis()
    survey = _Survey(analysis, shape)
    assert survey.add(module)
    points = survey.points()
    assert points is not None
    circulant = _Circulant(module, analysis, survey, points)
    t = 10.0 ** (size + torch.randn(2, dtype=torch.float64))
    value = circulant.proved(level, t)
    assert value is not None
    assert value >= attained(module, shape, starts=2) * (1 - 1e-12)


def test_factors_between_convolutions_are_moved_to_where_they_do_no_harm() -> None:
    """Channels of very different size, which the next convolution undoes."""
    first, last = conv(2, 6), conv(6, 2)
    shape, factors = (2, 12, 12), torch.logspace(-1, 1, 6).double()
    even = frequency_bound([first, nn.ReLU(), last], shape, Analysis(), EFFORT)
    first.weight.data *= factors[:, None, None, None]
    last.weight.data /= factors[:, None, None]
    analysis = Analysis()
    found = frequency_bound([first, nn.ReLU(), last], shape, analysis, EFFORT)
    assert found is not None
    assert even is not None
    assert found.value == pytest.approx(even.value, rel=1e-2)
    assert found.value < 0.2 * analysis.lipschitz(nn.Sequential(first, last).eval(), shape)


def test_networks_of_residual_blocks_gain_and_are_not_violated() -> None:
    def block(width: int) -> nn.Module:
        return Residual(nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)))

    down = Residual(
        nn.Sequential(conv(6, 8, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8)),
        conv(6, 8, 1, stride=2),
    )
    model = nn.Sequential(
        *(conv(3, 6), nn.ReLU(), block(6), nn.ReLU(), down, nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )
    shape = (3, 16, 16)
    certificate = certify(model.double().eval(), shape)
    tight = certificate.tightened()
    assert tight.tighter is not None
    assert "Frequencies" in str(tight.tighter)
    assert tight.tighter.value < 0.5 * certificate.lipschitz
    assert (tight.slopes <= certificate.slopes).all()
    assert certificate.program is not None
    points = torch.rand(4, *shape, dtype=torch.float64)
    assert attained_slope(certificate.program, points, steps=20) <= tight.tighter.value


def test_where_the_product_is_better_it_is_kept() -> None:
    """Sums of orthogonal kernels that add up in one direction: nothing is below 1 + ‖K₂‖‖K₁‖."""
    first, last = conv(2, 2, 1), conv(2, 2, 1)
    block = Residual(nn.Sequential(first, nn.ReLU(), last)).eval()
    for each in (first, last):
        each.weight.data = torch.eye(2, dtype=torch.float64)[:, :, None, None]
    analysis = Analysis()
    operations = flattened(block, (2, 40, 40), analysis)
    found = bounded(operations, analysis, last=False)[0]
    assert found.value == pytest.approx(2.0, rel=1e-9)
    assert found.value >= 2.0


@pytest.mark.parametrize(
    "operations",
    [
        [conv(2, 2), nn.ReLU(), conv(2, 2, padding_mode="circular")],
        [conv(2, 2), nn.MaxPool2d(2), conv(2, 2)],
        [conv(2, 2), Affine(torch.rand(6, 6)), conv(2, 2)],
        [conv(2, 2, stride=4, padding_mode="circular"), nn.ReLU()],
        [nn.ConvTranspose2d(2, 2, 3).double()],
    ],
    ids=["mixed padding", "pooling", "factors of pixels", "stride beside the size", "transposed"],
)
def test_what_is_no_circulant_is_left_to_other_rules(operations) -> None:
    operations = [each.eval() for each in operations]
    assert frequency_bound(operations, (2, 6, 6), Analysis(), EFFORT) is None


def test_proofs_that_take_too_long_are_not_tried(monkeypatch) -> None:
    operations = [conv(4, 4), nn.ReLU(), conv(4, 4)]
    cost = frequency_costs(operations, (4, 9, 9), Analysis())[-1]
    assert 1e5 < cost < math.inf
    monkeypatch.setattr(frequencies, "multipliers", None)  # is not called
    assert frequency_bound(operations, (4, 9, 9), Analysis(), cost / 2) is None
    with pytest.raises(TypeError, match="not callable"):
        frequency_bound(operations, (4, 9, 9), Analysis(), cost)


def test_paddings_that_repeat_pixels_are_refused() -> None:
    with pytest.raises(NotCertifiedError, match="repeats pixels"):
        frequency_bound([conv(2, 2, padding_mode="reflect")], (2, 6, 6), Analysis(), EFFORT)


@pytest.mark.parametrize("factor", [1e-160, 1e120, 1e200])
def test_numbers_that_overflow_prove_nothing(factor) -> None:
    """Products of entries that are not finite are no bounds: the larger of 0 and nan is 0 in Python."""
    first, last = conv(1, 2), conv(2, 1)
    for each in (first, last):
        each.weight.data *= factor
    shape, analysis = (1, 4, 4), Analysis()
    module = nn.Sequential(first, nn.ReLU(), last).eval()
    survey = _Survey(analysis, shape)
    assert survey.add(module)
    points = survey.points()
    assert points is not None
    circulant = _Circulant(module, analysis, survey, points)
    t = torch.ones(2, dtype=torch.float64)
    value = circulant.proved(1.0, t)
    eye = torch.eye(16, dtype=torch.float64).reshape(-1, *shape)
    least = torch.linalg.matrix_norm(first(eye).flatten(1) - first(0 * eye).flatten(1), 2).item()
    assert value is None or value >= least * min(1.0, factor)
    assert (value is None) == (factor > 1)
    assert circulant.proved(math.nan, t) is None
    assert circulant.proved(1.0, t * math.inf) is None
    assert circulant.proved(0.5, t * 0) is None


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_even_kernels_read_one_pixel_more_behind_than_before(mode) -> None:
    """A kernel of two taps, −½ at the pixel itself or at the next one, beside a shortcut."""
    for taps, constant in (([-0.5, 0.0], 0.5), ([0.0, -0.5], 1.5)):
        layer = nn.Conv1d(1, 1, 2, padding="same", padding_mode=mode, bias=False)
        layer.weight.data = torch.tensor(taps)[None, None]
        block = nn.Sequential(Residual(layer)).double().eval()
        eye = torch.eye(16, dtype=torch.float64)[:, None]
        true = torch.linalg.matrix_norm(block(eye).flatten(1), ord=2).item()
        assert true == pytest.approx(constant, abs=0.02)
        assert len(frequency_costs([block[0]], (1, 16), Analysis())) == 1
        found = frequency_bound([block[0]], (1, 16), Analysis(), EFFORT)
        assert found is not None
        assert true <= found.value <= constant + 1e-3


def test_costs_end_where_no_longer_one_has_a_proof() -> None:
    operations = [conv(2, 2).eval(), nn.ReLU(), nn.MaxPool2d(2), conv(2, 2).eval()]
    costs = frequency_costs(operations, (2, 6, 6), Analysis())
    assert len(costs) == 2
    assert costs[0] <= costs[1] < math.inf


def test_what_a_stride_rounds_grows_with_what_is_averaged() -> None:
    """Sums of two numbers over √2 are off by a part of their size: bounds of larger ones are larger."""
    strided = nn.Sequential(conv(1, 1, 2, stride=2, padding=0, padding_mode="circular")).eval()
    analysis = Analysis()
    survey = _Survey(analysis, (1, 4, 4))
    assert survey.add(strided)
    points = survey.points()
    assert points is not None
    circulant = _Circulant(strided, analysis, survey, points)
    matrix = torch.randn(3, 4, 1, 2, dtype=torch.complex128)
    for scale in (1.0, 2.0**20, 2.0**-20):
        state = _State(scale * matrix, torch.zeros(3), math.inf, (2, 2), False)
        after = circulant._dropped(state, (2, 2))
        largest = (scale * matrix).abs().square().sum(dim=(1, 2, 3)).sqrt()
        assert (after.error >= 2.0**-53 * largest).all()
        assert (after.error <= 2.0**-48 * largest).all()
        blocks = scale * matrix.unflatten(1, (2, 2))
        torch.testing.assert_close(after.matrix[:, 0], blocks.sum(dim=(1, 2)) / 2)
