"""Tests of the probe of the audit: against singular values."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from lipnets.bounds import Bound, Shape, rule
from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, tightness


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
