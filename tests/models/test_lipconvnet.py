"""LipConvNet as published."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import SymbolConv2d
from lipnets.models import lipconvnet

TINY = {"in_chans": 1, "img_size": 4, "width": 4, "num_classes": 3}


def described(depth: int) -> int:
    """Raw weights and biases of five blocks, by hand: square kernels of the larger side."""
    count, channels = 0, 3
    for block in range(5):
        wide, taps = 32 * 2**block, 1 if block == 4 else 9
        for _ in range(depth - 1):
            count += max(channels, wide) ** 2 * 9 + wide
            channels = wide
        count += max(4 * channels, 2 * wide) ** 2 * taps + 2 * wide
        channels = 2 * wide
    return count + channels * 10 + 10


@pytest.mark.parametrize("depth", [1, 8])
def test_parameters_are_those_of_the_description(depth) -> None:
    name = f"lipconvnet{5 * depth}"
    with torch.device("meta"):
        model = lipnets.create_model(name)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == described(depth)
    assert count == pytest.approx(lipnets.models.card(name).variant.parameters, rel=1e-3)


def test_the_last_convolution_of_a_block_halves_the_image_and_doubles_the_channels() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("lipconvnet10")
        shapes = [x.shape[1:] for x in outputs(model, torch.empty(1, 3, 32, 32))]
    convs = [m for m in model.backbone if isinstance(m, SymbolConv2d)]
    assert [m.in_channels for m in convs] == [3, 128, 64, 256, 128, 512, 256, 1024, 512, 2048]
    assert [m.out_channels for m in convs] == [32, 64, 64, 128, 128, 256, 256, 512, 512, 1024]
    assert [m.geometry.kernel_size[0] for m in convs] == [3] * 9 + [1]
    assert [tuple(s) for s in shapes if len(s) == 3][-1] == (1024, 1, 1)
    assert [(64, 16, 16) in shapes, (128, 8, 8) in shapes, (256, 4, 4) in shapes] == [True] * 3


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    found = []
    for layer in model.backbone:
        x = layer(x)
        found.append(x)
    return found


@pytest.mark.parametrize(
    ("size", "features"),
    [(8, 8 * 4), (28, 32 * 4), (32, 32 * 4), (64, 32 * 4 * 4), ((5, 20), 8 * 4 * 3), (1, 3)],
)
def test_images_of_any_size_are_folded_as_often_as_they_can(size, features) -> None:
    with torch.device("meta"):
        model = lipconvnet(in_chans=3, img_size=size, width=4)
    height, width = (size, size) if isinstance(size, int) else size
    assert model.num_features == features
    assert model(torch.empty(2, 3, height, width, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("conv", ["soc_conv2d", "aoc_conv2d", "aol_conv2d"])
@pytest.mark.parametrize("trained", [False, True])
def test_the_backbone_is_proved_1_lipschitz(conv, trained) -> None:
    model = lipconvnet(**TINY, depth=2, conv=conv)
    if trained:
        step(model)
    else:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    plain = lipnets.export(model.eval(), (1, 4, 4)).backbone
    x = torch.rand(1, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: plain(x[None])[0], x).flatten(1)
    bound = lipnets.lipschitz(plain, (1, 4, 4)).value
    assert torch.linalg.matrix_norm(jacobian, ord=2) <= bound <= 1 + 1e-6


def step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(torch.rand(8, 1, 4, 4)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_on_the_torus_gradients_of_features_are_orthonormal() -> None:
    conv = {"name": "soc_conv2d", "padding_mode": "circular"}
    model = lipconvnet(in_chans=1, img_size=4, width=2, conv=conv)  # 16, 4 × 2 × 2, then 8 numbers
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x = torch.rand(1, 1, 4, 4)
    jacobian = torch.autograd.functional.jacobian(model.backbone, x).reshape(8, 16)
    torch.testing.assert_close(jacobian @ jacobian.mT, torch.eye(8), rtol=0, atol=1e-9)


def test_layers_that_keep_the_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="sll_aoc_conv2d"):
        lipconvnet(**TINY, conv="sll_conv2d")
    assert lipconvnet(**TINY, conv="sll_aoc_conv2d")(torch.rand(1, 1, 4, 4)).shape == (1, 3)
    with pytest.raises(ValueError, match="convolution of images"):
        lipconvnet(**TINY, conv="cayley_linear")


@pytest.mark.parametrize("arguments", [{"blocks": 0}, {"depth": 0}])
def test_blocks_without_convolutions_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        lipconvnet(**TINY, **arguments)
