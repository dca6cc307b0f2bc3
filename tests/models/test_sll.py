"""The SLL family: its sizes.  The network itself: `test_cpl.py`."""

import pytest
import torch

import lipnets


def parameters(name: str, **arguments: object) -> int:
    with torch.device("meta"):
        model = lipnets.create_model(name, **arguments)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("sll_s", 41), ("sll_m", 78), ("sll_l", 118), ("sll_xl", 236)]
)
@pytest.mark.parametrize("family", ["sll", "cpl"])
def test_parameters_are_those_of_the_paper(name, millions, family) -> None:
    assert parameters(name.replace("sll", family)) == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(("name", "millions"), [("sll_s", 165), ("sll_m", 314)])
def test_parameters_for_tiny_imagenet_are_those_of_the_paper(name, millions) -> None:
    found = parameters(name, img_size=64, num_classes=200)
    assert found == pytest.approx(millions * 1e6, rel=0.02)  # Wang & Manchester, 2023, table 2
