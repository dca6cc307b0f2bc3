"""Convex potential blocks, against explicit matrices of the maps they are made of."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import PotentialConv2d, PotentialLinear

CONVS = ["cpl_conv2d", "sll_conv2d"]
ALL = [*CONVS, "cpl_linear", "sll_linear"]


def matrix(linear: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of the linear part of a module, column by column."""
    with torch.no_grad():
        basis = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (linear(basis) - linear(torch.zeros(1, *shape))).flatten(1).mT


def geometries() -> list[dict[str, object]]:
    """Kernels, odd and even, with every padding that images keep their number of pixels under."""
    found: list[dict[str, object]] = [
        {"kernel_size": k, "padding": p, "dilation": d, "groups": g}
        for k, p, d, g in itertools.product(
            [1, 2, 3, (3, 2), (1, 4)], [0, 1, (2, 3), "same", "valid"], [1, 2, (1, 2)], [1, 2]
        )
    ]
    found += [
        {"kernel_size": k, "padding": "same", "dilation": d, "padding_mode": "circular"}
        for k, d in itertools.product([1, 2, 3, 4, (3, 2)], [1, 2, (2, 1)])
    ]
    found += [{"kernel_size": (3, 5), "padding": (1, 0), "padding_mode": "circular"}]
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_the_second_product_is_the_transpose_of_the_first_in_every_geometry() -> None:
    shape = (2, 8, 7)
    x = torch.randn(3, *shape)
    for given in geometries():
        block = PotentialConv2d(2, 2, hidden_channels=4, **given).eval()
        inner = matrix(block.inner, shape)
        hidden = block.inner(x).flatten(1).relu()
        expected = x - (hidden @ inner).view_as(x)
        torch.testing.assert_close(block(x), expected, msg=str(given))
        norm = torch.linalg.matrix_norm(inner, ord=2).item()
        assert max(1.0, norm**2 - 1) <= lipschitz(block, shape).value * (1 + 1e-12), given


def test_dense_blocks_compute_what_they_say() -> None:
    block = PotentialLinear(3, 3, hidden_features=5)
    x, w = torch.randn(2, 4, 3), block.inner.weight
    torch.testing.assert_close(block(x), x - (x @ w.mT + block.inner.bias).relu() @ w)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1.5, 3.0])
def test_the_bound_is_attained(scale) -> None:
    block = PotentialLinear(4, 4, hidden_features=6).eval()
    nn.init.zeros_(block.inner.bias)
    left, _, right = torch.linalg.svd(torch.randn(6, 4), full_matrices=False)
    values = torch.tensor([scale, 0.5, 0.2, 0.1])
    block.inner.weight.data = (left.abs() * values) @ right  # ReLU passes the first direction
    block.inner.weight.data *= scale / torch.linalg.matrix_norm(block.inner.weight, ord=2)
    x = torch.linalg.svd(block.inner.weight).Vh[:1]
    slopes = [
        torch.linalg.matrix_norm(torch.autograd.functional.jacobian(block, sign * x)[0, :, 0], 2)
        for sign in (100, -100)
    ]
    found = lipschitz(block, (4,)).value
    assert max(1.0, scale**2 - 1) <= found <= max(1.0, scale**2 - 1) * (1 + 1e-9)
    assert max(slopes) <= found * (1 + 1e-12)
    if scale > 1.5:
        assert max(slopes) >= found * (1 - 1e-9)


def test_secants_of_random_patterns_never_exceed_the_bound() -> None:
    for _ in range(200):
        w = torch.randn(5, 4) * 10 ** torch.empty(1).uniform_(-1, 1)
        pattern = torch.rand(5).round() if torch.rand(()) < 0.5 else torch.rand(5)
        secant = torch.eye(4) - w.mT @ (pattern[:, None] * w)
        bound = max(1.0, torch.linalg.matrix_norm(w, ord=2).item() ** 2 - 1)
        assert torch.linalg.matrix_norm(secant, ord=2) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("hidden", [1, 3, 8])
