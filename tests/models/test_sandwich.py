"""The sandwich family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import SandwichConv2d, SandwichLinear
from lipnets.models import sandwich

TINY = {"widths": (4, 6), "hidden": (8, 5)}


@pytest.mark.parametrize(
    ("name", "size", "classes", "millions"),
    [
        ("sandwich_s", 32, 100, 3),  # Wang & Manchester, 2023, table 2
        ("sandwich_m", 32, 100, 12),
        ("sandwich_l", 32, 100, 48),
        ("sandwich6", 32, 100, 26),  # section 5
        ("sandwich8", 64, 200, 39),
    ],
)
def test_parameters_are_those_of_the_paper(name, size, classes, millions) -> None:
    with torch.device("meta"):
        model = lipnets.create_model(name, img_size=size, num_classes=classes)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.02)


def test_layers_are_those_of_table_6() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("sandwich6", num_classes=100)
    convs = [module for module in model.backbone if isinstance(module, SandwichConv2d)]
    denses = [module for module in model.backbone if isinstance(module, SandwichLinear)]
    ins_outs = [(conv.in_channels, conv.out_channels) for conv in convs]
    assert ins_outs == [(3, 64), (256, 64), (64, 128), (512, 128), (128, 256), (1024, 256)]
    assert [conv.inner.kernel_size for conv in convs] == [(3, 3), (1, 1)] * 3
    sizes = [(dense.in_features, dense.out_features) for dense in denses]
    assert sizes == [(4096, 2048), (2048, 2048), (2048, 1024)]


@pytest.mark.parametrize(("in_chans", "size"), [(1, 8), (1, 28), (3, (5, 9))])
def test_any_images_are_certified(in_chans, size) -> None:
    model = sandwich(7, in_chans, size, **TINY).eval()
    height, width = (size, size) if isinstance(size, int) else size
    model.load_state_dict({key: torch.randn_like(v) for key, v in model.state_dict().items()})
    assert model(torch.rand(2, in_chans, height, width)).shape == (2, 7)
    assert lipnets.lipschitz(model.backbone, (in_chans, height, width)).value <= 1 + 1e-6


def test_jacobians_do_not_exceed_1_after_steps_of_training() -> None:
    model = sandwich(in_chans=1, img_size=8, **TINY)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(5):
        loss = nn.functional.cross_entropy(9 * model(torch.rand(8, 1, 8, 8)), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    backbone = lipnets.export(model.eval(), (1, 8, 8)).backbone
    assert lipnets.lipschitz(backbone, (1, 8, 8)).value <= 1 + 1e-6
    jacobian = torch.autograd.functional.jacobian(
        lambda x: backbone(x[None])[0], torch.rand(1, 8, 8)
    )
    assert torch.linalg.matrix_norm(jacobian.flatten(1), ord=2) <= 1 + 1e-9


def test_slots_take_other_layers() -> None:
    slots = {"conv": "bcop_conv2d", "linear": "aol_linear", "act": "maxmin", "head": "linear"}
    model = sandwich(img_size=8, **{**TINY, "hidden": (8, 4)}, **slots).eval()
    assert sum(type(module).__name__ == "MaxMin" for module in model.backbone) == 6
    assert lipnets.lipschitz(model.backbone, (3, 8, 8)).value <= 1 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"act": "maxmin"}, "slopes in"),
        ({"conv": "cpl_conv2d"}, "keep the number of channels"),
        ({"head": "first_channels", "num_classes": 6}, "5 features"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        sandwich(**{"img_size": 8, **TINY, **arguments})
