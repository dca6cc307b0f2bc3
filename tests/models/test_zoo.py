"""Every variant by existing: what is published of it, and what its family promises."""

import copy
import inspect
import math
from functools import cache

import pytest
import torch
from torch import nn

import lipnets
from lipnets import models
from lipnets.layers import Standardize

FAMILIES = sorted({models.card(name).family for name in models.names()})


def parameters(name: str, **arguments: object) -> int:
    with torch.device("meta"):
        model = lipnets.create_model(name, **arguments)
    return sum(each.numel() for each in model.parameters())


@cache
def smallest(family: str) -> str:
    """The variant of a family with the fewest parameters, on small images."""
    names = [name for name in models.names() if models.card(name).family == family]
    return min(names, key=lambda name: parameters(name, in_chans=1, img_size=8))


TINY = {
    "width": 8,
    "depth": 2,
    "blocks": 2,
    "hidden": (6,),
    "embed_dim": 8,
    "num_heads": 2,
    "linear_depth": 1,
    "hidden_channels": 4,
    "hidden_features": 8,
    "channels": 4,
}


def build(family: str, **arguments: object) -> models.Network:
    """A tiny member of a family, for images of 1 × 8 × 8."""
    torch.manual_seed(0)
    taken = inspect.signature(models.registry[smallest(family)]).parameters
    tiny = {key: value for key, value in TINY.items() if key in taken}
    arguments = {"num_classes": 4, "in_chans": 1, "img_size": 8, **tiny, **arguments}
    return lipnets.create_model(smallest(family), **arguments)


PUBLISHED = [name for name in models.names() if models.card(name).variant.parameters]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name) -> None:
    published = models.card(name).variant.parameters
    assert parameters(name) == pytest.approx(published, rel=0.02)


def test_cards_say_where_results_are_from() -> None:
    for name in models.names():
        card = models.card(name)
        assert bool(card.paper) == bool(card.url)
        for result in card.variant.published:
            assert result.source
            assert result.clean is None or 0 < result.clean <= 100
            values = [
                result.clean or 100.0,
                *(result.certified[r] for r in sorted(result.certified)),
            ]
            assert values == sorted(values, reverse=True), f"{name} on {result.data}"


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_of_data_are_the_same_in_every_family(family) -> None:
    taken = inspect.signature(models.registry[smallest(family)]).parameters
    for name in ("num_classes", "in_chans", "img_size", "mean", "std", "head"):
        assert name in taken, name
        default = {"num_classes": 10, "in_chans": 3, "img_size": 32, "mean": None, "std": None}
        assert name == "head" or taken[name].default == default[name] or family == "resnet"


def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Some steps of training, large enough to leave the initialization."""
    optimizer = lipnets.optim.create_optimizer(model, _optimizer(model), lr=0.02)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(4 * model(images), labels).backward()
        optimizer.step()
    model.eval()


def _optimizer(model: nn.Module) -> str:
    try:
        lipnets.optim.create_optimizer(model, "adam", lr=0.02)
    except ValueError:  # weights on a manifold
        return "manifold_adam"
    return "adam"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_keeps_its_promise_before_and_after_training(family) -> None:
    model = build(family).eval()
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    promised = models.card(smallest(family)).guarantee == "1-Lipschitz"
    before = [each.detach().clone() for each in model.parameters()]
    for trained in (False, True):
        if trained:
            step(model, images, labels)
            moved = [
                not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)
            ]
            assert sum(moved) > len(moved) / 2, "most parameters should learn"
        plain = lipnets.export(model, (1, 8, 8)).double()
        bound = lipnets.lipschitz(plain.backbone, (1, 8, 8)).value
        assert bound <= 1 + 1e-4 or not promised
        x = torch.rand(2, 1, 8, 8)
        features = plain.backbone(x)
        assert (features[0] - features[1]).norm() <= bound * (x[0] - x[1]).norm() * (1 + 1e-9)
    certificate = lipnets.certify(model, (1, 8, 8))
    assert certificate.num_classes == 4
    assert math.isfinite(certificate.lipschitz)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_layer_is_steeper_than_its_bound(family) -> None:
    model = build(family).eval()
    for row in lipnets.audit(model, (1, 8, 8), steps=8):
        assert row.slope <= row.bound * (1 + 1e-9), row


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_states_exports_and_files_give_the_same_network(family, tmp_path) -> None:
    model, x = build(family).eval(), torch.rand(3, 1, 8, 8)
    expected = model(x)
    other = build(family)
    for each in other.parameters():
        nn.init.zeros_(each)
    other.load_state_dict(model.state_dict())
    model.save_pretrained(tmp_path)
    for same in (copy.deepcopy(model), other.eval(), lipnets.from_pretrained(tmp_path)):
        assert torch.equal(same(x), expected)
    exported = lipnets.export(model, (1, 8, 8))
    torch.testing.assert_close(exported(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 9, 14), (2, 32, 16)])
def test_images_of_any_shape_and_any_number_of_classes(family, shape) -> None:
    channels, *size = shape
    with torch.device("meta"):
        model = lipnets.create_model(
            smallest(family),
            num_classes=7,
            in_chans=channels,
            img_size=size,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
        )
        assert isinstance(model.backbone[0], Standardize)
        assert model.forward_features(torch.empty(2, *shape)).shape == (2, model.num_features)
        assert model(torch.empty(2, *shape)).shape == (2, 7)
        assert model.input_size == shape
        model.reset_classifier(0)
        assert model(torch.empty(2, *shape)).shape == (2, model.num_features)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_slot_takes_another_layer(family) -> None:
    """The signature names what can be exchanged: all defaults are, each for one of its kind, at once."""
    others = {
        "conv": "aol_conv2d",
        "linear": "spectral_linear",
        "act": "abs",
        "head": "cayley_linear",
    }
    taken = inspect.signature(models.registry[smallest(family)]).parameters
    slots = {slot: name for slot, name in others.items() if slot in taken}
    assert "head" in slots
    if "act" in slots and family in ("cpl", "sll", "sandwich"):
        with pytest.raises(ValueError, match=r"slopes in \[0, 1\]"):  # inside of blocks
            build(family, act=slots.pop("act"))
    model = build(family, **slots).eval()
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 4)
    assert lipnets.certify(model, (1, 8, 8)).lipschitz > 0
    for slot in slots:
        with pytest.raises(ValueError, match=r"needed here|No layer"):
            build(family, **{slot: "batch_centering"})
