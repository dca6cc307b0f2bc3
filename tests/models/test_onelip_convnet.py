"""The network of "1-Lipschitz Layers Compared"."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import SymbolConv2d
from lipnets.models import onelip_convnet

TINY = {"in_chans": 1, "img_size": 4, "width": 4, "depth": 1, "num_classes": 3}


@pytest.mark.parametrize("size", ["xs", "s", "m", "l"])
def test_parameters_are_those_of_the_paper(size) -> None:
    name = f"onelip_convnet_{size}"
    with torch.device("meta"):
        model = lipnets.create_model(name)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(lipnets.models.card(name).variant.parameters, rel=2e-3)


def test_blocks_halve_the_image_and_double_the_channels() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("onelip_convnet_xs")
        x, shapes = torch.empty(1, 3, 32, 32), []
        for layer in model.backbone:
            x = layer(x)
            shapes += [tuple(x.shape[1:])] if isinstance(layer, nn.PixelUnshuffle) else []
    assert shapes == [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1)]
    convs = [m for m in model.modules() if isinstance(m, SymbolConv2d)]
    assert [m.geometry.kernel_size[0] for m in convs] == [1] + [3] * 20 + [1] * 5
    assert (model.num_features, type(model.head).__name__) == (512, "FirstChannels")


def test_with_identities_for_layers_it_keeps_a_part_of_the_image() -> None:
    model = onelip_convnet(
        in_chans=3, img_size=4, width=4, depth=2, conv="conv2d", linear="linear", act="abs"
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.eye_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.bias)
    image = torch.rand(1, 3, 4, 4)
    # Two of four channels, twice: both channels of the first block as 2 × 2 phases, of which the
    # first four, those of channel 0, stay and are folded again.
    phases = [image[:, :1, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    expected = torch.cat([p[:, :, i, j] for p in phases for i in (0, 1) for j in (0, 1)], dim=1)
    torch.testing.assert_close(model.backbone(image), expected)
    torch.testing.assert_close(model(image), expected[:, :10])


@pytest.mark.parametrize("conv", ["soc_conv2d", "cpl_conv2d", "sll_conv2d", "bcop_conv2d"])
@pytest.mark.parametrize("trained", [False, True])
def test_the_backbone_is_proved_1_lipschitz(conv, trained) -> None:
    model = onelip_convnet(**TINY, conv=conv)
    if trained:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            logits = model(torch.rand(6, 1, 4, 4))
            nn.functional.cross_entropy(logits, torch.arange(6) % 3).backward()
            optimizer.step()
    else:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    plain = lipnets.export(model.eval(), (1, 4, 4)).backbone
    x = torch.rand(1, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: plain(x[None])[0], x).flatten(1)
    bound = lipnets.lipschitz(plain, (1, 4, 4)).value
    assert torch.linalg.matrix_norm(jacobian, ord=2) <= bound <= 1 + 1e-4


def test_logits_are_separated_by_root_two() -> None:
    model = onelip_convnet(**TINY, conv="aol_conv2d").eval()
    slopes = lipnets.certify(model, (1, 4, 4)).slopes
    expected = 2**0.5 * (1 - torch.eye(3))
    torch.testing.assert_close(slopes, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("size", "features"),
    [(8, 4 * 8), (28, 4 * 32), (32, 4 * 32), (64, 4 * 32), ((5, 30), 4 * 8), (1, 4)],
)
def test_images_of_any_size_end_in_one_pixel(size, features) -> None:
    with torch.device("meta"):
        model = onelip_convnet(img_size=size, width=4, depth=1, num_classes=4)
    height, width = (size, size) if isinstance(size, int) else size
    assert model.num_features == features
    assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 4)


def test_slots_take_other_layers() -> None:
    other = {"linear": "cayley_linear", "act": "householder", "pool": "adaptive_l2_norm_pool2d"}
    model = onelip_convnet(**TINY, conv="aol_conv2d", head="unit_norm_linear", **other)
    bound = lipnets.lipschitz(lipnets.export(model.eval()).backbone, (1, 4, 4)).value
    assert bound <= 1 + 1e-6
    with pytest.raises(ValueError, match="pooling"):
        onelip_convnet(**TINY, pool="maxmin")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"width": 3}, "even"),
        ({"in_chans": 6}, "at least the 6 channels"),
        ({"blocks": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_impossible_shapes_are_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        onelip_convnet(**{**TINY, **arguments})
