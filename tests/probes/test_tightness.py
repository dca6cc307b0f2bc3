"""Tests of the probe of the audit: against singular values."""

import dataclasses
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lipnets.attacks import steepest_pairs
from lipnets.bounds import Bound, Shape, rule
from lipnets.data import Split
from lipnets.layers import MaxMin
from lipnets.probes import InvariantError, Subject, tightness
from lipnets.records import Record


class Triple(nn.Module):
    """Multiplies by 3, and is believed to multiply by 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * x


@rule(Triple)
def triple(module: Triple, shape: Shape) -> Bound:
    return Bound(1.0, "wrong on purpose")


def test_bounds_and_slopes_of_linear_networks_are_singular_values(split: Split) -> None:
    first, head = nn.Linear(36, 5), nn.Linear(5, 4)
    backbone = nn.Sequential(nn.Flatten(), first)
    subject = Subject.of(nn.Sequential(OrderedDict(backbone=backbone, head=head)).eval(), split)
    records = [record for record in tightness()(subject) if record.name.startswith("audit/")]
    found = {(record.details["layer"], record.name): record.value for record in records}

    norm = {"backbone.1": first.weight, "head": head.weight}
    for layer, matrix in norm.items():
        singular = torch.linalg.matrix_norm(matrix, 2).item()
        assert found[layer, "audit/bound"] == pytest.approx(singular, rel=1e-9)
        assert found[layer, "audit/slope"] == pytest.approx(singular, rel=1e-3)
    product = torch.linalg.matrix_norm(head.weight @ first.weight, 2).item()
    assert found["network", "audit/slope"] == pytest.approx(product, rel=1e-3)
    bound = found["backbone.1", "audit/bound"] * found["head", "audit/bound"]
    assert found["network", "audit/bound"] == pytest.approx(bound, rel=1e-9)
    for layer in ("backbone.0", *norm, "network"):
        ratio = found[layer, "audit/slope"] / found[layer, "audit/bound"]
        assert found[layer, "audit/ratio"] == pytest.approx(ratio, rel=1e-12)


def test_bounds_are_proved_and_slopes_attained(subject: Subject) -> None:
    kinds = {record.name: record.details.get("kind") for record in tightness()(subject)}
    assert kinds["audit/bound"] == "proved"
    assert kinds["audit/slope"] == kinds["audit/ratio"] == "attained"


def test_a_rule_that_is_wrong_is_caught(split: Split) -> None:
    model = nn.Sequential(OrderedDict(backbone=nn.Sequential(nn.Flatten(), Triple())))
    model.add_module("head", nn.Linear(36, 4))
    subject = Subject.of(model.eval(), split)
    with pytest.raises(InvariantError, match=r"that of backbone\.1 is 3, above 1"):
        list(tightness()(subject))


def by_layer(records: list[Record], name: str) -> dict[str, Record]:
    return {r.details["layer"]: r for r in records if r.name == name}


def orthogonal(split: Split, twist: float = 1.0) -> Subject:
    """Orthogonal maps with MaxMin between them: gradients keep their norm everywhere."""
    maps = [nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 4)]
    with torch.no_grad():
        for each in maps:
            nn.init.orthogonal_(each.weight)
        maps[2].weight.mul_(twist)
    backbone = nn.Sequential(nn.Flatten(), maps[0], MaxMin(), maps[1])
    return Subject.of(nn.Sequential(OrderedDict(backbone=backbone, head=maps[2])).eval(), split)


def test_orthogonal_networks_attain_their_bound_by_every_method(split: Split) -> None:
    subject = orthogonal(split)
    records = list(tightness(pairs=100)(subject))
    ratios = by_layer(records, "audit/ratio")
    assert list(ratios)[-2:] == ["feature map", "network"]
    for record in ratios.values():
        assert record.value == pytest.approx(1, abs=1e-6)
    attained = [r for r in records if r.name == "attained_slope"]
    methods = {r.details["method"] for r in attained if r.details["layer"] == "network"}
    assert methods == {"jacobian", "pairs", "power"}
    for record in attained:
        assert record.value == pytest.approx(1, abs=5e-3)
        assert record.details["kind"] == "attained"
    (margin,) = [r for r in records if r.name == "attained_margin"]
    assert margin.value == pytest.approx(1, abs=1e-9)
    assert margin.details["slope"] == pytest.approx(2**0.5)


def test_margins_are_bounded_by_pairs_of_classes(split: Split) -> None:
    subject = orthogonal(split)
    slopes = subject.certificate.slopes.clone()
    slopes[1, 2] *= 0.9
    wrong = dataclasses.replace(subject.certificate, slopes=slopes)
    with pytest.raises(InvariantError, match=r"classes 1 and 2 is 1\.41421356, above 1\.27"):
        list(tightness()(dataclasses.replace(subject, certificate=wrong)))


class Steep(nn.Module):
    """Steep near black alone; no rule covers it."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.1 * x + torch.tanh(20 * (x - 0.05))


