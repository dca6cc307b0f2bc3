"""Certificates of bands of frequencies, against explicit matrices and attacks within the band."""

import math

import pytest
import torch
from torch import nn

from lipnets import NotCertifiedError, certify, create_model, layers, lipschitz
from lipnets.bands import band_constant, linear_part, split_linear, waves
from lipnets.export import export
from lipnets.program import Affine, lower

SHAPE = (2, 5, 6)
BANDS = [(0.0, 0.15), (0.15, 0.3), (0.3, 0.45), (0.45, 1.0)]


def projector(band: tuple[float, float], shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """The orthogonal projection to the band, by the FFT, as a matrix."""
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[1:])
    radius = torch.hypot(rows[:, None], columns)
    inside = (radius >= band[0]) & (radius < band[1])
    eye = torch.eye(math.prod(shape)).reshape(-1, *shape)
    return torch.fft.ifft2(torch.fft.fft2(eye) * inside).real.flatten(1).T


def matrix(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """The linear part of an affine map, column by column."""
    eye = torch.eye(math.prod(shape)).reshape(-1, *shape)
    return (module(eye) - module(torch.zeros(1, *shape))).flatten(1).T.detach()


def convolutional(padding_mode: str = "zeros", stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(2, 4, 3, stride, 1, padding_mode=padding_mode)
    affine = Affine(torch.rand(2, 1, 1) + 0.5, torch.rand(2, 1, 1))
    return nn.Sequential(affine, conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()


@pytest.mark.parametrize("shape", [SHAPE, (1, 4, 4), (3, 1, 7), (1, 2, 3)])
def test_waves_are_an_orthonormal_basis_of_each_band(shape) -> None:
    found = 0
    for band in BANDS:
        basis, error = waves(shape, band)
        flat = basis.flatten(1)
        assert torch.allclose(flat @ flat.T, torch.eye(len(flat)), atol=1e-14)
        assert torch.allclose(flat.T @ flat, projector(band, shape), atol=1e-14)
        assert error < 1e-13
        found += len(flat)
    assert found == math.prod(shape)  # every frequency is in one of them


def test_waves_are_as_close_to_the_truth_as_they_say(monkeypatch) -> None:
    flint = pytest.importorskip("flint")
    monkeypatch.setattr(flint.ctx, "prec", 200)
    basis, error = waves((1, 6, 7), (0.2, 0.3))
    total, found = 0.0, 0
    for wave in basis[:, 0]:
        best = math.inf
        for j in range(6):
            for k in range(7):
                for function in ("cos", "sin"):
                    off = 0.0
                    for a in range(6):
                        for b in range(7):
                            angle = 2 * (flint.arb(j * a) / 6 + flint.arb(k * b) / 7)
                            true = getattr(angle, f"{function}_pi")() * (flint.arb(2) / 42).sqrt()
                            off += float(abs(true - flint.arb(wave[a, b].item())).upper()) ** 2
                    best = min(best, off)
        assert best < 1e-28  # it is one of them
        total, found = total + best, found + 1
    assert found
    assert math.sqrt(total) <= error


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("band", BANDS)
def test_the_constant_of_a_band_is_the_norm_of_the_linear_part_on_it(
    padding_mode, stride, band
) -> None:
    model = convolutional(padding_mode, stride)
    model(torch.zeros(1, *SHAPE))
    program = lower(export(model, SHAPE).double(), SHAPE)
    first, rest = split_linear(program)
    assert type(rest[0]) is nn.ReLU
    linear = nn.Sequential(*first)
    norm = torch.linalg.matrix_norm(matrix(linear) @ projector(band), 2).item()
    after = linear(torch.zeros(1, *SHAPE)).shape[1:]
    factor = lipschitz(nn.Sequential(*rest).eval(), tuple(after)).value

    constant = band_constant(program, SHAPE, band)

    assert norm * factor * (1 - 1e-12) <= constant <= norm * factor * (1 + 1e-9)
    assert constant <= lipschitz(program, SHAPE).value
    assert torch.allclose(matrix(linear_part(first)), matrix(linear))


def test_no_frequency_in_a_band_no_change() -> None:
    program = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    assert band_constant(lower(program, (1, 2, 2)), (1, 2, 2), (0.1, 0.2)) == 0


def test_a_network_that_begins_with_a_kink_has_the_constant_of_all() -> None:
    program = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)).eval()
    constant = band_constant(lower(program, (1, 2, 2)), (1, 2, 2), (0.0, 0.2))
    assert constant == pytest.approx(lipschitz(program, (1, 2, 2)).value)


def test_radii_of_bands_hold_against_attacks_in_the_band_and_exceed_those_of_all() -> None:
    """A first layer that passes coarse shapes only: fine detail cannot do much."""
    blur = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    blur.weight.data = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    head = nn.Linear(36, 3)
    model = nn.Sequential(nn.Sequential(blur, nn.Flatten()), head).eval()
    certificate = certify(model, (1, 6, 6))
    images = torch.rand(40, 1, 6, 6)
    labels = model(images).argmax(dim=1)
    whole = certificate.radii(images, labels)
    fine = certificate.confined_to((0.4, 1.0))
    radii = fine.radii(images, labels)
    assert (radii >= whole).all()
    assert radii.median() > 3 * whole.median()

    # The exact distance to a boundary, of a linear classifier within the band.
    linear = matrix(model, (1, 6, 6)) @ projector((0.4, 1.0), (1, 6, 6))
    logits = model(images)
    for i, y in enumerate(labels):
        gaps = (linear[y] - linear).norm(dim=1)
        distances = (logits[i, y] - logits[i]) / gaps
        distances[y] = math.inf
        assert radii[i] <= distances.min() * (1 + 1e-12)


@pytest.mark.parametrize("conv", ["radial_conv2d", "cayley_conv2d"])
def test_layers_that_multiply_frequencies_are_affine(conv) -> None:
    layer = layers.build(
        conv, in_channels=2, out_channels=3, kernel_size=3, padding_mode="circular"
    )
    program = lower(export(nn.Sequential(layer, nn.ReLU()).eval(), SHAPE).double(), SHAPE)
    first, rest = split_linear(program)
    assert len(first) == len(rest) == 1
    for band in BANDS:
        norm = torch.linalg.matrix_norm(matrix(first[0]) @ projector(band), 2).item()
        assert norm * (1 - 1e-12) <= band_constant(program, SHAPE, band) <= norm * (1 + 1e-9)


def test_a_band_of_the_zoo_is_certified() -> None:
    model = create_model("lipconvnet_xs", img_size=8, in_chans=1).eval()
    certificate = certify(model, (1, 8, 8))
    images = torch.rand(4, 1, 8, 8)
    labels = certificate.predict(images)
    for band in BANDS:
        confined = certificate.confined_to(band)
        assert (confined.slopes <= certificate.slopes).all()
        assert (confined.radii(images, labels) >= certificate.radii(images, labels)).all()


def test_what_is_no_band_and_no_image_is_refused() -> None:
    certificate = certify(nn.Sequential(nn.Linear(4, 2)).eval(), (4,))
    with pytest.raises(NotCertifiedError, match="of images"):
        certificate.confined_to((0.1, 0.2))
    with pytest.raises(ValueError, match="0 ≤ low < high"):
        certificate.confined_to((0.2, 0.1))
