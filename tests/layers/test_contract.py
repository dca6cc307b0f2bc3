"""The contract of rules: whatever `lipschitz` certifies keeps every promise tested here."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import Bound, NotCertifiedError, bounds, layers, lipschitz
from lipnets.exact import Round
from lipnets.layers import Concat, Parallel, Residual, Scale, Standardize
from lipnets.layers.householder_activation import StoredHouseholder
from lipnets.operations import GroupNorms, Mask, PiecewiseLinear
from lipnets.program import Affine, AxisMaps, Gather

Shape = tuple[int, ...]


def filled(module: nn.Module, **values: object) -> nn.Module:
    """The module, with some tensors set."""
    for name, value in values.items():
        tensor = getattr(module, name)
        tensor.data = torch.as_tensor(value, dtype=tensor.dtype).expand_as(tensor).clone()
    return module


def batch_norm(module: nn.Module) -> nn.Module:
    return filled(module, running_var=[0.1, 2.0, 1.0], weight=[0.5, -4.0, 1.0], running_mean=3.0)


# name: (constructor, shape of an example, share of the bound that slopes attain)
CASES: dict[str, tuple[Callable[[], nn.Module], Shape, float]] = {
    "Identity": (nn.Identity, (7,), 1.0),
    "Flatten": (nn.Flatten, (2, 3, 4), 1.0),
    "Flatten, last axes": (lambda: nn.Flatten(2, -1), (2, 3, 4), 1.0),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), (6,), 1.0),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (2, 4, 6), 1.0),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (8, 2, 3), 1.0),
    "Permute": (lambda: layers.Permute(0, 3, 1, 2), (2, 4, 6), 1.0),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), (4, 2, 3), 1.0),
    "Dropout": (nn.Dropout, (7,), 1.0),
    "Dropout1d": (nn.Dropout1d, (3, 4), 1.0),
    "Dropout2d": (nn.Dropout2d, (3, 2, 2), 1.0),
    "Dropout3d": (nn.Dropout3d, (3, 2, 2, 1), 1.0),
    "AlphaDropout": (nn.AlphaDropout, (7,), 1.0),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout, (3, 2, 2), 1.0),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(2), (2, 3, 3), 1.0),
    "ZeroPad2d, cropping": (lambda: nn.ZeroPad2d(-1), (2, 4, 4), 1.0),
    "ConstantPad1d": (lambda: nn.ConstantPad1d((1, 3), 7.0), (2, 3), 1.0),
    "ReLU": (nn.ReLU, (7,), 1.0),
    "ReLU6": (nn.ReLU6, (7,), 1.0),
    "Hardtanh": (lambda: nn.Hardtanh(-0.5, 2.0), (9,), 1.0),
    "Tanh": (nn.Tanh, (7,), 0.9),
    "Softsign": (nn.Softsign, (7,), 0.9),
    "LogSigmoid": (nn.LogSigmoid, (7,), 0.8),
    "Softshrink": (nn.Softshrink, (9,), 1.0),
    "Tanhshrink": (nn.Tanhshrink, (9,), 0.6),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (7,), 1.0),
    "LeakyReLU, steep": (lambda: nn.LeakyReLU(-3.0), (7,), 1.0),
    "PReLU": (lambda: filled(nn.PReLU(3), weight=[0.1, -2.0, 1.0]), (3, 4), 1.0),
    "PReLU, flat": (lambda: nn.PReLU(), (5,), 1.0),
    "ELU": (lambda: nn.ELU(0.5), (7,), 1.0),
    "ELU, steep": (lambda: nn.ELU(3.0), (40,), 0.8),
    "Sigmoid": (nn.Sigmoid, (40,), 0.9),
    "Softplus": (lambda: nn.Softplus(beta=2.0), (7,), 0.9),
    "GELU": (nn.GELU, (40,), 0.97),
    "GELU, tanh": (lambda: nn.GELU(approximate="tanh"), (40,), 0.97),
    "SiLU": (nn.SiLU, (40,), 0.9),
    "Linear": (lambda: nn.Linear(6, 9), (6,), 1.0),
    "Linear, narrow": (lambda: nn.Linear(9, 2, bias=False), (9,), 1.0),
    "Linear on rows": (lambda: nn.Linear(3, 4), (2, 3), 1.0),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (4, 7), 0.8),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5), 0.8),
    "Conv2d, circular": (
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        (3, 5, 5),
        1.0,
    ),
    "Conv2d, odd size under a stride": (
        lambda: nn.Conv2d(2, 8, 3, 2, 1, padding_mode="circular"),
        (2, 5, 5),
        0.5,
    ),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 3, 3), 0.7),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 3, 3, 2), (4, 3), 0.8),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, 2), (4, 3, 3), 1.0),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 2, 2), (2, 2, 2, 2), 0.5),
    "BatchNorm1d": (lambda: batch_norm(nn.BatchNorm1d(3)), (3,), 1.0),
    "BatchNorm2d": (lambda: batch_norm(nn.BatchNorm2d(3)), (3, 2, 2), 1.0),
    "BatchNorm3d": (lambda: batch_norm(nn.BatchNorm3d(3)), (3, 2, 1, 2), 1.0),
    "BatchNorm2d, not affine": (
        lambda: filled(nn.BatchNorm2d(3, affine=False), running_var=[0.1, 2.0, 1.0]),
        (3, 2, 2),
        1.0,
    ),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), (2, 7), 1.0),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 4, 4), 1.0),
    "AvgPool3d": (lambda: nn.AvgPool3d(2, 1), (1, 3, 3, 3), 1.0),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 7), 1.0),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, None)), (2, 5, 3), 1.0),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), (1, 3, 4, 3), 1.0),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (2, 6), 1.0),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 4, 4), 1.0),
    "MaxPool2d, overlapping": (lambda: nn.MaxPool2d(3, 2, 1), (1, 5, 5), 0.7),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), (1, 4, 2, 2), 1.0),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(2), (2, 6), 1.0),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), (1, 5, 5), 0.5),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d(1), (1, 2, 2, 2), 1.0),
    "Sequential": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8)), (6,), 0.3),
    "Sequential, empty": (nn.Sequential, (6,), 1.0),
    "Residual": (lambda: Residual(nn.Linear(6, 6)), (6,), 0.5),
    "Residual, shortcut": (lambda: Residual(nn.Linear(6, 4), nn.Linear(6, 4)), (6,), 0.5),
    "Pointwise": (lambda: layers.Pointwise(nn.Linear(3, 4)), (3, 2, 3), 1.0),
    "Conjugate": (
        lambda: layers.Conjugate(nn.Linear(4, 3, bias=False), layers.SpatialShift2d()),
        (4, 2, 3),
        0.5,
    ),
    "ConvexResidual": (lambda: layers.ConvexResidual(Scale(3.0), 0.25), (5,), 1.0),
    "ConcatResidual": (lambda: layers.ConcatResidual(Scale(3.0), 0.25), (4, 2), 1.0),
    "Scale": (lambda: Scale(-3.0), (5,), 1.0),
    "Concat": (lambda: Concat(nn.Identity(), nn.ReLU(), Scale(2.0)), (4, 2), 1.0),
    "Parallel": (lambda: Parallel([Scale(0.5), nn.Linear(2, 3)], (3, 2)), (5,), 0.5),
    "Standardize": (lambda: Standardize((0.4, 0.5), (0.2, 0.3)), (2, 3, 3), 1.0),
    "Standardize, grey": (lambda: Standardize((0.4,), (0.2,)), (1, 3, 3), 1.0),
    "GroupSort, pairs": (lambda: layers.GroupSort(2), (4, 3, 3), 1.0),
    "GroupSort, all": (lambda: layers.GroupSort(8), (8,), 1.0),
    "MaxMin": (layers.MaxMin, (6, 2, 2), 1.0),
    "Abs": (layers.Abs, (6,), 1.0),
    "BandSplit": (lambda: layers.BandSplit([Scale(0.5), Scale(1.5)], (0.2,)), (2, 6, 6), 1.0),
    "Affine": (lambda: Affine(torch.randn(3, 1), torch.randn(2)), (3, 2), 1.0),
    "Affine, shift alone": (lambda: Affine(shift=torch.randn(3, 2)), (3, 2), 1.0),
    "Gather": (lambda: Gather(torch.tensor([0, 2, 0, -1]), (2, 2)), (3,), 1.0),
    "AxisMaps": (lambda: AxisMaps([torch.randn(4, 2), None, torch.randn(2, 3)]), (2, 2, 3), 1.0),
    "Round": (lambda: Round(8), (3,), 0.0),  # steps, whose slope is 0: how far they are is an error
    "PiecewiseLinear": (
        lambda: PiecewiseLinear(
            torch.randn(3, 4).sort(dim=1).values, torch.randn(3, 5), torch.randn(3)
        ),
        (3, 2),
        0.3,
    ),
    "PiecewiseLinear, one for all channels": (
        lambda: PiecewiseLinear(torch.zeros(1, 1), torch.tensor([[-0.5, 2.0]]), torch.ones(1)),
        (3, 2),
        1.0,
    ),
    "GroupNorms": (lambda: GroupNorms(2), (4, 2), 1.0),
    "TokenAverages": (
        lambda: layers.attention.TokenAverages(torch.tensor([1.5, 0.7])), (4, 3), 0.3,
    ),
    "Mask": (lambda: Mask(torch.tensor([[True, False], [False, True]])), (2, 2), 1.0),
    "StoredHouseholder": (lambda: StoredHouseholder(torch.randn(2, 3, 2)), (6, 2), 0.2),
    "StoredFilter2d": (lambda: layers.build("band_conv2d", in_channels=2, out_channels=3, kernel_size=3, high=0.3).materialize((2, 6, 6)), (2, 6, 6), 1.0),
}  # fmt: skip


def attained_slope(module: nn.Module, shape: Shape, points: int = 6) -> float:
    """Largest norm of the Jacobian at random points: no bound may be smaller."""
    largest = 0.0
    for scale in (0.3, 3.0):
        for x in scale * torch.randn(points, *shape):
            jacobian = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x)
            matrix = jacobian.reshape(-1, math.prod(shape))
            largest = max(largest, torch.linalg.matrix_norm(matrix, ord=2).item())
    return largest


@pytest.mark.parametrize(("build", "shape", "share"), CASES.values(), ids=CASES.keys())
def test_no_slope_exceeds_the_bound(build, shape, share) -> None:
    module = lipnets.export(build().double())
    found, slope = lipschitz(module, shape), attained_slope(module, shape)
    assert len(found.rule) > 8  # says why
    bound = found.value
    assert slope <= bound * (1 + 1e-12)  # the Jacobian itself rounds
    assert slope >= bound * share * (1 - 1e-6)


def test_every_rule_has_a_case() -> None:
    tested = {owner for build, _, _ in CASES.values() for owner in type(build()).__mro__}
    for name in layers.names():  # registered layers are held to test_zoo.py
        example = layers.build(name, **layers.card(name).arguments)
        plain = lipnets.export(example, layers.card(name).shape)  # what is tested there
        modules = (*example.modules(), *plain.modules())
        tested |= {owner for module in modules for owner in type(module).__mro__}
    ours = {owner for owner in bounds._RULES if not owner.__module__.startswith("test")}
    assert ours <= tested


def test_the_contract_catches_a_false_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, _ = bounds._RULES[nn.Linear]
    false = (forward, lambda module, shape: Bound(1e-3, "false"))
    monkeypatch.setitem(bounds._RULES, nn.Linear, false)
    with pytest.raises(AssertionError):
        test_no_slope_exceeds_the_bound(*CASES["Linear"])


def explicit_norm(module: nn.Module, shape: Shape) -> float:
    basis = torch.eye(math.prod(shape)).reshape(-1, *shape)
    return torch.linalg.matrix_norm(module(basis).flatten(1), ord=2).item()


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("ceil", [True, False])
def test_average_pooling_in_every_geometry(ceil, include) -> None:
    for k in range(1, 5):
        for s in range(1, 4):
            for p in range(k // 2 + 1):
                for n in (k, 5, 7):
                    module = nn.AvgPool1d(k, s, p, ceil, include).eval()
                    norm, bound = explicit_norm(module, (1, n)), lipschitz(module, (1, n)).value
                    assert norm * (1 - 1e-13) <= bound <= norm * (1 + 1e-9), module
    module = nn.AvgPool2d((3, 2), (2, 3), (1, 0), ceil, include).eval()
    assert lipschitz(module, (1, 6, 5)).value == pytest.approx(explicit_norm(module, (1, 6, 5)))


@pytest.mark.parametrize("override", [1, 3, -2])
def test_average_pooling_with_a_divisor_of_its_own(override) -> None:
    module = nn.AvgPool2d(3, 2, 1, divisor_override=override, ceil_mode=True).eval()
    norm = explicit_norm(module, (1, 5, 6))
    assert lipschitz(module, (1, 5, 6)).value == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("output", [1, 2, 3, 5, 8, 9])
def test_adaptive_average_pooling_in_every_geometry(output) -> None:
    for n in (1, 3, 5, 8):
        module = nn.AdaptiveAvgPool1d(output).eval()
        norm, bound = explicit_norm(module, (1, n)), lipschitz(module, (1, n)).value
        assert norm * (1 - 1e-13) <= bound <= norm * (1 + 1e-9)


def test_batch_norm_is_rounded_upwards_and_by_little() -> None:
    for _ in range(200):
        module = nn.BatchNorm1d(1, eps=1e-5).eval()
        module.weight.data.normal_()
        module.running_var.uniform_(0.01, 3)
        bound = Fraction(lipschitz(module, (1,)).value)
        variance = Fraction(module.running_var.item()) + Fraction(module.eps)
        exact = Fraction(module.weight.item()) ** 2 / variance
        assert exact <= bound**2 <= exact * (1 + Fraction(1, 10**14))


def test_softplus_is_certified_for_every_positive_beta() -> None:
    assert lipschitz(nn.Softplus(beta=0.25).eval(), (3,)).value == 1
    with pytest.raises(NotCertifiedError, match="beta"):
        lipschitz(nn.Softplus(beta=0).eval(), (3,))


def spike_slope(module: nn.Module, n: int) -> float:
    """What maximum pooling does to the pixel that dominates all others: attains its constant."""
    return max(module(10 * x[None, None]).gt(1).sum().item() for x in torch.eye(n)) ** 0.5


@pytest.mark.parametrize("ceil", [True, False])
def test_maximum_pooling_in_every_geometry(ceil) -> None:
    for k in range(1, 5):
        for s in range(1, 4):
            for p in range(k // 2 + 1):
                for d, n in itertools.product((1, 2), (1, 2, 3, 9)):
                    if n + 2 * p < d * (k - 1) + 1:
                        continue
                    module = nn.MaxPool1d(k, s, p, d, ceil_mode=ceil).eval()
                    expected = spike_slope(module, n)
                    assert lipschitz(module, (1, n)).value == pytest.approx(expected), module
    for sizes in (
        {"kernel_size": (2, 3), "stride": (3, 1)},
        {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)},
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)},
    ):
        module = nn.MaxPool2d(**sizes, ceil_mode=ceil).eval()
        spikes = 10 * torch.eye(36).reshape(36, 1, 6, 6)
        expected = max(module(x[None]).gt(1).sum().item() for x in spikes) ** 0.5
        assert lipschitz(module, (1, 6, 6)).value == pytest.approx(expected)


@pytest.mark.parametrize("output", [1, 2, 3, 5, 8])
def test_adaptive_maximum_pooling_in_every_geometry(output) -> None:
    for n in (3, 5, 8):
        module = nn.AdaptiveMaxPool1d(output).eval()
        assert lipschitz(module, (1, n)).value == pytest.approx(spike_slope(module, n))


def test_overlaps_of_adaptive_maximum_pooling_multiply_over_axes() -> None:
    module = nn.AdaptiveMaxPool2d(2).eval()
    spikes = 10 * torch.eye(15).reshape(15, 1, 3, 5)
    expected = max(module(x[None]).gt(1).sum().item() for x in spikes) ** 0.5
    assert expected == 2
    assert lipschitz(module, (1, 3, 5)).value == 2


def test_bounds_do_not_depend_on_the_default_dtype() -> None:
    pool, model = nn.AvgPool2d(3, 2, 1).eval(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    expected = [lipschitz(pool, (1, 5, 6)).value, lipschitz(model, (1, 5, 6)).value]
    torch.set_default_dtype(torch.float32)
    assert [lipschitz(pool, (1, 5, 6)).value, lipschitz(model, (1, 5, 6)).value] == expected


@pytest.mark.parametrize(
    "module", [nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU()], ids=["GELU", "tanh", "SiLU"]
)
def test_constants_of_smooth_activations_on_a_grid(module) -> None:
    """Between grid points of spacing h the slope exceeds theirs by max|f''| h / 2 at the most.

    |f''| < 1 for the three functions, and the slopes are within 1e-5 of 0 or 1 outside [-12, 12].
    """
    x = torch.linspace(-12, 12, 400_001).requires_grad_()
    (slopes,) = torch.autograd.grad(module(x).sum(), x)
    h = 24 / 400_000
    bound = lipschitz(module.eval(), (1,)).value
    largest = slopes.abs().max().item()
    assert largest <= bound <= largest + 1e-6
    interior = slopes.abs().topk(20).values[-1].item()  # flat at the top: f'' vanishes there
    assert largest - interior < h


def test_bounds_print_their_derivation() -> None:
    model = nn.Sequential(Scale(2.0), nn.Sequential(nn.ReLU(), Residual(Scale(-3.0)))).eval()
    assert str(lipschitz(model, (4,))).splitlines() == [
        "8           Sequential: product",
        "    2           Scale: |2|",
        "    4           Sequential: product",
        "        1           ReLU: slopes in [0, 1]",
        "        4           Residual: 1 + branch",
        "            3           Scale: |-3|",
    ]


def test_bounds_are_printed_rounded_upwards_and_layers_by_their_own_names() -> None:
    assert str(lipschitz(Scale(1.00000001).eval(), (4,))).startswith("1.0000001 ")
    layer = nn.utils.parametrizations.orthogonal(nn.Conv2d(2, 2, 1)).eval()
    assert " Conv2d: " in str(lipschitz(layer, (2, 3, 3)))


def test_combinators_compose_exactly() -> None:
    assert lipschitz(Residual(Scale(0.5)).eval(), (3,)).value == 1.5
    assert lipschitz(Concat(Scale(3.0), Scale(4.0)).eval(), (3,)).value == 5
    assert lipschitz(Parallel([Scale(3.0), Scale(4.0)], (1, 2)).eval(), (3,)).value == 4
    assert lipschitz(nn.Sequential(Scale(3.0), Scale(-4.0)).eval(), (3,)).value == 12


class Squared(nn.Linear):
    """A subclass that changes the function, hence loses the rule of its parent."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


