"""The AOL-MLP family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.models import aol_mlp


@pytest.mark.parametrize(("name", "depth"), [("aol_mlp_m", 8), ("aol_mlp_l", 16)])
def test_every_layer_is_as_wide_as_an_image(name, depth) -> None:
    with torch.device("meta"):
        model = lipnets.create_model(name)
    denses = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [dense.weight.shape for dense in denses] == [(3072, 3072)] * depth
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == depth * (3072**2 + 3072)  # the head has none


@pytest.mark.parametrize("size", [3, (2, 5), (4, 8)])
def test_images_of_any_size_are_certified(size) -> None:
    shape = (2, *((size, size) if isinstance(size, int) else size))
    model = aol_mlp(7, 2, size, width=24, depth=3).eval()
    model.load_state_dict({key: torch.randn_like(v) for key, v in model.state_dict().items()})
    assert model(torch.rand(5, *shape)).shape == (5, 7)
    assert lipnets.lipschitz(model, shape).value <= 1 + 1e-6


def test_one_layer_is_an_affine_map_of_the_pixels() -> None:
    model = aol_mlp(4, 1, 3, width=12, depth=1).eval()
    image = torch.rand(1, 1, 3, 3)
    dense = model.backbone[-1]
    expected = image.flatten(1) @ dense.weight[:4, :9].mT + dense.bias[:4]
    torch.testing.assert_close(model(image), expected)


def test_orthogonal_layers_with_maxmin_keep_the_norm_of_gradients() -> None:
    model = aol_mlp(2, 1, 3, width=12, depth=3, linear="cayley_linear", act="maxmin")
    image = torch.rand(1, 1, 3, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: model.backbone(x), image).reshape(12, 9)
    torch.testing.assert_close(jacobian.mT @ jacobian, torch.eye(9), rtol=0, atol=1e-9)


def test_blocks_around_an_activation_fit() -> None:
    model = aol_mlp(4, 1, 3, width=12, depth=2, linear="sandwich_linear", act="relu").eval()
    assert lipnets.lipschitz(model.backbone, (1, 3, 3)).value <= 1 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "why"), [({"depth": 0}, "depth"), ({"num_classes": 13}, "12 features")]
)
def test_what_does_not_fit_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        aol_mlp(**{"img_size": 2, "width": 12, **arguments})
