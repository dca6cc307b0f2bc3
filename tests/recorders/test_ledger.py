"""Records of the ledger, and that the recorder goes on where it was."""

import copy
import math
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.optim import SGD

from lipnets import recorders
from lipnets.records import Record
from lipnets.training import Step

SHAPE = (2, 4, 4)


def network() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()),
        nn.Linear(48, 3),
    )


def take(model: nn.Module, optimizer: SGD, index: int) -> Step:
    draws = torch.Generator().manual_seed(index)
    images, labels = torch.randn(8, *SHAPE, generator=draws), torch.arange(8) % 3
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    return Step(index, index / 4, model, SHAPE, trained=model)


def recorded(lines: int = 5, number: int = 11, **options: int) -> list[Record]:
    torch.manual_seed(5)
    model = network()
    optimizer = SGD(model.parameters(), 0.05, weight_decay=0.01)
    record = recorders.build(
        "ledger", model=model, shape=SHAPE, lines=lines, optimizer=optimizer, **options
    )
    found = list(record(Step(0, 0.0, model, SHAPE)))
    for index in range(1, number + 1):
        found += record(take(model, optimizer, index))
    return found


def values(records: list[Record], step: int, **details: str) -> dict[str, float]:
    return {r.name: r.value for r in records if r.step == step and r.details == details}


def test_lines_are_cumulative_and_add_up() -> None:
    records = recorded()
    assert sorted({r.step for r in records}) == [0, 5, 10]
    terms = ("linear", "curvature", "square", "switch", "gain", "buffer")
    for layer in ({}, {"layer": "0", "role": "free"}, {"layer": "1", "role": "gain"}):
        first = values(records, 0, **layer)
        assert all(v == 0 for name, v in first.items() if name != "ledger/log_norm")
        for step in (5, 10):
            now = values(records, step, **layer)
            change = now["ledger/log_norm"] - first["ledger/log_norm"]
            assert sum(now.get(f"ledger/{t}", 0.0) for t in terms) == pytest.approx(
                change, abs=1e-4
            )
            assert abs(change) > 1e-3
    units = defaultdict(set)
    for record in records:
        units[record.unit].add(record.name)
    assert units["fraction"] == {"ledger/crowded"}
    assert units["nats"] == {f"ledger/{t}" for t in (*terms, "log_norm", "decay")}
    decay = values(records, 10)["ledger/decay"]
    assert decay == pytest.approx(-10 * 0.05 * 0.01 * 2, rel=0.02)  # two weights


def test_the_network_is_the_sum_over_what_is_in_use() -> None:
    records = [r for r in recorded() if r.step == 10]
    layers = [r.value for r in records if r.name == "ledger/log_norm" and r.details]
    assert len(layers) == 3
    assert values(records, 10)["ledger/log_norm"] == pytest.approx(sum(layers))


def test_the_measured_norm_is_that_of_the_weight() -> None:
    model = network()
    record = recorders.ledger(model, SHAPE, lines=1)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    norm = torch.linalg.matrix_norm(model[4].weight, 2).log().item()
    assert values(found, 0, layer="4", role="free")["ledger/log_norm"] == pytest.approx(norm)
    assert "ledger/decay" not in {r.name for r in found}  # no optimizer was given


def test_bands_are_recorded_beside_the_whole() -> None:
    records = [r for r in recorded(bands=2) if r.step == 10]
    bands = [r for r in records if r.name.startswith("ledger/band_")]
    assert {r.details["layer"] for r in bands} == {"0"}
    whole = values(records, 10, layer="0", role="free")["ledger/log_norm"]
    norms = {r.details["low"]: r.value for r in bands if r.name == "ledger/band_log_norm"}
    assert list(norms) == [0.0, 0.25]
    assert max(norms.values()) == pytest.approx(whole, rel=1e-6)


def test_records_that_nobody_reads_are_entered_all_the_same() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.05)
    record = recorders.ledger(model, SHAPE, lines=3, optimizer=optimizer)
    record(Step(0, 0.0, model, SHAPE))
    for index in (1, 2):
        record(take(model, optimizer, index))
    [line] = [
        r.value
        for r in record(take(model, optimizer, 3))
        if r.details.get("layer") == "4" and r.name == "ledger/log_norm"
    ]
    norm = torch.linalg.matrix_norm(model[4].weight, 2).log().item()
    assert line == pytest.approx(norm, rel=1e-9)


def test_the_recorder_goes_on_with_the_same_bits() -> None:
    def fresh() -> tuple[nn.Module, SGD, recorders.Recorder]:
        torch.manual_seed(3)
        model = network()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
        return model, optimizer, recorders.ledger(model, SHAPE, lines=2, optimizer=optimizer)

    model, optimizer, record = fresh()
    list(record(Step(0, 0.0, model, SHAPE)))
    straight = []
    for index in range(1, 9):
        straight += record(take(model, optimizer, index))
        if index == 3:
            kept = copy.deepcopy((model.state_dict(), optimizer.state_dict(), record.state_dict()))
    again, other, resumed = fresh()
    again.load_state_dict(kept[0])
    other.load_state_dict(kept[1])
    resumed.load_state_dict(kept[2])
    found = [r for index in range(4, 9) for r in resumed(take(again, other, index))]
    assert found == [r for r in straight if (r.step or 0) > 3]
    assert math.isfinite(found[-1].value)


def test_strides_enter_several_steps_as_one_and_still_close() -> None:
    records = recorded(lines=4, number=8, stride=2)
    assert sorted({r.step for r in records}) == [0, 4, 8]
    assert "ledger/decay" not in {r.name for r in records}  # is of single steps
    every = recorded(lines=4, number=8)
    for layer in ({}, {"layer": "4", "role": "free"}):
        coarse, fine = values(records, 8, **layer), values(every, 8, **layer)
        assert coarse["ledger/log_norm"] == pytest.approx(fine["ledger/log_norm"], rel=1e-9)
        assert coarse["ledger/linear"] == pytest.approx(fine["ledger/linear"], rel=0.05, abs=1e-3)
        assert coarse["ledger/linear"] != fine["ledger/linear"]


@pytest.mark.parametrize("wrong", [{"lines": 0}, {"lines": 1, "stride": 0}])
def test_a_number_of_steps_below_one_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="should be at least 1, got"):
        recorders.ledger(network(), SHAPE, **wrong)
