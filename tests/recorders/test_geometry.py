"""The recorder of the shape of weights and the slope of the network."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm

from lipnets import layers, recorders
from lipnets.data import Split
from lipnets.records import Record
from lipnets.runs import format_records, parse_records
from lipnets.training import Step

SHAPE = (1, 4, 4)


def network() -> nn.Sequential:
    conv = nn.Conv2d(1, 3, 3, padding=1)
    head = layers.build("unit_norm_linear", in_features=8, out_features=3)
    turn = orthogonal(nn.Linear(48, 8))
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Flatten(), turn, head).double()


def split(count: int = 40) -> Split:
    return Split(torch.rand(count, *SHAPE).float(), torch.randint(3, (count,)))


def named(records: list[Record], name: str) -> dict[str | None, float]:
    return {r.details.get("layer"): r.value for r in records if r.name == name}


def test_all_weights_in_use_are_measured() -> None:
    model = network()
    found = list(recorders.geometry(split())(Step(3, 0.5, model, SHAPE)))
    assert {(each.step, each.epoch) for each in found} == {(3, 0.5)}
    for name in ("largest", "smallest", "frobenius", "stable_rank", "condition"):
        assert set(named(found, f"geometry/{name}")) == {"0", "3", "4"}
    roles = {
        each.details["layer"]: each.details["role"] for each in found if "role" in each.details
    }
    assert roles == {"0": "free", "3": "effective", "4": "effective"}
    conv, turn = model[0], model[3]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(turn, nn.Linear)
    assert named(found, "geometry/orthogonality_defect")["3"] < 1e-12
    frobenius = named(found, "geometry/frobenius")
    assert frobenius["3"] == pytest.approx(math.sqrt(8))
    assert frobenius["0"] == pytest.approx(conv.weight.norm().item())
    # On a torus of 6 x 6 pixels: those of the image, and what the kernel reaches beyond.
    spectrum = torch.fft.fft2(conv.weight.detach(), (6, 6)).permute(2, 3, 0, 1)
    values = torch.linalg.svdvals(spectrum)
    assert named(found, "geometry/largest")["0"] == pytest.approx(values.max().item())
    assert named(found, "geometry/smallest")["0"] == pytest.approx(values.min().item())
    # Rows of norm 1 promise nothing about the matrix, and free weights nothing at all.
    slack = named(found, "geometry/slack")
    assert list(slack) == ["3"]
    assert slack["3"] == pytest.approx(0, abs=1e-12)
    assert not named(found, "geometry/update_ratio")


def test_the_slope_is_attained_and_below_the_bound() -> None:
    """Of an affine network, both are known: the norm of its matrix, and the product of two norms."""
    first, second = nn.Linear(16, 6), nn.Linear(6, 3)
    model = nn.Sequential(nn.Flatten(), first, second)
    examples = split()
    found = list(recorders.geometry(examples, limit=9)(Step(0, 0.0, model, SHAPE)))
    norm = torch.linalg.matrix_norm(second.weight @ first.weight, ord=2).item()
    product = math.prod(torch.linalg.svdvals(each.weight)[0].item() for each in (first, second))
    [slope] = [each for each in found if each.name == "slope/attained"]
    assert slope.count == 9
    assert norm * 0.97 < slope.value <= norm * (1 + 1e-12)
    assert named(found, "slope/tightness")[None] == pytest.approx(slope.value / product, rel=1e-6)


def test_active_units_and_updates_are_counted() -> None:
    model, examples = network(), split()
    record = recorders.geometry(examples, limit=20)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    with torch.no_grad():
        share = (model[0](examples.images[:20].double()) > 0).double().mean().item()
    assert named(found, "geometry/active") == {"1": share}
    before = [model[0].weight.detach().clone(), model[3].weight.detach().clone()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    state = copy.deepcopy(record.state_dict())
    found = list(record(Step(1, 0.0, model, SHAPE)))
    ratios = named(found, "geometry/update_ratio")
    for layer, old in (("0", before[0]), ("3", before[1])):
        now = model.get_submodule(layer).weight
        assert isinstance(now, torch.Tensor)
        assert ratios[layer] == pytest.approx(((now - old).norm() / old.norm()).item())
    resumed = recorders.geometry(examples, limit=20)
    resumed.load_state_dict(state)
    assert list(resumed(Step(1, 0.0, model, SHAPE))) == found
    assert set(
        named(list(record(Step(2, 0.0, model, SHAPE))), "geometry/update_ratio").values()
    ) == {0.0}


def test_weights_are_those_of_training_and_slopes_those_of_what_is_kept() -> None:
    trained, kept = network(), network()
    examples = split()
    both = list(recorders.geometry(examples)(Step(1, 0.0, kept, SHAPE, trained=trained)))
    one = list(recorders.geometry(examples)(Step(1, 0.0, trained, SHAPE)))
    other = list(recorders.geometry(examples)(Step(1, 0.0, kept, SHAPE)))
    weights = [each for each in both if each.name.startswith("geometry/")]
    assert weights == [each for each in one if each.name.startswith("geometry/")]
    assert both[-2:] == other[-2:] != one[-2:]


def test_zeros_give_numbers() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight.zero_()
    record = recorders.geometry(split())
    found = list(record(Step(0, 0.0, model, SHAPE)))
    assert not any(math.isnan(each.value) for each in found)
    assert named(found, "slope/attained")[None] == 0
    list(record(Step(1, 0.0, model, SHAPE)))
    assert named(list(record(Step(1, 0.0, model, SHAPE))), "geometry/update_ratio")["0"] == 0
    with torch.no_grad():
        model[0].weight[0] = 1
    assert named(list(record(Step(2, 0.0, model, SHAPE))), "geometry/update_ratio")["0"] == math.inf


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(training: bool, tmp_path) -> None:
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()),
        *(spectral_norm(nn.Linear(12, 4)), nn.Linear(4, 3)),
    )
    model.train(training)
    examples = split()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = list(recorders.geometry(examples)(Step(0, 0.0, model, SHAPE)))
    assert torch.equal(rng, torch.get_rng_state())
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(each, state[name]) for name, each in model.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in model.parameters())
    assert not any(each._forward_hooks for each in model.modules())
    assert parse_records(format_records(found), tmp_path) == found
    assert "geometry/slack" in {each.name for each in found}
