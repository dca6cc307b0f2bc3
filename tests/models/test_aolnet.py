"""The AOLNet family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.models import aolnet

TINY = {"patch": 2, "width": 6, "depth": 2, "channels": 2, "linear_depth": 2}


def test_layers_are_those_of_table_2() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("aolnet_s")
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    denses = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [conv.kernel_size for conv in convs] == [(1, 1), *[(3, 3)] * 12, (1, 1)]
    assert {conv.out_channels for conv in convs} == {192}
    assert [dense.weight.shape for dense in denses] == [(1024, 1024)] * 14
    assert type(model.backbone[-1]).__name__ == "ParametrizedLinear"  # no activation at the end


@pytest.mark.parametrize(
    ("name", "channels"), [("aolnet_s", 16), ("aolnet_m", 32), ("aolnet_l", 48)]
)
def test_parameters_are_those_of_table_2(name, channels) -> None:
    with torch.device("meta"):
        model = lipnets.create_model(name)
    convs = 48 * 192 + 12 * 9 * 192**2 + 192**2 + 14 * 192
    denses = 14 * ((64 * channels) ** 2 + 64 * channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == convs + denses


def test_pixels_of_a_patch_meet_in_the_first_convolution_alone() -> None:
    model = aolnet(in_chans=1, img_size=8, **{**TINY, "depth": 0, "linear_depth": 0})
    jacobian = torch.autograd.functional.jacobian(model.backbone, torch.rand(1, 1, 8, 8))
    seen = jacobian.view(2, 4, 4, 8, 8).abs().sum(dim=0) > 1e-12  # (rows, columns, pixels)
    for row in range(4):
        for column in range(4):
            patch = torch.zeros(8, 8, dtype=torch.bool)
            patch[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
            assert not (seen[row, column] & ~patch).any()


@pytest.mark.parametrize(("in_chans", "size"), [(1, 8), (1, 28), (3, (5, 9))])
def test_any_images_are_certified(in_chans, size) -> None:
    model = aolnet(7, in_chans, size, **TINY).eval()
    height, width = (size, size) if isinstance(size, int) else size
    model.load_state_dict({key: torch.randn_like(v) for key, v in model.state_dict().items()})
    images = torch.rand(2, in_chans, height, width)
    assert model(images).shape == (2, 7)
    assert lipnets.lipschitz(model, (in_chans, height, width)).value <= 1 + 1e-6
    logits = model.backbone(images)[:, :7]
    assert torch.equal(model(images), logits)


@pytest.mark.parametrize(
    "slots",
    [
        {"conv": "bcop_conv2d", "linear": "cayley_linear", "act": "abs"},
        {"conv": "cpl_conv2d", "linear": "sll_linear", "act": "relu", "width": 12},
        {"head": "unit_norm_linear", "act": {"name": "groupsort", "group_size": 3}},
    ],
)
def test_slots_take_other_layers(slots) -> None:
    model = aolnet(img_size=12, **{**TINY, **slots}).eval()
    assert model(torch.rand(2, 3, 12, 12)).shape == (2, 10)
    assert lipnets.lipschitz(model.backbone, (3, 12, 12)).value <= 1 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"channels": 7}, "from 1 to 'width', 6"),
        ({"channels": 0}, "from 1 to 'width', 6"),
        ({"num_classes": 100}, "from 1 to the 32 features"),
        ({"conv": "cpl_conv2d"}, "keep the number of channels"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        aolnet(img_size=8, **{**TINY, **arguments})
