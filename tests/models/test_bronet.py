"""The BRONet family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import SymbolConv2d
from lipnets.models import bronet

TINY = {"in_chans": 1, "img_size": 8, "width": 4, "depth": 2, "hidden": (6,), "window": 2}


def test_the_large_one_has_as_many_parameters_as_was_published() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("bronet_l")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(68e6, rel=0.02)


def test_convolutions_between_stem_and_neck_are_of_half_rank() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("bronet_l")
    blocks = [module for module in model.backbone if isinstance(module, SymbolConv2d)]
    assert [tuple(block.weight.shape) for block in blocks] == [(512, 256, 3, 3)] * 12


@pytest.mark.parametrize("size", [8, 3, (5, 18)])
def test_forward_gives_one_logit_per_class(size) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    model = bronet(num_classes=7, **{**TINY, "img_size": size})
    assert model(torch.rand(3, 1, height, width)).shape == (3, 7)


def test_on_the_torus_blocks_keep_the_norm_of_gradients() -> None:
    conv = {"name": "bro_conv2d", "padding_mode": "circular"}
    model = bronet(**{**TINY, "depth": 3}, conv=conv).eval()
    blocks = model.backbone[2:11]  # behind stem and activation: three times conv, norm, act
    x = torch.rand(1, 4, 4, 4)
    jacobian = torch.autograd.functional.jacobian(blocks, x).reshape(64, 64)
    torch.testing.assert_close(jacobian @ jacobian.mT, torch.eye(64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("draw", [False, True])
def test_backbones_are_1_lipschitz_at_the_start_and_with_random_weights(draw) -> None:
    model = bronet(**TINY).eval()
    for parameter in model.parameters():
        if draw:
            nn.init.normal_(parameter)
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-4


def test_backbones_stay_1_lipschitz_while_they_learn() -> None:
    model = bronet(**TINY)
    images, labels = torch.rand(32, 1, 8, 8) / 2, torch.arange(32) % 2
    images[labels == 1, :, :, 4:] += 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        losses.append(nn.functional.cross_entropy(10 * model(images)[:, :2], labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    model.eval()
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-4
