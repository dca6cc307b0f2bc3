"""The small LipConvNets."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import FilteredConv2d
from lipnets.models import lipconvnet_small

TINY = {"img_size": 8, "width": 4, "depths": (2, 2)}


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("hidden", [(), (6, 4)])
def test_forward_gives_one_logit_per_class(patch, hidden) -> None:
    model = lipconvnet_small(num_classes=7, in_chans=2, patch=patch, hidden=hidden, **TINY)
    assert model(torch.rand(5, 2, 8, 8)).shape == (5, 7)


@pytest.mark.parametrize("conv", ["aol_conv2d", "bcop_conv2d", "spectral_conv2d"])
def test_jacobians_do_not_exceed_1(conv) -> None:
    model = lipconvnet_small(in_chans=1, conv=conv, hidden=(6,), **TINY).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    plain = lipnets.export(model)  # computes the weights once
    for x in torch.randn(3, 1, 8, 8):
        jacobian = torch.autograd.functional.jacobian(plain.backbone, x[None]).reshape(6, 64)
        assert torch.linalg.matrix_norm(jacobian, ord=2) <= 1 + 1e-6
    bound = lipnets.lipschitz(plain.backbone, (1, 8, 8)).value
    assert bound <= 1.05 if conv == "spectral_conv2d" else bound <= 1 + 1e-6


def test_on_the_torus_with_as_many_channels_throughout_gradients_keep_their_norm() -> None:
    conv = {"name": "bcop_conv2d", "padding_mode": "circular"}
    model = lipconvnet_small(in_chans=1, img_size=8, patch=2, width=8, depths=(1,), conv=conv)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x = torch.rand(1, 1, 8, 8)
    jacobian = torch.autograd.functional.jacobian(model.backbone, x).reshape(64, 64)
    torch.testing.assert_close(jacobian @ jacobian.mT, torch.eye(64), rtol=0, atol=1e-9)


def test_stages_double_the_channels_and_halve_the_image() -> None:
    model = lipconvnet_small(img_size=32, width=32, depths=(2,) * 5)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [32, 16, 64, 32, 128, 64, 256, 128, 512, 256]
    assert [conv.in_channels for conv in convs] == [3, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert model.head.in_features == 256 * 2 * 2


@pytest.mark.parametrize(("size", "padded"), [(7, 8), ((5, 10), (8, 12)), (8, 8)])
def test_images_that_do_not_fold_are_padded_with_zeros(size, padded) -> None:
    model = lipconvnet_small(in_chans=1, **{**TINY, "img_size": size}, patch=2)
    height, width = (padded, padded) if isinstance(padded, int) else padded
    assert model.head.in_features == 4 * (height // 4) * (width // 4)
    size = (size, size) if isinstance(size, int) else size
    image = model.backbone[0](torch.ones(1, 1, *size))
    assert image.sum() == size[0] * size[1]
    assert isinstance(model.backbone[0], nn.ZeroPad2d) == (size != (height, width))


def test_any_convolution_fits_by_name() -> None:
    conv = {"name": "band_conv2d", "high": 0.4}
    model = lipconvnet_small(in_chans=1, conv=conv, **TINY).eval()
    bands = [module for module in model.modules() if isinstance(module, FilteredConv2d)]
    assert [band.high for band in bands] == [0.4] * 4
    assert 0 < lipnets.lipschitz(model, (1, 8, 8)).value < 2
    assert lipconvnet_small(conv="conv2d", **TINY)(torch.rand(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [({"depths": ()}, "depths"), ({"depths": (1, 0)}, "depths"), ({"width": 3}, "even")],
)
def test_impossible_shapes_are_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        lipconvnet_small(**{**TINY, **arguments})


def test_it_learns_to_tell_two_halves_apart() -> None:
    model = lipconvnet_small(num_classes=2, in_chans=1, hidden=(8,), **TINY)
    images = torch.rand(64, 1, 8, 8) / 4
    labels = torch.arange(64) % 2
    images[labels == 1, :, :, 4:] += 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        loss = nn.functional.cross_entropy(10 * model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    radii = lipnets.certified_radii(model.eval(), images, labels)
    # The means of the classes are 2.8 apart: no classifier has radii above 1.4 at both.
    assert (radii > 0.3).double().mean() > 0.95
    assert (radii < 2).all()
