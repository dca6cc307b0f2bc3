"""The CPL family, and what it shares with SLL."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import PotentialConv2d, PotentialLinear
from lipnets.models import cpl, sll

TINY = {"width": 4, "depth": 2, "hidden_channels": 3, "linear_depth": 2, "hidden_features": 5}
FAMILIES = pytest.mark.parametrize("family", [cpl, sll])


@FAMILIES
def test_blocks_keep_channels_and_the_pooling_keeps_a_pixel_of_a_patch(family) -> None:
    model = family(num_classes=7, img_size=(8, 12), **TINY)
    blocks = [m for m in model.backbone if isinstance(m, PotentialConv2d | PotentialLinear)]
    assert [tuple(block.inner.weight.shape) for block in blocks] == [
        *[(3, 4, 3, 3)] * 2,
        *[(5, 4 * 2 * 3)] * 2,
    ]
    assert model.num_features == 4 * 2 * 3
    assert model(torch.rand(2, 3, 8, 12)).shape == (2, 7)


@FAMILIES
def test_without_blocks_it_is_the_scaled_average_of_patches(family) -> None:
    model = family(img_size=8, **{**TINY, "depth": 0, "linear_depth": 0})
    images = torch.rand(2, 3, 8, 8)
    sums = images.unflatten(2, (2, 4)).unflatten(4, (2, 4)).sum(dim=(3, 5)) / 4
    expected = torch.cat([sums, torch.zeros(2, 1, 2, 2)], dim=1).flatten(1)
    torch.testing.assert_close(model.backbone(images), expected)


@FAMILIES
@pytest.mark.parametrize(("in_chans", "size"), [(1, 8), (1, 28), (3, (5, 9))])
def test_any_images_are_certified(family, in_chans, size) -> None:
    model = family(img_size=size, in_chans=in_chans, **TINY).eval()
    height, width = (size, size) if isinstance(size, int) else size
    model.load_state_dict({key: torch.randn_like(v) for key, v in model.state_dict().items()})
    assert lipnets.lipschitz(model.backbone, (in_chans, height, width)).value <= 1 + 1e-6


@FAMILIES
def test_jacobians_do_not_exceed_1_after_steps_of_training(family) -> None:
    model = family(in_chans=1, img_size=8, **TINY)
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


@pytest.mark.parametrize(
    "slots",
    [
        {"conv": "aol_conv2d", "act": "maxmin", "linear": "cayley_linear"},
        {"conv": "sandwich_conv2d", "linear": {"name": "sll_linear", "hidden_features": 2}},
        {"pool": "l2_norm_pool2d", "head": "linear"},
        {"pool": "max_pool2d", "head": "first_channels"},
        {"pool": {"name": "adaptive_max_pool2d", "output_size": 2}, "head": "cayley_linear"},
    ],
)
def test_slots_take_other_layers(slots) -> None:
    model = cpl(img_size=8, **TINY, **slots).eval()
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 10)
    assert lipnets.lipschitz(model.backbone, (3, 8, 8)).value <= 1 + 1e-6


def test_an_activation_goes_into_blocks_and_after_other_layers() -> None:
    inside = cpl(img_size=8, **TINY)
    assert sum(isinstance(module, nn.ReLU) for module in inside.backbone) == 0
    assert sum(isinstance(module, nn.ReLU) for module in inside.modules()) == 4
    after = cpl(img_size=8, conv="aol_conv2d", linear="aol_linear", **TINY)
    assert sum(isinstance(module, nn.ReLU) for module in after.backbone) == 4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"act": "maxmin"}, "slopes in"),
        ({"width": 2}, "at least the 3 channels"),
        ({"conv": "aol_linear"}, "a convolution of images"),
        ({"pool": "relu"}, "a pooling"),
        ({"linear": "cpl_lineer"}, "did you mean"),
        ({"conv": {"padding_mode": "zeros"}}, "with a 'name'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        cpl(img_size=8, **{**TINY, **arguments})
