"""Maps to orthogonal matrices, each against the textbook."""

import math

import pytest
import torch
from torch import Tensor

from lipnets.parametrizations import (
    QR,
    Bjorck,
    Cayley,
    Cholesky,
    Exponential,
    Frobenius,
    Householder,
    NewtonSchulz,
)
from lipnets.parametrizations.newton_schulz import _minimax

SHAPES = [(4, 4), (6, 3), (3, 6), (1, 5), (5, 1), (1, 1)]
LARGE = [(200, 200), (300, 256), (256, 300), (520, 512)]
METHODS = [QR, Bjorck, Cayley, Cholesky, Exponential, Householder, NewtonSchulz]


def thin_qr(weight: Tensor) -> Tensor:
    """Gram and Schmidt, one column after another."""
    columns: list[Tensor] = []
    for column in weight.mT:
        rest = column - sum(((other @ column) * other for other in columns), torch.zeros(()))
        columns.append(rest / rest.norm())
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("method", [QR, Cholesky])
@pytest.mark.parametrize("shape", SHAPES)
def test_qr_and_cholesky_orthonormalize_as_gram_and_schmidt(method, shape) -> None:
    weight = torch.randn(shape)
    expected = thin_qr(weight) if shape[0] >= shape[1] else thin_qr(weight.mT).mT
    torch.testing.assert_close(method()(weight), expected)


@pytest.mark.parametrize("method", [NewtonSchulz, Bjorck])
@pytest.mark.parametrize("shape", SHAPES)
def test_polar_factors_are_those_of_the_singular_value_decomposition(method, shape) -> None:
    weight = torch.randn(shape)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(method()(weight), left @ right)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("shape", SHAPES)
def test_exponentials_are_those_of_torch(shape, scale) -> None:
    weight = scale * torch.randn(shape)
    rows, columns = max(shape), min(shape)
    square = torch.zeros(rows, rows)
    square[:, :columns] = weight if shape[0] >= shape[1] else weight.mT
    expected = torch.linalg.matrix_exp(square - square.mT)[:, :columns]
    expected = expected if shape[0] >= shape[1] else expected.mT
    torch.testing.assert_close(Exponential()(weight), expected, rtol=0, atol=1e-13 * (scale + 100))


@pytest.mark.parametrize("shape", SHAPES)
def test_householder_multiplies_reflections(shape) -> None:
    weight = torch.randn(shape)
    tall = weight if shape[0] >= shape[1] else weight.mT
    product = torch.eye(len(tall))
    for column in tall.mT:
        v = column / column.norm()
        product = product @ (torch.eye(len(tall)) - 2 * torch.outer(v, v))
    expected = product[:, : tall.shape[1]]
    expected = expected if shape[0] >= shape[1] else expected.mT
    torch.testing.assert_close(Householder()(weight), expected)


def test_a_vector_of_zeros_reflects_nothing() -> None:
    weight = torch.randn(4, 4)
    weight[:, 2] = 0
    torch.testing.assert_close(Householder()(weight)[:, :0], torch.zeros(4, 0))
    kept = Householder()(weight)
    torch.testing.assert_close(kept.mT @ kept, torch.eye(4))
    assert torch.linalg.det(kept).item() == pytest.approx(-1)  # three reflections


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", LARGE)
def test_large_matrices_in_float32_are_contractions_and_nearly_orthogonal(method, shape) -> None:
    values = torch.linalg.svdvals(method()(torch.randn(shape, dtype=torch.float32) / 16).double())
    assert values.max() <= 1 + 1e-6
    assert values.min() >= 1 - 1e-5


@pytest.mark.parametrize("method", [QR, Bjorck, Cholesky, NewtonSchulz])
@pytest.mark.parametrize("smallest", [1e-2, 1e-3])
def test_ill_conditioned_matrices_in_float32_end_orthogonal(method, smallest) -> None:
    left, right = (torch.linalg.qr(torch.randn(8, 8)).Q for _ in range(2))
    weight = (left * torch.logspace(0, math.log10(smallest), 8)) @ right
    values = torch.linalg.svdvals(method()(weight.float()).double())
    torch.testing.assert_close(values, torch.ones(8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 4), (260, 256)])
def test_gradients_in_float32_are_those_of_float64(method, shape) -> None:
    weight, grad = torch.randn(shape) / shape[0], torch.randn(shape)
    weight += torch.eye(*shape)
    found = []
    for dtype in (torch.float32, torch.float64):
        raw = weight.to(dtype).requires_grad_()
        method()(raw).backward(grad.to(dtype))
        found.append(raw.grad.double())
    assert (found[0] - found[1]).norm() < 1e-4 * found[1].norm()


@pytest.mark.parametrize("low", [1e-3, 0.03, 0.2, 0.6])
def test_quintics_are_minimax_up_to_their_scale(low) -> None:
    low = 2 ** (math.floor(8 * math.log2(low)) / 8)
    a, b, c, least = _minimax(round(8 * math.log2(low)))
    x = torch.linspace(low, 1, 20001)
    values = a * x + b * x**3 + c * x**5
    assert values.max().item() == pytest.approx(1)
    assert values.min().item() == pytest.approx(least)
    # Equioscillation at four points: both extremes are met twice.
    assert values[0].item() == pytest.approx(least)
    assert values[-1].item() == pytest.approx(1)
    inner = values[1:-1][(values[1:-1] - values[:-2]) * (values[1:-1] - values[2:]) > 0]
    torch.testing.assert_close(inner, torch.tensor([1.0, least]))


@pytest.mark.parametrize("shape", SHAPES)
def test_frobenius_divides_by_the_root_of_the_sum_of_squares(shape) -> None:
    weight = torch.randn(shape)
    norm = math.sqrt(sum(value**2 for value in weight.flatten().tolist()))
    torch.testing.assert_close(Frobenius()(1e-200 * weight), weight / norm)
    assert not Frobenius()(torch.zeros(shape)).any()
