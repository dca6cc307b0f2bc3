"""Sandwich layers, against explicit matrices and worst patterns of their activations."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import SandwichConv2d, SandwichLinear


def matrix(linear: nn.Module, shape: tuple[int, ...]) -> Tensor:
    with torch.no_grad():
        basis = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (linear(basis) - linear(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.parametrize("hidden", [1, 3, 4, 9])
def test_no_pattern_of_slopes_exceeds_the_bound_and_some_attain_it(hidden) -> None:
    largest = 0.0
    for _ in range(20):
        layer = SandwichLinear(3, 2, hidden_features=hidden).eval()
        nn.init.normal_(layer.inner.weight)
        a, b = layer.inner.weight.detach().split([2, 3], dim=1)
        bound = lipschitz(layer, (3,)).value
        for pattern in itertools.product([0.0, 1.0], repeat=min(hidden, 4)):
            slopes = torch.tensor([*pattern, *[1.0] * (hidden - 4)])
            norm = torch.linalg.matrix_norm(a.mT @ (slopes[:, None] * b), ord=2).item()
            assert norm <= bound
            largest = max(largest, norm / bound)
    assert largest > 0.5


def test_the_bound_is_attained_where_the_halves_agree() -> None:
    layer = SandwichLinear(3, 3, bias=False).eval()
    half = nn.init.orthogonal_(torch.empty(3, 3)).abs()
    layer.inner.weight.data = torch.cat([half, half], dim=1)
    slope = torch.linalg.matrix_norm(half.mT @ half, ord=2).item()  # positive: ReLU passes all
    assert lipschitz(layer, (3,)).value == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(("ins", "outs", "hidden"), [(3, 4, None), (4, 3, 5), (3, 3, 8), (5, 2, 1)])
def test_it_is_the_layer_of_its_paper(ins, outs, hidden) -> None:
    """√2 AᵀΨσ(√2 Ψ⁻¹Bx + b) for ReLU, with orthonormal rows of [A, B]."""
    given = {"in_features": ins, "out_features": outs, "hidden_features": hidden}
    layer = layers.build("sandwich_linear", **given)
    joint = layer.inner.weight / 2**0.5
    if len(joint) <= ins + outs:
        torch.testing.assert_close(joint @ joint.mT, torch.eye(len(joint)), rtol=0, atol=1e-5)
    a, b = joint.split([outs, ins], dim=1)
    psi, bias, x = torch.rand(len(joint)) + 0.1, torch.randn(len(joint)), torch.randn(6, ins)
    layer.inner.bias.data = psi * bias
    hidden = (2**0.5 * (x @ b.mT) / psi + bias).relu()
    expected = 2**0.5 * (psi * hidden) @ a
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (1, 4)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_are_products_of_explicit_matrices(
    mode, kernel_size, dilation, padding
) -> None:
    layer = SandwichConv2d(
        2, 3, kernel_size, padding=padding, dilation=dilation, padding_mode=mode, hidden_channels=4
    ).eval()
    joint = matrix(layer.inner, (5, 7, 8))
    a, b = joint.split([3 * 56, 2 * 56], dim=1)
    x = torch.randn(2, 2, 7, 8)
    outs = lipnets.bounds.output_shape(layer.inner, (5, 7, 8))
    bias = layer.inner.bias[:, None, None].expand(outs).flatten()
    expected = ((x.flatten(1) @ b.mT + bias).relu() @ a).view(2, 3, 7, 8)
    torch.testing.assert_close(layer(x), expected)
    norm = torch.linalg.matrix_norm(joint, ord=2).item()
    assert norm**2 / 2 <= lipschitz(layer, (2, 7, 8)).value * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_name_layers_are_1_lipschitz_and_start_without_loss(dtype) -> None:
    conv = layers.build(
        "sandwich_conv2d", in_channels=6, out_channels=6, kernel_size=3, padding=1, dtype=dtype
    ).eval()
    x = torch.rand(2, 6, 5, 5, dtype=dtype)
    rotated = conv.activation(conv.inner._conv_forward(x, conv.inner.weight[:, 6:], None))
    torch.testing.assert_close(conv(x).norm(), rotated.norm(), rtol=1e-4, atol=0)
    dense = layers.build("sandwich_linear", in_features=6, out_features=6, dtype=dtype).eval()
    for layer, shape in ((conv, (6, 5, 5)), (dense, (6,))):
        for _ in range(2):
            assert 0.25 < lipschitz(lipnets.export(layer), shape).value <= 1 + 1e-6
            nn.init.normal_(layer.inner.parametrizations.weight.original)


def test_activations_without_such_slopes_are_refused() -> None:
    for build in (lambda: SandwichLinear(4, 4, activation=nn.GELU()),
                  lambda: SandwichConv2d(4, 4, 3, activation=layers.MaxMin())):  # fmt: skip
        with pytest.raises(ValueError, match="slopes in"):
            build()
    layer = SandwichLinear(4, 4).eval()
    layer.activation = nn.GELU().eval()
    with pytest.raises(NotCertifiedError):
        lipschitz(layer, (4,))


@pytest.mark.parametrize(
    ("given", "why"),
    [({"stride": 2}, "PixelUnshuffle"), ({"groups": 2}, "one group"),
     ({"padding_mode": "reflect"}, "repeats pixels")],
)  # fmt: skip
def test_refuses_what_it_cannot_constrain(given, why) -> None:
    with pytest.raises(ValueError, match=why):
        layers.build("sandwich_conv2d", in_channels=4, out_channels=4, kernel_size=3, **given)


def test_inputs_of_another_size_are_refused() -> None:
    for module, shape in ((SandwichLinear(4, 4), (5,)), (SandwichConv2d(2, 2, 3), (3, 5, 5))):
        with pytest.raises((ValueError, NotCertifiedError)):
            lipschitz(module.eval(), shape)
