"""What maps of matrices share."""

import pytest
import torch
from torch import nn

from lipnets.parametrizations import _dense
from lipnets.parametrizations._opaque import opaque


@pytest.mark.parametrize("shape", [(3, 5), (300, 255), (40, 256), (300, 384)])
def test_gram_matrices_are_those_of_products(shape) -> None:
    matrix = torch.randn(shape)
    product = _dense.gram(matrix)
    torch.testing.assert_close(product, matrix.mT @ matrix)
    torch.testing.assert_close(product, product.mT)


@pytest.mark.parametrize("size", [5, 384])
@pytest.mark.parametrize("sign", [1, -1])
def test_symmetric_and_skew_products_are_those_of_torch(size, sign) -> None:
    matrix, other = torch.randn(size, size), torch.randn(size, size)
    other = (other + sign * other.mT) @ matrix
    torch.testing.assert_close(_dense.gram(matrix, other, sign=sign), matrix.mT @ other)
    for view in (matrix, matrix.mT):
        torch.testing.assert_close(_dense.plus_transpose(view, sign), view + sign * view.mT)


@pytest.mark.parametrize("error", [1e-15, 1e-9, 1e-4, 1e-2])
def test_frames_are_corrected_and_do_not_exceed_1(error) -> None:
    frame = torch.linalg.qr(torch.randn(30, 20)).Q + error * torch.randn(30, 20) / 10
    values = torch.linalg.svdvals(_dense.polished(frame))
    assert values.max() <= 1 + 1e-14
    assert values.min() >= 1 - 1e-14


def test_errors_are_measured_in_units_of_rounding() -> None:
    frame = torch.linalg.qr(torch.randn(30, 20)).Q * (1 + 5e-9)
    assert _dense.error_of(frame) * 2**-52 == pytest.approx(1e-8, rel=1e-6)


def _square(weight: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    return weight**2, [weight]


_squares = opaque("square of a test", _square, lambda saved, grad: 2 * saved[0] * grad)


class Squares(nn.Module):
    """A module of the map."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return _squares(weight)


def test_opaque_maps_are_differentiable_also_where_they_are_compiled() -> None:
    weight = torch.randn(3, 4, requires_grad=True)
    expected = 2 * weight.detach()
    torch._dynamo.reset()
    for module in (Squares(), torch.compile(Squares(), backend="aot_eager", fullgraph=True)):
        out = module(weight)
        torch.testing.assert_close(out, weight**2)
        assert torch.equal(torch.autograd.grad(out.sum(), weight)[0], expected)


def test_opaque_maps_have_the_shape_of_their_input_without_values() -> None:
    assert _squares(torch.empty(3, 4, device="meta")).is_meta


def test_opaque_maps_make_nan_of_what_is_not_finite() -> None:
    weight = torch.tensor([[torch.inf, 1.0]], requires_grad=True)
    out = _squares(weight)
    out.sum().backward()
    assert out.isnan().all()
    assert weight.grad.isnan().all()


def test_names_of_opaque_maps_are_unique() -> None:
    with pytest.raises(ValueError, match="already a map"):
        opaque("square of a test", _square, lambda saved, grad: grad)
