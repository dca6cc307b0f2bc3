"""Division by bounds from powers of the Gram matrix, against singular values and explicit matrices."""

import itertools
import math

import pytest
import torch
from torch import nn

from lipnets import layers
from lipnets.parametrizations import PIP


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 7), (7, 3), (1, 6), (40, 30)])
def test_matrices_have_norms_of_1_to_a_root_of_their_size(shape) -> None:
    for scale in (1e-30, 1.0, 1e30):
        norm = torch.linalg.matrix_norm(PIP()(scale * torch.randn(shape)), ord=2)
        assert min(shape) ** (-1 / 16) * (1 - 1e-9) <= norm <= 1


def test_orthogonal_matrices_stay_as_they_are() -> None:
    for shape in ((6, 6), (3, 8), (8, 3)):
        matrix = nn.init.orthogonal_(torch.empty(shape))
        torch.testing.assert_close(PIP()(5 * matrix), matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (3, 2), 5])
def test_convolutions_have_norms_of_1_at_the_most(kernel_size, stride) -> None:
    for groups, dilation in itertools.product((1, 2), (1, 2)):
        conv = layers.build(
            "pip_conv2d", in_channels=4, out_channels=2, kernel_size=kernel_size, stride=stride,
            dilation=dilation, groups=groups, bias=False, padding=1,
        )  # fmt: skip
        nn.init.normal_(conv.parametrizations.weight.original)
        pixels = torch.eye(4 * 144).reshape(-1, 4, 12, 12)
        with torch.no_grad():
            norm = torch.linalg.matrix_norm(conv(pixels).flatten(1), ord=2)
        assert 0.4 < norm <= 1


@pytest.mark.parametrize(
    ("shape", "stride", "groups"),
    [((4, 3), (), 1), ((3, 4), (), 1), ((3, 2, 3, 2), (), 1), ((2, 5, 3, 3), (2, 1), 1),
     ((4, 2, 3), (2,), 2), ((2, 2, 2, 2, 2), (), 1)],
)  # fmt: skip
def test_derivatives_are_those_of_finite_differences(shape, stride, groups) -> None:
    weight = torch.randn(shape, requires_grad=True)
    assert torch.autograd.gradcheck(PIP(stride, groups), (weight,))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3, 3)])
def test_zeros_stay_zeros_with_a_finite_gradient(shape) -> None:
    weight = torch.zeros(shape, requires_grad=True)
    out = PIP()(weight)
    out.sum().backward()
    assert not out.any()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_one_tap_is_bounded_without_a_grid() -> None:
    kernel = nn.init.orthogonal_(torch.empty(4, 4))[:, :, None, None]
    torch.testing.assert_close(PIP()(kernel), kernel, rtol=1e-12, atol=1e-12)
    moved = torch.zeros(4, 4, 3, 3)
    moved[:, :, 1:2, 1:2] = kernel
    expected = kernel * math.cos(math.pi / 8) ** 2  # grids of 8 points for polynomials of degree 2
    torch.testing.assert_close(PIP()(moved)[:, :, 1:2, 1:2], expected, rtol=1e-12, atol=1e-12)