class Doubled(nn.Conv2d):
    """A subclass that changes the function behind the back of forward."""

    def _conv_forward(self, *args: Tensor) -> Tensor:
        return 2 * super()._conv_forward(*args)


class Called(nn.Linear):
    """A subclass that changes what calling a module does."""

    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


class Computed(nn.Linear):
    """A subclass whose weight is another one when forward reads it."""

    @property
    def weight(self) -> Tensor:
        return 2 * self._parameters["weight"]


def computed() -> nn.Module:
    module = nn.Linear(3, 3).eval()
    module.__class__ = Computed
    return module


def linear(training: bool = False, hook: str = "", weight: float = 1.0) -> nn.Module:
    """A linear layer with one thing about it that no certificate may ignore."""
    module = nn.Linear(3, 3).train(training)
    if hook:
        getattr(module, hook)(lambda module, args, *out: None)
    nn.init.constant_(module.weight, weight)
    return module


def patched(name: str) -> nn.Module:
    module = nn.Conv2d(3, 3, 1).eval()
    setattr(module, name, lambda *args: args[0])
    return module


def changed(module: nn.Module, **attributes: object) -> nn.Module:
    """The module with attributes, parameters or buffers that it was not built with."""
    for name, value in attributes.items():
        setattr(module, name, value)
    return module.eval()