def test_sll_is_the_layer_of_its_paper(hidden) -> None:
    """X − 2AᵀT⁻¹ReLU(Ax + b) with T = diag(Σⱼ |AAᵀ|ᵢⱼ qⱼ / qᵢ), for any positive q."""
    block = layers.build("sll_linear", in_features=4, out_features=4, hidden_features=hidden)
    a, q = torch.randn(hidden, 4), torch.rand(hidden) + 0.1
    block.inner.parametrizations.weight.original.data = q[:, None] * a
    t = ((a @ a.mT).abs() * q / q[:, None]).sum(dim=1)
    b = torch.randn(hidden)
    block.inner.bias.data = (2 / t).sqrt() * b
    x = torch.randn(7, 4)
    expected = x - 2 * ((x @ a.mT + b).relu() / t) @ a
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_cpl_is_the_layer_of_its_paper() -> None:
    block = layers.build("cpl_linear", in_features=4, out_features=4)
    w, b, x = torch.randn(4, 4), torch.randn(4), torch.randn(7, 4)
    step = 2 / torch.linalg.matrix_norm(w, ord=2) ** 2
    block.inner.parametrizations.weight.original.data = w
    block.inner.bias.data = step.sqrt() * b
    expected = x - step * (x @ w.mT + b).relu() @ w
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", [{}, {"hidden_channels": 9}, {"dilation": 2, "padding": 2}])
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_name_blocks_are_1_lipschitz_and_not_much_less(name, given, dtype) -> None:
    given = {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **given}
    block = layers.build(name, **given, dtype=dtype).eval()
    for _ in range(2):
        plain = lipnets.export(block)
        assert lipschitz(plain, (8, 9, 9)).value <= 1 + 1e-6
        assert lipschitz(plain.inner, (8, 9, 9)).value > (1.3 if name == "cpl_conv2d" else 0.5)
        nn.init.normal_(block.inner.parametrizations.weight.original)


def test_groups_are_rescaled_apart() -> None:
    block = layers.build(
        "sll_conv2d", in_channels=4, out_channels=4, kernel_size=2, groups=2, hidden_channels=6
    )
    original = block.inner.parametrizations.weight.original
    nn.init.normal_(original)
    before = block.inner.weight.detach().clone()
    original.data[:3] *= 7
    torch.testing.assert_close(block.inner.weight, before)
    assert lipschitz(block.eval(), (4, 5, 5)).value <= 1 + 1e-12


@pytest.mark.parametrize("name", ALL)
def test_blocks_start_as_isometries(name) -> None:
    conv = name in CONVS
    given = {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": 1}
    given = given if conv else {"in_features": 3, "out_features": 3}
    block = layers.build(name, **given)
    x = torch.randn(5, 3, 4, 4) if conv else torch.randn(5, 3)
    norms = [y.flatten(1).norm(dim=1) for y in (x, block(x))]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "activation",
    [nn.Tanh(), nn.LeakyReLU(0.3), nn.ELU(), nn.Sigmoid(), nn.Identity(), nn.Softshrink()],
    ids=lambda activation: type(activation).__name__,
)
def test_activations_with_slopes_in_the_unit_interval_are_certified(activation) -> None:
    block = PotentialLinear(6, 6, hidden_features=20, activation=activation).eval()
    block.inner.weight.data *= 3
    bound = lipschitz(block, (6,)).value
    for scale in (0.1, 1, 10):
        slope = torch.autograd.functional.jacobian(block, scale * torch.randn(6))
        assert torch.linalg.matrix_norm(slope, ord=2) <= bound * (1 + 1e-12)


class Twice(nn.ReLU):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "activation", [nn.GELU(), nn.LeakyReLU(-0.1), nn.ELU(2.0), layers.MaxMin(), layers.Abs(), Twice()]
)  # fmt: skip
def test_other_activations_are_refused(activation) -> None:
    with pytest.raises(ValueError, match="slopes in"):
        PotentialLinear(4, 4, activation=activation)
    block = PotentialLinear(4, 4).eval()
    block.activation = activation.eval()
    with pytest.raises(NotCertifiedError):
        lipschitz(block, (4,))


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        *((name, {"out_channels": 6}, "keep the number of channels") for name in CONVS),
        *((name, {"stride": 2}, "sll_aoc_conv2d") for name in CONVS),
        *((name, {"padding_mode": "reflect"}, "repeats pixels") for name in CONVS),
        *((name, {"padding_mode": "circular", "padding": 2}, "repeat pixels") for name in CONVS),
        ("cpl_conv2d", {"groups": 2}, "one group"),
    ],
)
def test_refuses_what_it_cannot_constrain(name, given, why) -> None:
    given = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, **given}
    with pytest.raises(ValueError, match=why):
        layers.build(name, **given)


def test_dense_blocks_keep_the_number_of_features() -> None:
    with pytest.raises(ValueError, match="keep the number of features"):
        layers.build("sll_linear", in_features=4, out_features=5)


def test_hooks_and_training_inside_a_block_are_refused() -> None:
    block = PotentialLinear(4, 4).eval()
    handle = block.inner.register_forward_hook(lambda *_: None)
    with pytest.raises(NotCertifiedError, match="hooks"):
        lipschitz(block, (4,))
    handle.remove()
    block.activation.register_forward_hook(lambda *_: None)
    with pytest.raises(NotCertifiedError, match="hooks"):
        lipschitz(block, (4,))
