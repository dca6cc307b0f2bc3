"""Gains per frequency against the responses of convolutions to waves."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lipnets import recorders
from lipnets.training import Step

SHAPE = (1, 16, 16)


def circular(channels: int = 1) -> nn.Conv2d:
    return nn.Conv2d(1, channels, 3, padding=1, padding_mode="circular", bias=False)


def test_gains_are_those_of_waves_through_the_convolution() -> None:
    """With one input channel, the norm of the symbol is the response to a complex wave."""
    conv = circular(3)
    model = nn.Sequential(conv)
    records = list(recorders.frequencies(model, SHAPE, bands=4)(Step(4, 0.5, model, SHAPE)))
    axis = torch.fft.fftfreq(16)
    bands, best = {}, (0.0, 0.0)
    at = torch.arange(16.0)
    for vertical in axis:
        for horizontal in axis:
            phase = 2 * torch.pi * (vertical * at[:, None] + horizontal * at)
            waves = torch.stack([phase.cos(), phase.sin()])[:, None]
            out = conv(waves).detach()  # of a complex wave, real and imaginary part
            gain = out[0].square().add(out[1].square()).sum(dim=0).mean().sqrt().item()
            radius = math.hypot(vertical.item(), horizontal.item())
            index = min(3, int(radius * 8 + 1e-9))
            bands[index] = max(bands.get(index, 0.0), gain)
            best = max(best, (gain, radius))
    found = {r.details["low"]: r.value for r in records if r.name == "gain/band"}
    assert found == pytest.approx({i / 8: value for i, value in bands.items()}, rel=1e-9)
    [peak] = [r for r in records if r.name == "gain/peak"]
    assert (peak.value, peak.unit) == (pytest.approx(best[1]), "cycles/pixel")
    assert {(r.step, r.epoch) for r in records} == {(4, 0.5)}
    high = {r.details["high"] for r in records if r.name == "gain/band"}
    assert high == {0.125, 0.25, 0.375, math.sqrt(2) / 2}


def test_a_low_pass_and_a_high_pass_peak_where_they_should() -> None:
    model = nn.Sequential(circular(), circular())
    with torch.no_grad():
        model[0].weight.fill_(1 / 9)
        model[1].weight.fill_(-1 / 9)
        model[1].weight[0, 0, 1, 1] += 1
    records = list(recorders.frequencies(model, SHAPE)(Step(0, 0.0, model, SHAPE)))
    peaks = {r.details["layer"]: r.value for r in records if r.name == "gain/peak"}
    assert peaks["0"] == 0
    assert peaks["1"] > 0.25
    gains = {
        (r.details["layer"], r.details["low"]): r.value for r in records if r.name != "gain/peak"
    }
    assert gains["0", 0.0] == pytest.approx(1)
    assert gains["1", 0.0] < 0.3 < gains["1", 0.375]


def test_weights_in_use_are_seen_of_the_model_that_is_trained_and_nothing_changes() -> None:
    model = nn.Sequential(spectral_norm(circular(2)), nn.Flatten(), nn.Linear(512, 2)).train()
    record = recorders.frequencies(model, SHAPE)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    other = nn.Sequential(circular(2))
    found = list(record(Step(0, 0.0, other, SHAPE, trained=model)))
    assert {r.details["role"] for r in found} == {"effective"}
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model[0].training
    model.eval()
    lens_values = (
        torch.fft.fft2(model[0].weight.detach(), s=(16, 16)).abs().square().sum(dim=(0, 1))
    )
    gains = [r.value for r in found if r.name == "gain/band"]
    assert max(gains) == pytest.approx(lens_values.max().sqrt().item(), rel=1e-9)


def test_large_kernels_are_decomposed_by_krylov_spaces(monkeypatch) -> None:
    conv = nn.Conv2d(6, 5, 3, stride=2, padding=1)
    model = nn.Sequential(conv)
    record = recorders.frequencies(model, (6, 8, 8), bands=3)
    exact = list(record(Step(0, 0.0, model, (6, 8, 8))))
    monkeypatch.setattr("lipnets.dynamics.terms._DECOMPOSED", 2)
    other = list(record(Step(0, 0.0, model, (6, 8, 8))))
    assert [r.value for r in other] == pytest.approx([r.value for r in exact], rel=1e-9)