def ring(**attributes: object) -> nn.Module:
    return changed(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), **attributes)


WIDE = torch.zeros(3)  # where there should be one number, which would repeat images of one channel


@pytest.mark.parametrize(
    ("build", "shape", "why"),
    [
        (lambda: linear(training=True), (3,), "training mode"),
        (lambda: linear(hook="register_forward_hook"), (3,), "hooks"),
        (lambda: linear(hook="register_forward_pre_hook"), (3,), "hooks"),
        (lambda: linear(weight=math.nan), (3,), "not finite"),
        (lambda: linear(weight=math.inf), (3,), "not finite"),
        (lambda: linear(weight=1e308), (3,), "inf"),
        (lambda: nn.Linear(3, 3, device="meta").eval(), (3,), "meta device"),
        (lambda: nn.Linear(3, 3, dtype=torch.complex64).eval(), (3,), "complex64"),
        (lambda: nn.utils.spectral_norm(nn.Linear(3, 3)).eval(), (3,), "hooks"),
        (lambda: Squared(3, 3).eval(), (3,), "No rule bounds Squared"),
        (lambda: Doubled(3, 3, 1).eval(), (3, 2, 2), "overrides _conv_forward"),
        (lambda: Called(3, 3).eval(), (3,), "overrides __call__"),
        (computed, (3,), "overrides weight"),
        (lambda: patched("forward"), (3, 2, 2), "patched forward"),
        (lambda: patched("_conv_forward"), (3, 2, 2), "overrides _conv_forward"),
        (lambda: torch.compile(nn.Linear(3, 3).eval(), backend="eager"), (3,), "torch.compile"),
        (lambda: nn.Sequential(nn.Softmax(dim=1)).eval(), (3,), "No rule bounds Softmax"),
        (lambda: nn.Sequential(nn.ReLU().eval(), nn.Dropout()).eval().train(), (3,), "training"),
        (lambda: nn.Flatten(0).eval(), (3,), "mixes the examples"),
        (lambda: nn.Flatten(-2).eval(), (3,), "mixes the examples"),
        (lambda: nn.Softplus(threshold=5).eval(), (3,), "threshold"),
        (lambda: nn.Softplus(beta=-1).eval(), (3,), "beta"),
        (lambda: nn.BatchNorm1d(3, track_running_stats=False).eval(), (3,), "mixes the examples"),
        (lambda: filled(nn.BatchNorm1d(3), running_var=-1.0).eval(), (3,), "negative"),
        (lambda: filled(nn.BatchNorm1d(3, eps=0.0), running_var=0.0).eval(), (3,), "inf"),
        (lambda: nn.MaxPool1d(2, return_indices=True).eval(), (1, 4), "indices"),
        (lambda: nn.AdaptiveMaxPool1d(2, return_indices=True).eval(), (1, 4), "indices"),
        (lambda: Residual(nn.ReLU(inplace=True)).eval(), (3,), "overwrites"),
        (lambda: Concat(nn.Identity(), nn.ReLU(inplace=True)).eval(), (3,), "overwrites"),
        (lambda: Residual(nn.Linear(3, 1)).eval(), (3,), "keep the shape"),
        (lambda: Parallel([nn.ReLU()], (2,)).eval(), (3,), "split the 3"),
        (lambda: Standardize((0.0,) * 3, (1.0,) * 3).eval(), (1, 2, 2), "statistics of 3"),
        (lambda: changed(Standardize([0.0], [1.0]), mean=WIDE), (1, 2, 2), "statistics of 3"),
        (
            lambda: changed(Standardize([0.0], [1.0]), std=WIDE[None] + 1),
            (1, 2, 2),
            "statistics of 3",
        ),
        (lambda: Standardize([0.0], [1.0]).eval(), (), "statistics of 1"),
        (lambda: changed(layers.BatchCentering(1), running_mean=WIDE), (1, 2), "values of 3"),
        (lambda: changed(layers.BatchLipNorm(1), bias=nn.Parameter(WIDE)), (1, 2), "values of 3"),
        (
            lambda: changed(layers.LayerCentering(3), bias=nn.Parameter(torch.zeros(2, 3))),
            (1, 3),
            "a bias of",
        ),
        (lambda: changed(layers.SpatialShift2d(ratio=0.2), ratio=-0.2), (10, 3, 3), "'ratio'"),
        (lambda: layers.FirstChannels(3, 2).eval(), (), "single numbers"),
        (lambda: nn.ZeroPad2d((0, 0, 0, 0, 0, 0, 1, -1)).eval(), (1, 2, 2), "mixes the examples"),
        (lambda: ring(padding=(0, 0)), (1, 3, 3), "as it was built"),
        (
            lambda: ring(weight=nn.Parameter(torch.ones(1, 1, 5, 5))),
            (1, 5, 5),
            "'kernel_size' says",
        ),
        (
            lambda: changed(nn.ConvTranspose1d(1, 1, 3), weight=nn.Parameter(torch.ones(1, 1, 5))),
            (1, 4),
            "'kernel_size' says",
        ),
        (lambda: Scale(math.nan).eval(), (3,), "nan"),
        (lambda: nn.MaxPool2d(2, 1).eval(), (4, 4), "taken for one"),
        (lambda: nn.AvgPool1d(2).eval(), (4,), "taken for one"),
        (lambda: nn.AdaptiveAvgPool2d(2).eval(), (4, 4), "taken for one"),
        (lambda: nn.AdaptiveMaxPool2d(2).eval(), (4, 4), "taken for one"),
        (lambda: nn.Conv2d(1, 1, 3).eval(), (4, 4), "taken for one"),
        (lambda: nn.ConvTranspose1d(1, 1, 3).eval(), (4,), "taken for one"),
        (lambda: nn.PixelUnshuffle(2).eval(), (4, 4), "taken for one"),
    ],
)
def test_refuses_rather_than_guesses(build, shape, why) -> None:
    with pytest.raises(NotCertifiedError, match=why):
        lipschitz(build(), shape)


