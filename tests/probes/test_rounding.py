"""Tests of the probe of rounding: what it says is lost, counted again from the radii."""

import pytest
import torch
from torch import nn

from lipnets import layers
from lipnets.data import Split
from lipnets.probes import Subject, rounding


def test_losses_and_shares_are_those_of_the_radii(subject: Subject) -> None:
    names = ("float64", "float32", "bfloat16")
    records = list(rounding(names, radii=(0.0, 0.02), limit=None)(subject))
    real = subject.certificate.unrounded(subject.logits, subject.labels)
    losses = {}
    for record in records:
        name = record.details["arithmetic"]
        radii = subject.certificate.radii(subject.images, subject.labels, arithmetic=name)
        if record.name == "rounding_loss":
            losses[name] = record.value
            lost = ((real - radii) / real)[real > 0].median().item()
            assert record.value == pytest.approx(lost, rel=1e-5)
            assert record.count == int((real > 0).sum())
        else:
            assert record.value == (radii > record.details["radius"]).double().mean().item()
    assert 0 < losses["float64"] < 1e-10 < losses["float32"] < 1e-2 < losses["bfloat16"] <= 1


def test_an_arithmetic_that_is_none_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="float64, float32, tf32"):
        rounding(arithmetics=("float8",))


def test_where_nothing_is_right_there_is_no_loss(subject: Subject) -> None:
    predicted = subject.logits.argmax(dim=1)
    subject.split.labels[:] = (predicted + 1) % 4
    assert not [r for r in rounding()(subject) if r.name == "rounding_loss"]
    assert torch.equal(subject.labels, (predicted + 1) % 4)


def test_an_arithmetic_that_is_refused_is_told_and_the_others_are_measured(split: Split) -> None:
    filtered = layers.build("radial_conv2d", in_channels=1, out_channels=1, kernel_size=3)
    model = nn.Sequential(nn.Sequential(filtered, nn.Flatten()), nn.Linear(36, 4)).eval()
    records = list(rounding(("float64", "bfloat16", "float32"))(Subject.of(model, split)))
    [refused] = [r for r in records if r.name == "rounding_refused"]
    assert refused.details["arithmetic"] == "bfloat16"
    assert "complex numbers" in refused.details["says"]
    assert {r.details["arithmetic"] for r in records} == {"float64", "bfloat16", "float32"}


def test_float32_says_what_its_products_are_here(subject: Subject) -> None:
    def said() -> set[str | None]:
        records = rounding(("float32", "float64"), limit=4)(subject)
        return {r.details.get("products") for r in records}

    before = torch.get_float32_matmul_precision()
    try:
        assert said() == {"float32", None}
        torch.set_float32_matmul_precision("medium")
        assert said() == {"bfloat16", None}
    finally:
        torch.set_float32_matmul_precision(before)
    assert said() == {"float32", None}


def test_assumptions_are_named(split: Split) -> None:
    for activation, expected in ((nn.Tanh(), ["R3"]), (nn.ReLU(), [])):
        body = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), activation)
        subject = Subject.of(nn.Sequential(body, nn.Linear(5, 4)).eval(), split)
        for record in rounding(("float64",))(subject):
            assert record.details["assumptions"] == expected
