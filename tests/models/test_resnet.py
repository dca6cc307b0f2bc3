"""ResNets, against those of timm."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.compat import ensure_torchvision
from lipnets.layers import Residual
from lipnets.models.resnet import from_timm, resnet

ensure_torchvision()
import timm
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}  # torchvision
TINY = {"layers": (1, 1, 2, 1), "channels": (4, 8, 16, 32), "num_classes": 5, "in_chans": 2}


def tiny(block: type[nn.Module] = BasicBlock, **more: object) -> ResNet:
    """A ResNet of timm with few channels, and statistics and weights that are no ones."""
    model = ResNet(block, **{**TINY, **more}).eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5) if "bias" not in name else tensor.data.normal_()
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_buffers_are_as_many_as_in_timm(name) -> None:
    with torch.device("meta"):
        ours = lipnets.create_model(name, num_classes=1000, img_size=224)
        theirs = timm.create_model(name)
        small = lipnets.create_model(name, num_classes=10, small_images=True)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert counts == [PUBLISHED[name]] * 2
    shapes = [[value.shape for value in model.state_dict().values()] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]  # in order
    assert small(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    if name == "resnet18":
        assert sum(p.numel() for p in small.parameters()) == 11_173_962  # usual for CIFAR-10


def test_weights_of_timm_load_and_give_the_same_outputs() -> None:
    torch.set_default_dtype(torch.float32)
    theirs = timm.create_model("resnet18", num_classes=7).eval()
    ours = lipnets.create_model("resnet18", num_classes=7, img_size=64).eval()
    ours.load_state_dict(from_timm(theirs).state_dict())
    images = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_copies_of_timm_are_certified(block) -> None:
    theirs = tiny(block)
    ours = from_timm(theirs, mean=(0.5, 0.4), std=(0.25, 0.5))
    images = torch.rand(3, 2, 8, 8)
    mean, std = (torch.tensor(v).view(2, 1, 1) for v in ((0.5, 0.4), (0.25, 0.5)))
    torch.testing.assert_close(ours(images), theirs((images - mean) / std))
    certificate = lipnets.certify(ours, (2, 8, 8))
    jacobian = torch.autograd.functional.jacobian(lambda x: ours(x[None])[0], images[0])
    slope = torch.linalg.matrix_norm(jacobian.flatten(1), ord=2)
    assert slope <= certificate.lipschitz
    part = certificate.bound.parts[0].parts[0]
    assert part.value == pytest.approx(4)  # of the standardization
    shortcuts = [m.shortcut for m in ours.modules() if isinstance(m, Residual)]
    assert sum(shortcut is not None for shortcut in shortcuts) == 4  # 64 channels become 4 first


def test_copies_keep_the_original_and_share_nothing_with_it() -> None:
    theirs = tiny().train()
    ours = from_timm(theirs)
    assert theirs.training
    assert theirs.act1.inplace
    assert not ours.training
    assert not any(getattr(module, "inplace", False) for module in ours.modules())
    assert not {p.data_ptr() for p in ours.parameters()} & {
        p.data_ptr() for p in theirs.parameters()
    }
    assert (ours.num_features, ours.num_classes) == (32, 5)
    assert ours.head.out_features == 5


def test_networks_without_a_head_are_copied_too() -> None:
    theirs = tiny(num_classes=0)
    ours = from_timm(theirs)
    images = torch.rand(2, 2, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))
    assert ours.num_classes == 0


def test_deep_stems_and_average_shortcuts_of_timm_are_copied() -> None:
    theirs = tiny(stem_width=4, stem_type="deep", avg_down=True)
    ours = from_timm(theirs)
    images = torch.rand(2, 2, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


def refused(why: str) -> nn.Module:
    if why == "of class":
        return nn.Linear(2, 3)
    if why == "'se'":
        return tiny(block_args={"attn_layer": "se"})
    if why == "'aa'":
        return tiny(aa_layer=nn.AvgPool2d)
    if why == "average":
        return tiny(global_pool="max")
    model = tiny()
    model.layer1[0] = nn.Identity()
    return model


@pytest.mark.parametrize("why", ["of class", "'se'", "'aa'", "average", "BasicBlock or"])
def test_what_is_not_known_is_refused(why) -> None:
    with pytest.raises(ValueError, match=why):
        from_timm(refused(why))


def test_copies_that_compute_something_else_are_refused() -> None:
    theirs = tiny()
    theirs.register_forward_hook(lambda module, inputs, out: out + 1e-6)
    with pytest.raises(ValueError, match="differs"):
        from_timm(theirs)


def test_blocks_begin_as_their_shortcuts() -> None:
    model = resnet(width=4, depths=(1, 1), in_chans=1, small_images=True).eval()
    first = next(module for module in model.backbone if isinstance(module, Residual))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(first(x), x)


def test_constrained_layers_fit() -> None:
    model = resnet(
        in_chans=1, width=4, depths=(1, 1), small_images=True, norm="batch_centering",
        conv="aol_conv2d", act="maxmin", head="unit_norm_linear",
    ).eval()  # fmt: skip
    bound = lipnets.lipschitz(lipnets.export(model.backbone), (1, 8, 6)).value
    # Two sums of two maps of norm 1 at most, and averages over the 12 pixels that remain.
    assert 0.9 < bound <= 2 * 2 / 12**0.5 * (1 + 1e-6)
    assert model(torch.rand(2, 1, 8, 9)).shape == (2, 10)


def test_stages_have_blocks() -> None:
    with pytest.raises(ValueError, match="depths"):
        resnet(depths=(2, 0))