def test_global_hooks_are_refused() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: 2 * out)
    try:
        with pytest.raises(NotCertifiedError, match="hooks"):
            lipschitz(nn.ReLU().eval(), (3,))
    finally:
        handle.remove()


def test_a_forward_replaced_on_its_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: 2 * x)
    with pytest.raises(NotCertifiedError, match="patched"):
        lipschitz(nn.ReLU().eval(), (3,))


def test_parametrized_weights_are_read_as_forward_does() -> None:
    layer = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Scale(5.0))
    plain = torch.linalg.matrix_norm(layer.parametrizations.weight.original, ord=2).item()
    assert lipschitz(layer.eval(), (3,)).value == pytest.approx(5 * plain)


def test_a_parametrization_in_training_mode_is_refused() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)).eval()
    layer.parametrizations.weight[0].train()
    with pytest.raises(NotCertifiedError, match="training mode"):
        lipschitz(layer, (3,))


def test_a_class_has_one_rule_and_a_forward_of_its_own() -> None:
    with pytest.raises(ValueError, match="already has a rule"):
        lipnets.rule(nn.Linear)(lambda module, shape: Bound(1.0, "again"))
    with pytest.raises(ValueError, match="inherits its forward"):
        lipnets.rule(nn.ReLU6)(lambda module, shape: Bound(1.0, "of another"))


