"""Tests of the probe of bands: its numbers are those of the certificates, counted again."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from lipnets.certify import Certificate
from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, bands


@pytest.fixture
def smooth(split: Split) -> Subject:
    """A network whose first layer blurs: it hardly sees fine detail."""
    blur = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    blur.weight.data = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    model = nn.Sequential(nn.Sequential(blur, nn.ReLU(), nn.Flatten()), nn.Linear(36, 4))
    return Subject.of(model.eval(), split)


def test_shares_and_means_are_those_of_the_confined_certificates(smooth: Subject) -> None:
    records = list(bands(edges=(0.2, 0.4), radii=(0.0, 0.1), gradients=0)(smooth))
    found = {(r.details["begin"], r.details["end"]) for r in records}
    assert found == {(0.0, 0.2), (0.2, 0.4), (0.4, 1.0), (0.0, 1.0)}
    for record in records:
        band = (record.details["begin"], record.details["end"])
        whole = band == (0.0, 1.0)
        confined = smooth.certificate if whole else smooth.certificate.confined_to(band)
        radii = confined.radii(smooth.images, smooth.labels)
        if record.name == "band_mean_radius":
            expected = radii.clamp(0, 6).mean().item()
            assert record.value == pytest.approx(expected, rel=1e-6)
        else:
            assert record.value == (radii > record.details["radius"]).double().mean().item()


def test_what_a_network_blurs_is_certified_farther(smooth: Subject) -> None:
    means = {
        r.details["begin"]: r.value
        for r in bands(edges=(0.45,))(smooth)
        if r.name == "band_mean_radius"
    }
    assert means[0.45] > 2 * means[0.0]


def test_edges_beyond_the_corners_of_the_spectrum_are_left_out(smooth: Subject) -> None:
    records = list(bands(edges=(0.3, 0.8, 3.0), radii=(), gradients=0)(smooth))
    assert {r.details["begin"] for r in records} == {0.0, 0.3}
    with pytest.raises(ValueError, match="ascend"):
        bands(edges=(0.3, 0.2))
    with pytest.raises(ValueError, match="ascend"):
        bands(edges=(0.0, 0.2))


def test_images_that_are_too_large_yield_nothing(split: Split) -> None:
    images = torch.rand(4, 1, 65, 65, dtype=torch.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(65 * 65, 2)).eval()
    assert not list(bands()(Subject.of(model, Split(images, torch.tensor([0, 1, 0, 1])))))


def test_a_band_that_allowed_more_than_all_is_caught(
    smooth: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(certificate: Certificate, band: tuple[float, float]) -> Certificate:
        return Certificate(
            certificate.bound, certificate.slopes * 2, certificate.shape, {}, certificate.program
        )

    monkeypatch.setattr(Certificate, "confined_to", wrong)
    with pytest.raises(InvariantError, match="no more than all of them"):
        list(bands()(smooth))
    assert math.isfinite(smooth.radii.max().item())


def test_budgets_of_a_linear_network_are_attained(subject: Subject, model: nn.Sequential) -> None:
    records = list(bands(edges=(0.2, 0.4), radii=())(subject))
    weight = model[1].weight.detach().numpy().reshape(4, 6, 6)
    rho = np.hypot(*np.meshgrid(np.fft.fftfreq(6), np.fft.fftfreq(6)))
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0), (0.0, 1.0)):
        kept = np.fft.ifft2(np.fft.fft2(weight) * ((rho >= low) & (rho < high))).real
        norm = np.linalg.norm(kept.reshape(4, -1), ord=2)
        found = {
            r.name: r.value
            for r in records
            if (r.details.get("begin"), r.details.get("end")) == (low, high)
        }
        assert found["band_slope"] == pytest.approx(norm, rel=1e-9)
        assert norm <= found["band_bound"] <= norm * (1 + 1e-5)
        assert found["band_ratio"] == pytest.approx(1, rel=1e-5)


def test_a_band_whose_bound_is_exceeded_is_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bands.__globals__, "band_constant", lambda *arguments: 1e-3)
    with pytest.raises(InvariantError, match="within a band"):
        list(bands()(subject))


def test_budgets_of_colours_and_of_sides_that_differ() -> None:
    images = torch.rand(4, 3, 4, 6, dtype=torch.float32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).eval()
    records = bands(radii=())(Subject.of(model, Split(images, torch.tensor([0, 1, 2, 0]))))
    ratios = [r.value for r in records if r.name == "band_ratio"]
    assert ratios == pytest.approx([1] * len(ratios), rel=1e-5)


def test_slopes_are_the_largest_of_all_batches(smooth: Subject) -> None:
    def slopes(batch_size: int) -> list[float]:
        subject = dataclasses.replace(smooth, batch_size=batch_size)
        return [r.value for r in bands(edges=(0.2,))(subject) if r.name == "band_slope"]

    bent = nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 4)).eval()
    smooth = Subject.of(bent, smooth.split)
    assert slopes(1) == pytest.approx(slopes(60), rel=1e-9)
    assert slopes(7) == pytest.approx(slopes(60), rel=1e-9)
