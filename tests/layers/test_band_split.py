"""Branches on bands of frequencies, against Fourier transforms and Jacobians."""

import math

import pytest
import torch
from torch import nn

import lipnets
from lipnets import NotCertifiedError
from lipnets.layers import BandSplit, MaxMin, Scale, aol_conv2d

SIZES = [(6, 6), (5, 8), (24, 21)]


def branch() -> nn.Module:
    conv = aol_conv2d(2, 4, 3, padding=1)
    return nn.Sequential(conv, MaxMin(), aol_conv2d(4, 2, 3, padding=1)).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rolloff", [0.0, 0.05, 0.1])
def test_identities_on_all_bands_are_the_identity(rolloff, size) -> None:
    layer, x = BandSplit([nn.Identity()] * 3, (0.1, 0.3), "sum", rolloff), torch.randn(2, 3, *size)
    torch.testing.assert_close(layer(x), x)
    side = BandSplit([nn.Identity()] * 3, (0.1, 0.3), "cat", rolloff)(x)
    torch.testing.assert_close(side.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("size", SIZES)
def test_sharp_bands_are_projections_of_the_spectrum(size) -> None:
    x = torch.randn(2, 3, *size)
    rows, columns = (torch.fft.fftfreq(n) for n in size)
    low = torch.hypot(rows[:, None], columns) < 0.2
    bands = BandSplit([nn.Identity()] * 2, (0.2,), rolloff=0)(x).chunk(2, dim=1)
    torch.testing.assert_close(bands[0], torch.fft.ifft2(torch.fft.fft2(x) * low).real)
    torch.testing.assert_close(bands[1], torch.fft.ifft2(torch.fft.fft2(x) * ~low).real)


@pytest.mark.parametrize("combine", ["cat", "sum"])
@pytest.mark.parametrize("rolloff", [0.0, 0.1])
def test_the_constant_is_the_largest_of_the_branches(rolloff, combine) -> None:
    layer = BandSplit([Scale(0.3), Scale(-2.0), Scale(1.0)], (0.15, 0.3), combine, rolloff).eval()
    shape = (2, 6, 7)
    pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
    norm = torch.linalg.matrix_norm(layer(pixels).flatten(1), ord=2).item()
    bound = lipnets.lipschitz(layer, shape).value
    assert norm <= bound == pytest.approx(2)
    assert norm == pytest.approx(2, rel=0.05)  # frequencies in the middle of the band


@pytest.mark.parametrize("combine", ["cat", "sum"])
def test_branches_may_be_nonlinear(combine) -> None:
    layer = BandSplit([branch(), branch()], (0.2,), combine).eval()
    assert lipnets.lipschitz(layer, (2, 6, 6)).value <= 1 + 1e-6
    for _ in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda x: layer(x[None])[0], torch.randn(2, 6, 6)
        )
        assert torch.linalg.matrix_norm(jacobian.reshape(-1, 72), ord=2) <= 1 + 1e-6


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo
@pytest.mark.slow
def test_it_compiles_and_keeps_its_dtype() -> None:
    layer = BandSplit([nn.Identity(), Scale(2.0)], (0.2,), "sum")
    x = torch.randn(1, 2, 6, 5, requires_grad=True)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), layer(x))
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_branches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one branch more"):
        BandSplit([nn.Identity()], (0.2,))
    with pytest.raises(ValueError, match="at least one edge"):
        BandSplit([nn.Identity()], ())
    with pytest.raises(ValueError, match="'cat' or 'sum'"):
        BandSplit([nn.Identity()] * 2, (0.2,), "mean")
    layer = BandSplit([nn.Identity(), nn.AvgPool2d(2)], (0.2,), "sum").eval()
    with pytest.raises(ValueError, match="keep the size"):
        lipnets.lipschitz(layer, (2, 6, 6))
    with pytest.raises(NotCertifiedError, match="images with channels"):
        lipnets.lipschitz(BandSplit([nn.Identity()] * 2, (0.2,)).eval(), (6, 6))
    inplace = BandSplit([nn.ReLU(inplace=True), nn.Identity()], (0.2,)).eval()
    with pytest.raises(NotCertifiedError, match="inplace"):
        lipnets.lipschitz(inplace, (2, 6, 6))
