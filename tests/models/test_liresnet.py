"""The LiResNet family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import BatchCentering
from lipnets.models import liresnet

TINY = {"in_chans": 1, "img_size": 8, "width": 4, "depth": 2, "hidden": (6,)}


def jacobian(backbone: nn.Module, x: torch.Tensor) -> torch.Tensor:
    matrix = torch.autograd.functional.jacobian(backbone, x[None])
    return matrix.reshape(-1, x.numel())


@pytest.mark.parametrize("name", ["liresnet_l12w512", "liresnet_chord"])
def test_variants_have_as_many_parameters_as_was_published(name) -> None:
    with torch.device("meta"):
        model = lipnets.create_model(name)
    published = lipnets.models.card(name).variant.parameters
    assert published is not None
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("size", [8, 3, (5, 18)])
@pytest.mark.parametrize("channels", [1, 3])
def test_forward_gives_one_logit_per_class(size, channels) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    model = liresnet(num_classes=7, **{**TINY, "img_size": size, "in_chans": channels})
    assert model(torch.rand(3, channels, height, width)).shape == (3, 7)


def test_images_of_224_pixels_are_taken_in_patches_as_published() -> None:
    with torch.device("meta"):
        model = lipnets.create_model(
            "liresnet_l12w512", img_size=224, width=588, stem_kernel=14, stem_stride=14
        )
    maps = [(info["num_chs"], info["reduction"]) for info in model.feature_info]
    assert maps == [(588, 14), (588, 56)]  # after the patches, and after the neck
    assert isinstance(model.backbone[0], nn.Conv2d)


def trained(model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        images, labels = torch.rand(16, 1, 8, 8), torch.randint(10, (16,))
        loss = nn.functional.cross_entropy(10 * model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def drawn(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.normal_(parameter)


@pytest.mark.parametrize("change", [lambda model: None, trained, drawn])
def test_backbones_are_1_lipschitz_in_every_state(change) -> None:
    model = liresnet(**TINY)
    change(model)
    model.eval()
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-4
    for x in torch.randn(2, 1, 8, 8):
        assert torch.linalg.matrix_norm(jacobian(model.backbone, x), ord=2) <= 1 + 1e-6


def test_free_blocks_start_as_the_identity_and_a_small_kernel() -> None:
    model = liresnet(**TINY, conv="conv2d")
    blocks = [module for module in model.backbone if type(module) is nn.Conv2d]
    for block in blocks:
        identity = nn.init.dirac_(torch.empty(4, 4, 3, 3))
        assert 0 < (block.weight - identity).norm() < 0.5


def test_the_certificate_of_free_blocks_is_of_their_norms() -> None:
    model = liresnet(**TINY, conv="conv2d", stem_conv="conv2d").eval()
    one = lipnets.lipschitz(model.backbone, (1, 8, 8)).value
    with torch.no_grad():
        for module in model.backbone:
            if type(module) is nn.Conv2d:
                module.weight *= 2
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value == pytest.approx(8 * one, rel=1e-6)


def test_normalization_centers_each_block_or_none() -> None:
    centered = liresnet(**TINY)
    assert sum(isinstance(module, BatchCentering) for module in centered.modules()) == 2
    plain = liresnet(**TINY, norm=None)
    assert not any(isinstance(module, BatchCentering) for module in plain.modules())
    counts = [sum(p.numel() for p in model.parameters()) for model in (centered, plain)]
    assert counts[0] == counts[1]  # a bias of the one, or of the other


@pytest.mark.parametrize(
    "slots",
    [
        {"conv": "aoc_conv2d", "stem_conv": "aol_conv2d", "neck_conv": "aoc_conv2d"},
        {"conv": "sll_conv2d", "norm": None, "linear": "bjorck_linear"},
        {"conv": "cayley_conv2d", "stem_conv": "cayley_conv2d", "neck_conv": "cayley_conv2d"},
        {"linear": "lires_linear", "act": {"name": "groupsort", "group_size": 2}},
        {"norm": "batch_lip_norm", "head": "linear"},
    ],
)
def test_layers_fit_by_name(slots) -> None:
    model = liresnet(**TINY, **slots).eval()
    drawn(model)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(2.0)
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"stem_kernel": 1}, "stem_kernel"),
        ({"stem_kernel": 2, "stem_stride": 1}, "odd"),
        ({"conv": "cayley_linear"}, "is a dense layer, and a convolution"),
        ({"stem_conv": "lires_conv2d"}, "stride"),
    ],
)
def test_impossible_networks_are_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        liresnet(**TINY, **arguments)