def test_examples_of_a_shape_that_does_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear does not take examples of shape \(4,\)"):
        lipschitz(nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval(), (4,))


@pytest.mark.slow
def test_torch_logs_no_traceback_of_an_error_that_is_told() -> None:
    code = "import lipnets; from torch import nn; m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())\n"
    code += "try: lipnets.lipschitz(m.eval(), (4,))\nexcept ValueError: print('told')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "told\n"
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_bound_is_finite_and_not_negative(value) -> None:
    with pytest.raises(NotCertifiedError):
        Bound(value, "impossible")


def test_layers_on_every_dtype_have_the_bound_of_their_values() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        layer = nn.Linear(5, 4).to(dtype).eval()
        same = nn.Linear(5, 4).double().eval()
        same.weight.data = layer.weight.data.double()
        assert lipschitz(layer, (5,)).value == lipschitz(same, (5,)).value
        chain = nn.Sequential(layer, nn.ReLU()).eval()
        assert lipschitz(chain, (5,)).value == lipschitz(same, (5,)).value


def test_constant_functions_have_the_bound_zero() -> None:
    assert lipschitz(Scale(0.0).eval(), (3,)).value == 0
    assert lipschitz(nn.Sequential(Scale(0.0), Scale(3.0)).eval(), (3,)).value == 0
