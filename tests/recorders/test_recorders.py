"""Recorders: what they say, and that they change nothing."""

import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lipnets import recorders
from lipnets.data import Split
from lipnets.records import Record
from lipnets.runs import format_records, parse_records
from lipnets.training import Step

SHAPE = (1, 2, 2)


def network() -> nn.Sequential:
    inner = nn.Sequential(OrderedDict(linear=nn.Linear(4, 4), act=nn.ReLU()))
    backbone = nn.Sequential(
        OrderedDict(flat=nn.Flatten(), inner=inner, turn=orthogonal(nn.Linear(4, 4)))
    )
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(4, 3)))


def step(index: int = 5, model: nn.Module | None = None, loss: float = 0.5) -> Step:
    model = network() if model is None else model
    return Step(index, index / 10, model, SHAPE, loss=loss, gradient_norm=2 * loss, lr=0.1)


def split(count: int = 20) -> Split:
    return Split(torch.rand(count, *SHAPE, dtype=torch.float32), torch.randint(3, (count,)))


def test_bounds_of_all_layers_are_recorded_by_qualified_name() -> None:
    model = network()
    network_bound, *layers = recorders.bounds()(step(model=model))
    found = {record.details["layer"]: record.value for record in layers}
    linear = model.get_submodule("backbone.inner.linear")
    assert list(found) == [
        *("backbone.flat", "backbone.inner.linear", "backbone.inner.act", "backbone.turn", "head")
    ]
    for name, layer in [("backbone.inner.linear", linear), ("head", model.get_submodule("head"))]:
        assert isinstance(layer, nn.Linear)
        norm = torch.linalg.svdvals(layer.weight)[0].item()
        assert norm <= found[name] <= norm * (1 + 1e-9)
    assert found["backbone.turn"] == pytest.approx(1.0, abs=1e-9)
    assert network_bound.value == pytest.approx(math.prod(found.values()), rel=1e-12)
    assert {(record.step, record.epoch) for record in layers} == {(5, 0.5)}
    assert [network_bound.name, {record.name for record in layers}] == [
        *("bound/network", {"bound/layer"})
    ]
    assert all(record.details["rule"] for record in layers)


def test_a_network_of_one_layer_is_recorded_as_well() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    records = list(recorders.bounds()(step(model=model)))
    assert [record.details.get("layer") for record in records] == [None, "0", "1"]


def test_accuracies_and_margins_are_those_of_a_linear_network() -> None:
    """Its radii are distances to hyperplanes, in closed form."""
    head = nn.Linear(4, 3)
    model = nn.Sequential(OrderedDict(backbone=nn.Sequential(nn.Flatten()), head=head))
    examples, radius = split(40), 0.05
    records = list(recorders.certified(examples, "test", radius=radius)(step(model=model)))

    weight, bias = head.weight.detach(), head.bias.detach()
    margins, radii = [], []
    for image, label in zip(examples.images.double().flatten(1), examples.labels, strict=True):
        others = [j for j in range(3) if j != label]
        logits = weight @ image + bias
        gaps = [(logits[label] - logits[j]).item() for j in others]
        norms = [(weight[label] - weight[j]).norm().item() for j in others]
        margins.append(min(gaps))
        radii.append(min(gap / norm for gap, norm in zip(gaps, norms, strict=True)))
    values = {(record.name, record.details.get("quantile")): record for record in records}
    assert values["test/accuracy", None].value == sum(m > 0 for m in margins) / 40
    certified = values["test/certified_accuracy", None]
    assert certified.value == sum(r > radius for r in radii) / 40
    assert certified.details == {"radius": radius}
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        rank = round(level * 39)
        margin, distance = sorted(margins)[rank], sorted(radii)[rank]
        assert values["test/margin", level].value == pytest.approx(margin, abs=1e-9)
        assert values["test/radius", level].value == pytest.approx(distance, abs=1e-9)
    assert {record.count for record in records} == {40}


def test_at_most_so_many_images_are_looked_at() -> None:
    records = recorders.certified(split(20), limit=7)(step())
    assert {record.count for record in records} == {7}


def test_losses_are_averaged_over_the_steps_since_the_last_record() -> None:
    record = recorders.loss(steps=3)
    model = network()
    found = [list(record(step(i, model, loss=float(i)))) for i in range(8)]
    assert [len(each) for each in found] == [0, 0, 0, 3, 0, 0, 3, 0]
    by_name = {each.name: each for each in found[6]}
    assert by_name["train/loss"].value == 5.0
    assert by_name["train/gradient_norm"].value == 10.0
    assert (by_name["learning_rate"].value, by_name["learning_rate"].step) == (0.1, 6)


def test_every_calls_at_multiples_and_at_the_last_step() -> None:
    called = []

    def recorder(step: Step) -> list[Record]:
        called.append(step.index)
        return [Record("a", 1.0, "1")]

    record = recorders.every(4, recorder, last=10)
    counts = [len(list(record(step(i)))) for i in range(11)]
    assert called == [0, 4, 8, 10]
    assert sum(counts) == 4
    with pytest.raises(ValueError, match="'steps' should be at least 1, got 0"):
        recorders.every(0, recorder)


@pytest.mark.parametrize(
    "recorder",
    [recorders.bounds(), recorders.certified(split()), recorders.loss(steps=1)],
    ids=["bounds", "certified", "loss"],
)
@pytest.mark.parametrize("training", [True, False])
def test_recorders_leave_weights_mode_and_randomness_alone(
    recorder: recorders.Recorder, training: bool, tmp_path: Path
) -> None:
    model = network().train(training)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    records = list(recorder(step(model=model)))
    assert records
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert parse_records(format_records(records), tmp_path) == records


def test_recorders_go_by_name() -> None:
    assert recorders.names() == [
        *("bounds", "certified", "drivers", "frequencies", "geometry", "ledger", "loss")
    ]
    assert list(recorders.build("loss", steps=1)(step()))
