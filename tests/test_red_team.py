"""What a hostile reviewer found: certificates that were false, each with what broke it."""

import copy
import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from lipnets import Deployed, NotCertifiedError, certify, layers, lipschitz
from lipnets.bands import waves
from lipnets.exact import Round
from lipnets.program import lower
from lipnets.rounding import Analysis, Ball

# Images of which nothing is known


def tied() -> nn.Sequential:
    """Two logits that are equal on all images, up to the order of their sums."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False))
    model[1].weight.data = torch.eye(3)
    model[2].weight.data = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3 + 2.0**-53]])
    return model.eval()


def test_images_whose_squares_overflow_have_no_radius() -> None:
    """Their norm was taken to be 0, and so were rounding errors."""
    certificate = certify(tied(), (1, 1, 3))
    image = torch.tensor([[[[1e170, -1e170, 1e150]]]])
    logits = certificate.logits(image)
    exact = [
        sum(Fraction(w) * Fraction(x) for w, x in zip(row, image.flatten().tolist(), strict=True))
        for row in certificate.program[2].weight.tolist()  # pyright: ignore
    ]
    rounded = [abs(Fraction(a) - b) for a, b in zip(logits[0].tolist(), exact, strict=True)]
    assert float(max(rounded)) > 1e140  # far more than the margins a radius would stand on
    for label in (0, 1):
        assert certificate.radii(image, torch.tensor([label])).item() <= 0
    assert certificate.predict(image, 0.1).item() == -1


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_pixels_that_are_not_finite_are_not_hidden_by_an_activation(value) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Hardtanh(0, 1), nn.Linear(2, 2)).eval()
    certificate = certify(model, (1, 1, 2))
    image = torch.tensor([[[[value, 0.5]]]])
    label = certificate.logits(image).nan_to_num().argmax(dim=1)
    assert certificate.radii(image, label).item() == 0


# Formats that overflow


def test_perturbed_images_that_a_format_does_not_hold_have_no_radius() -> None:
    """A network of small constant has large radii, in which pixels are infinite in float16."""
    first, second = nn.Linear(6400, 4, bias=False), nn.Linear(4, 2)
    first.weight.data.zero_()[:2, 0] = torch.tensor([2.0**-12, -(2.0**-12)])
    second.weight.data = torch.eye(2, 4)
    second.bias.data = torch.tensor([1000.0, 0.0])
    certificate = certify(nn.Sequential(first, second).eval(), (6400,))
    image, label = torch.rand(1, 6400), torch.tensor([0])
    assert certificate.radii(image, label).item() > 70_000
    radius = certificate.radii(image, label, arithmetic="float16").item()
    assert 1000 < radius < 65_504
    half = copy.deepcopy(certificate.program).half()  # pyright: ignore
    for length, changes in ((radius, False), (70_000.0, True)):
        moved = image.clone()
        moved[0, 0] -= length
        yes, no = half(moved.half())[0].tolist()
        assert (not yes >= no) == changes


@pytest.mark.parametrize("slope", [1e5, -1e5])
def test_slopes_that_a_format_does_not_hold_bound_nothing(slope) -> None:
    layer = nn.PReLU(1, init=slope).eval()
    x = torch.full((1, 2), -0.01)
    assert not copy.deepcopy(layer).half()(x.half()).isfinite().any()
    assert Analysis("float16")(layer, (2,), Ball(norm=0.1)).error == math.inf
    assert Analysis("float32")(layer, (2,), Ball(norm=0.1)).error < 1


@pytest.mark.parametrize(("name", "bits"), [("float32", 130), ("bfloat16", 128)])
def test_grids_that_a_format_has_no_powers_of_two_for_are_not_exact(name, bits) -> None:
    program = nn.Sequential(nn.Linear(2, 2, bias=False), Round(bits)).eval()
    program[0].weight.data = 2.0**-18 * torch.eye(2)
    analysis = Analysis(name)
    low = copy.deepcopy(program).to(analysis.arithmetic.dtype)
    x = torch.full((1, 2), 0.7)
    off = (low(x.to(analysis.arithmetic.dtype)).double() - x * 2.0**-18).norm()
    assert analysis(program, (2,), Ball(norm=1.0)).error == math.inf
    assert not off.isfinite()


# What was changed after it was certified


def classifier() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 3)).eval()


CHANGES = {
    "longer": lambda program: program[0].weight.data.mul_(1000),
    "signs": lambda program: program[2].weight.data.neg_(),
    "rows": lambda program: program[2].weight.data.copy_(program[2].weight.data.flip(0)),
    "one": lambda program: program[2].bias.data[0].add_(2.0**-40),
    "format": lambda program: program.float(),
    "setting": lambda program: setattr(program[0], "padding_mode", "circular"),
    "hook": lambda program: program[0].register_forward_hook(lambda m, a, out: 9 * out),
    "patch": lambda program: setattr(program[0], "forward", lambda x: torch.cat([x, x], 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_program_that_was_changed_is_not_certified_by_what_it_was(change) -> None:
    certificate = certify(classifier(), (1, 4, 4))
    images = torch.rand(4, 1, 4, 4)
    logits = certificate.logits(images)
    labels = logits.argmax(dim=1)
    certificate.radii(images, labels)
    change(certificate.program)
    for claim in (
        lambda: certificate.radii_of(logits, labels),
        lambda: certificate.local_radii(images, labels),
        lambda: certificate.confined_to((0.1, 0.3)),
        certificate.tightened,
        lambda: Deployed(certificate),
    ):
        with pytest.raises(NotCertifiedError, match="was changed"):
            claim()


def test_a_program_that_was_moved_or_read_is_the_same() -> None:
    certificate = certify(classifier(), (1, 4, 4))
    images = torch.rand(4, 1, 4, 4)
    labels = certificate.logits(images).argmax(dim=1)
    before = certificate.radii(images, labels)
    certificate.program.to("cpu").double().requires_grad_(False)  # pyright: ignore
    assert torch.equal(certificate.radii(images, labels), before)


# Deployed


def test_images_of_another_size_are_refused() -> None:
    deployed = Deployed(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval(), (1, 2, 2))
    with pytest.raises(ValueError, match="should have shape"):
        deployed(torch.rand(1, 1, 4, 4))  # four of its examples


@pytest.mark.parametrize("place", ["conv", "matmul"])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_every_setting_of_lower_precision_is_refused(place, precision) -> None:
    deployed = Deployed(classifier(), (1, 4, 4))
    images = torch.rand(2, 1, 4, 4)
    setting: Any = getattr(torch.backends.mkldnn, place, None)
    if not hasattr(setting, "fp32_precision"):
        pytest.skip("a torch of one family of settings")
    before = setting.fp32_precision
    setting.fp32_precision = precision
    try:
        with pytest.raises(NotCertifiedError, match="lower precision"):
            deployed(images)
    finally:
        setting.fp32_precision = before
    assert len(deployed(images)) == 2


# Bands


def test_a_frequency_at_the_edge_of_a_band_is_in_the_one_that_begins_there() -> None:
    """(1/3, 1/4) has the radius 5/12, which `math.hypot` gives as a little less."""
    assert math.hypot(1 / 3, 1 / 4) < 5 / 12
    edge = 5 / 12
    below, above = (len(waves((1, 3, 4), band)[0]) for band in ((0.4, edge), (edge, 0.43)))
    assert (below, above) == (0, 4)
    for height, width in ((3, 4), (12, 20), (15, 8), (5, 12)):
        edges = [0.0, 0.1, 13 / 60, 0.25, 5 / 12, 0.5, 1.0]
        counts = [len(waves((1, height, width), pair)[0]) for pair in pairwise(edges)]
        assert sum(counts) == height * width  # all, once


# Attributes that were changed since a layer was built


def changed(layer: nn.Module, name: str, value: Any) -> nn.Module:
    owner, _, attribute = name.rpartition(".")
    setattr(layer.get_submodule(owner), attribute, value)
    return layer.eval()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.PotentialConv2d(1, 1, 1, activation=nn.Identity()), (1, 2, 2)),
        (layers.SandwichConv2d(1, 1, 2, activation=nn.Identity()), (1, 6, 6)),
    ],
)
def test_blocks_with_a_stride_are_refused(layer, shape) -> None:
    """What they apply then is no adjoint: the constant was 3.7 where 1 was proved."""
    layer.inner.weight.data = torch.full_like(layer.inner.weight, 1.4)
    assert lipschitz(layer.eval(), shape).value < 50
    with pytest.raises(NotCertifiedError, match="stride 1"):
        lipschitz(changed(layer, "inner.stride", (2, 2)), shape)


@pytest.mark.parametrize("beta", [-0.25, 1.5])
def test_absolute_values_of_other_channels_than_the_first_are_refused(beta) -> None:
    """With −¼, the slopes of channels were taken for those of the identity."""
    with pytest.raises(NotCertifiedError, match="beta"):
        lipschitz(changed(layers.BetaAbs(), "beta", beta), (4,))


def test_a_bias_on_tokens_is_not_lost_by_lowering() -> None:
    mixer = changed(layers.TokenMixer(3, 4), "tokens.bias", nn.Parameter(torch.ones(3)))
    with pytest.raises(NotCertifiedError, match="bias"):
        lower(mixer, (3, 4))


# Modes, labels


def test_certificates_are_made_and_used_in_inference_mode() -> None:
    model, images = classifier(), torch.rand(2, 1, 4, 4)
    with torch.inference_mode():
        deployed = Deployed(model, (1, 4, 4))
        found = deployed(images)
    assert torch.equal(found, certify(model, (1, 4, 4)).logits(images).argmax(dim=1))
    assert torch.equal(found, deployed(images))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_are_integers_of_any_size(dtype) -> None:
    certificate = certify(classifier(), (1, 4, 4))
    images, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 1])
    for radii in (certificate.radii, certificate.local_radii):
        assert torch.equal(radii(images, labels.to(dtype)), radii(images, labels))


# Sentences


def test_examples_of_which_nothing_is_left_are_refused() -> None:
    with pytest.raises(NotCertifiedError, match="leaves nothing"):
        lower(nn.ConstantPad1d((-1, 0), 0.0).eval(), (4, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_default_dtype_does_not_enter_certificates(dtype) -> None:
    model = classifier()
    images = torch.rand(3, 1, 4, 4)
    want = certify(model, (1, 4, 4))
    labels = want.logits(images).argmax(dim=1)
    torch.set_default_dtype(dtype)  # the fixture of all tests sets it back
    found = certify(model, (1, 4, 4))
    assert torch.equal(found.slopes, want.slopes)
    for arithmetic in ("float64", "float32"):
        radii = [each.radii(images, labels, arithmetic=arithmetic) for each in (found, want)]
        assert torch.equal(*radii)