def test_networks_without_a_certificate_have_slopes_and_no_bound(split: Split) -> None:
    network = nn.Sequential(nn.Flatten(), Steep(), nn.Linear(36, 4)).eval()
    subject = Subject.of(network, split, refuse=False)
    records = list(tightness()(subject))
    assert {record.name for record in records} == {"audit/slope", "attained_slope"}
    (whole,) = [record for record in records if record.name == "audit/slope"]
    weight = network.get_submodule("2").weight.detach()
    points = torch.cat([subject.images.double().flatten(1)])
    slopes = [
        torch.linalg.matrix_norm(weight * (0.1 + 20 * (1 - torch.tanh(20 * (x - 0.05)) ** 2)), 2)
        for x in points
    ]
    assert whole.value >= float(torch.stack(slopes)[::2].median())
    assert whole.value <= 20.1 * float(torch.linalg.matrix_norm(weight, 2))


def test_pairs_find_the_norm_of_a_matrix_and_the_slope_of_a_step() -> None:
    matrix = nn.Linear(12, 7).eval()
    norm = float(torch.linalg.matrix_norm(matrix.weight.detach(), 2))
    found = steepest_pairs(matrix, torch.rand(3, 12), steps=300)
    assert bool((found <= norm * (1 + 1e-12)).all())
    assert found.tolist() == pytest.approx([norm] * 3, rel=1e-6)

    class Ramp(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.softplus(20 * x) / 10  # slope 2 far to the right, else 0

    found = steepest_pairs(Ramp().eval(), torch.full((1, 1), -0.3), steps=200)
    assert 1.9 < found.item() <= 2

    class Dead(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach() * 0

    assert steepest_pairs(Dead().eval(), torch.rand(2, 5)).tolist() == [0, 0]


def test_a_bound_a_little_below_the_slope_is_caught(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tightness.__globals__["audit"]

    def audit(*arguments: Any, **settings: Any) -> list[Any]:
        rows = inner(*arguments, **settings)
        return [dataclasses.replace(row, bound=row.bound * (1 - 1e-6)) for row in rows]

    subject = Subject.of(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval(), split)
    list(tightness(points=2, pairs=5)(subject))
    monkeypatch.setitem(tightness.__globals__, "audit", audit)
    with pytest.raises(InvariantError, match="no slope exceeds its bound"):
        list(tightness(points=2, pairs=5)(subject))


class Tiring(nn.Module):
    """Three times as steep when it is called for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (3.0 if self.calls == 1 else 1.0)


def test_the_steepest_pair_on_the_way_counts_not_the_last() -> None:
    assert steepest_pairs(Tiring().eval(), torch.rand(2, 5)).tolist() == pytest.approx([3, 3])


class Distant(nn.Module):
    """A shift so far that the sum rounds by a hundred-thousandth of the distance of a pair."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e9


def test_what_outputs_round_makes_no_pair_steeper_than_it_is() -> None:
    found = steepest_pairs(Distant().eval(), torch.rand(50, 1))
    assert bool((found <= 1).all())
    assert float(found.min()) > 0.9


def test_the_steepest_margin_is_the_largest_of_all_points(split: Split) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    subject = Subject.of(model, Split(split.images, split.labels % 3), limit=10)
    (record,) = (r for r in tightness(points=10, pairs=5)(subject) if r.name == "attained_margin")
    i, j = record.details["classes"]
    slopes = []
    for image in subject.images.double():
        rows = torch.autograd.functional.jacobian(model, image[None])[0].flatten(1)
        slopes.append((rows[i] - rows[j]).norm().item())
    assert max(slopes) > 1.01 * min(slopes)
    assert record.details["slope"] >= max(slopes) * (1 - 1e-9)
