"""The LipMLP family."""

import pytest
import torch

import lipnets
from lipnets.models import lipmlp


def test_forward_gives_one_logit_per_class() -> None:
    model = lipmlp(num_classes=7, in_chans=2, img_size=(3, 4), widths=(8, 6))
    assert model(torch.rand(5, 2, 3, 4)).shape == (5, 7)
    assert [layer.out_features for layer in model.backbone[1::2]] == [8, 6]


@pytest.mark.parametrize("linear", ["aol_linear", "bjorck_linear", "cayley_linear", "spectral_linear"])  # fmt: skip
@pytest.mark.parametrize("act", ["maxmin", "abs", "relu"])
def test_jacobians_do_not_exceed_1(linear, act) -> None:
    model = lipmlp(img_size=3, widths=(8, 8), linear=linear, act=act).eval()
    for x in torch.randn(5, 3, 3, 3):
        jacobian = torch.autograd.functional.jacobian(model.backbone, x[None]).reshape(8, 27)
        assert torch.linalg.matrix_norm(jacobian, ord=2) <= 1 + 1e-12
    assert lipnets.lipschitz(model.backbone, (3, 3, 3)).value <= 1 + 1e-6


def test_orthogonal_layers_with_maxmin_keep_the_norm_of_gradients() -> None:
    model = lipmlp(img_size=4, widths=(16, 8), head="cayley_linear")
    x = torch.rand(6, 3, 4, 4, requires_grad=True)
    for logit in range(10):
        if logit < 8:  # a head of ten rows on eight features has eight orthonormal columns
            (gradient,) = torch.autograd.grad(model.backbone(x)[:, logit].sum(), x)
            torch.testing.assert_close(gradient.flatten(1).norm(dim=1), torch.ones(6))


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    model = lipmlp(img_size=4, widths=())
    x, y = torch.rand(2, 1, 3, 4, 4)
    torch.testing.assert_close(model((x + y) / 2), (model(x) + model(y)) / 2)
