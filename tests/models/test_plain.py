"""Unconstrained twins, beside the models that they are twins of."""

import pytest
import torch
from torch import nn

import lipnets

TWINS = {
    "plain_mlp_s": "lipmlp_s",
    "plain_mlp_m": "lipmlp_m",
    "plain_mlp_l": "lipmlp_l",
    "plain_convnet_xs": "lipconvnet_xs",
    "plain_convnet_s": "lipconvnet_s",
    "plain_convnet_m": "lipconvnet_m",
}


def weights(model: nn.Module) -> list[torch.Size]:
    """The shapes of matrices and kernels, parametrizations computed."""
    kinds = (nn.Linear, nn.Conv2d)
    return [layer.weight.shape for layer in model.modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_weights_of_the_same_shapes(name) -> None:
    with torch.device("meta"):
        plain, twin = (lipnets.create_model(n, in_chans=1, img_size=8) for n in (name, TWINS[name]))
        assert weights(plain) == weights(twin)
    kinds = {type(module) for module in plain.modules()}
    assert nn.ReLU in kinds
    assert (nn.BatchNorm2d in kinds) == ("convnet" in name)
    assert not any("Parametrized" in kind.__name__ for kind in kinds)


@pytest.mark.parametrize("name", ["plain_mlp_s", "plain_convnet_xs"])
def test_the_product_of_norms_is_proved_and_grows_with_the_weights(name) -> None:
    model = lipnets.create_model(name, in_chans=1, img_size=(7, 8)).eval()
    before = lipnets.certify(model, (1, 7, 8)).lipschitz
    x = torch.rand(1, 7, 8)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x)
    assert torch.linalg.matrix_norm(jacobian.flatten(1), ord=2) <= before
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.data *= 2
    layers = sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in model.modules())
    after = lipnets.certify(model, (1, 7, 8)).lipschitz
    assert after == pytest.approx(before * 2**layers, rel=1e-6)


def test_the_normalization_is_a_choice() -> None:
    plain = lipnets.create_model("plain_convnet_xs", in_chans=1, img_size=8, norm=None)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    arguments = {"conv": "aol_conv2d", "norm": "batch_centering", "head": "unit_norm_linear"}
    model = lipnets.create_model("plain_convnet_xs", in_chans=1, img_size=8, **arguments).eval()
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-6


def test_a_batch_norm_follows_each_convolution_of_any_kind() -> None:
    conv = {"name": "band_conv2d", "high": 0.4}
    model = lipnets.create_model("plain_convnet_xs", in_chans=1, img_size=8, conv=conv)
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [16, 8, 32, 16]
