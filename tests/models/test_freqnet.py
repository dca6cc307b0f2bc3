"""The FreqNet family."""

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets.layers import FilteredConv2d, band_gains
from lipnets.models.freqnet import freqnet

TINY = {"in_chans": 1, "img_size": 8, "width": 4, "depths": (1,)}


def radii(size: tuple[int, int]) -> Tensor:
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    return torch.hypot(rows[:, None], columns)


def confined(images: Tensor, low: float, high: float) -> Tensor:
    """The part of images in a band of frequencies, by the fast Fourier transform."""
    radius = radii(images.shape[-2:])
    inside = (radius >= low) & (radius < high)
    return torch.fft.ifft2(torch.fft.fft2(images) * inside).real


def random_weights(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize("front", [
    "radial_conv2d",
    {"name": "radial_conv2d", "conv": "bcop_conv2d"},
    {"name": "octave_conv2d", "rolloff": 0.0},
])  # fmt: skip
@pytest.mark.parametrize("budgets", [(1.0, 0.5, 0.25), (0.25, 0.0, 1.0)])
def test_proved_gains_of_each_band_obey_the_budgets(front, budgets) -> None:
    edges, size = (0.2, 0.4), (8, 10)
    model = freqnet(**{**TINY, "img_size": size}, edges=edges, budgets=budgets, front=front)
    plain = lipnets.export(random_weights(model), (1, *size)).double()
    found = band_gains(plain.backbone, (1, *size), edges)
    assert (found <= torch.tensor(budgets) * (1 + 1e-4)).all()
    assert lipnets.lipschitz(plain.backbone, (1, *size)).value <= 1 + 1e-4
    for low, high, gain in zip((0, *edges), (*edges, 1), found, strict=True):
        x, p = torch.rand(4, 1, *size), confined(torch.randn(4, 1, *size), low, high)
        moved = (plain.backbone(x + p) - plain.backbone(x)).norm(dim=1)
        assert (moved <= gain * p.flatten(1).norm(dim=1) + 1e-12).all()


def test_orthogonal_filters_attain_their_budgets() -> None:
    front = {"name": "radial_conv2d", "conv": "bcop_conv2d"}
    model = freqnet(**TINY, edges=(0.2,), budgets=(1.0, 0.5), front=front).eval()
    with torch.no_grad():
        filtered = next(m for m in model.modules() if isinstance(m, FilteredConv2d))
        filtered.responses[0].raw.fill_(40.0)  # sigmoids of 1
    first = lipnets.export(model, (1, 8, 8)).double().backbone[0]
    x = torch.randn(1, 1, 8, 8)
    # Between 0.15, the last knot of the curve below the edge, and 0.2 it falls.
    for low, high, budget in ((0, 0.15, 1.0), (0.2, 1, 0.5)):
        p = confined(x, low, high)
        torch.testing.assert_close((first(p) - first(0 * p)).norm(), budget * p.norm())


def test_standardization_divides_the_gains() -> None:
    model = freqnet(**TINY, mean=(0.5,), std=(0.25,), edges=(0.2,), budgets=(1.0, 0.5)).eval()
    plain = lipnets.export(model, (1, 8, 8)).double()
    found = band_gains(plain.backbone, (1, 8, 8), (0.2,))
    without = band_gains(plain.backbone[1:].eval(), (1, 8, 8), (0.2,))
    torch.testing.assert_close(found, 4 * without)


def test_a_band_without_budget_is_not_seen() -> None:
    model = freqnet(**TINY, edges=(0.3,), budgets=(1.0, 0.0)).eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model(x), model(confined(x, 0, 0.3)))
    assert not torch.allclose(model(x), model(confined(x, 0, 0.2)))


@pytest.mark.parametrize("arguments", [
    {"img_size": (9, 6), "in_chans": 3, "depths": (1, 2), "hidden": (6,)},
    {"conv": "bcop_conv2d", "linear": "aol_linear", "act": "relu", "head": "linear"},
    {"act": "abs", "head": "cayley_linear", "width": 6},
])  # fmt: skip
def test_other_sizes_and_layers_keep_the_constant(arguments) -> None:
    model = random_weights(freqnet(**{**TINY, **arguments}))
    shape = (arguments.get("in_chans", 1), *arguments.get("img_size", (8, 8)))
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    bound = lipnets.lipschitz(lipnets.export(model, shape).double().backbone, shape).value
    assert 0 < bound <= 1 + 1e-4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"budgets": (1.0, 0.5)}, "one more than edges"),
        ({"budgets": (2.0, 0.5, 0.5)}, "1-Lipschitz"),
        ({"edges": (0.3, 0.2)}, "increase"),
        ({"img_size": (2, 8)}, "kernel"),
        ({"front": "cayley_linear"}, "convolution"),
    ],
)
def test_what_cannot_be_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        freqnet(**{**TINY, **arguments})


def test_a_front_has_budgets() -> None:
    with pytest.raises(ValueError, match="takes no 'edges'"):
        freqnet(**TINY, front="bcop_conv2d")


def test_it_learns_within_its_budgets() -> None:
    model = freqnet(num_classes=2, **TINY, hidden=(8,), edges=(0.2,), budgets=(1.0, 0.1))
    images, labels = torch.rand(32, 1, 8, 8) / 4, torch.arange(32) % 2
    images[labels == 1, :, :, 4:] += 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(15):
        loss = nn.functional.cross_entropy(10 * model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    radii = lipnets.certified_radii(model.eval(), images, labels)
    assert (radii > 0.1).double().mean() > 0.9
    plain = lipnets.export(model, (1, 8, 8)).double()
    found = band_gains(plain.backbone, (1, 8, 8), (0.2,))
    assert (found <= torch.tensor([1.0, 0.1]) * (1 + 1e-4)).all()
