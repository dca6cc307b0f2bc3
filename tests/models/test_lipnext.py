"""LipNeXt, against its formula."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets import optim
from lipnets.layers import Conjugate, PositionBias2d

SHAPE = (1, 8, 8)
DATA = {"num_classes": 4, "in_chans": 1, "img_size": 8}


def test_blocks_compute_the_formula_of_the_paper() -> None:
    """σ(M Rᵀ S(R(X + p)) + b), with eighths of the channels shifted, and half of them absolute."""
    model = lipnets.create_model("lipnext_xs", **DATA, width=16, depth=1)
    position, conjugate, pointwise, act = model.backbone[2:6]
    nn.init.normal_(position.bias)
    nn.init.normal_(pointwise.layer.bias)
    turn, mix = conjugate.linear.weight, pointwise.layer.weight
    x = torch.randn(3, 16, 4, 4)

    y = torch.einsum("ij,bjhw->bihw", turn, x + position.bias)
    moves = [(-1, 2), (1, 2), (-1, 3), (1, 3)]
    y = torch.cat(
        [
            *(y[:, 2 * i : 2 * i + 2].roll(*move) for i, move in enumerate(moves)),
            y[:, 8:],
        ],
        dim=1,
    )
    y = torch.einsum("ij,bihw->bjhw", turn, y)
    y = torch.einsum("ij,bjhw->bihw", mix, y) + pointwise.layer.bias[:, None, None]
    expected = torch.cat([y[:, :8].abs(), y[:, 8:]], dim=1)
    torch.testing.assert_close(model.backbone[2:6](x), expected)
    assert act.beta == 0.5


def test_features_are_norms_of_channels() -> None:
    model = lipnets.create_model("lipnext_xs", **DATA)
    x = torch.rand(2, *SHAPE)
    before = model.backbone[:-2](x)
    expected = before.square().sum(dim=(2, 3)).sqrt()
    torch.testing.assert_close(model.forward_features(x), expected)


@pytest.mark.parametrize("name", optim.names("manifold_*"))
def test_a_manifold_optimizer_keeps_it_certified_in_float32(name: str) -> None:
    model = lipnets.create_model("lipnext_xs", **DATA, width=16).float()
    optimizer = optim.create_optimizer(model, name, lr=0.02, lookahead=4)
    images, labels = torch.rand(8, *SHAPE, dtype=torch.float32), torch.arange(8) % 4
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(8 * model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert lipnets.lipschitz(model.eval().backbone, SHAPE).value <= 1 + 1e-5


@pytest.mark.parametrize("linear", ["cayley_linear", "bjorck_linear", "aol_linear"])
def test_parametrized_layers_keep_it_certified_whatever_their_weights(linear: str) -> None:
    model = lipnets.create_model("lipnext_xs", **DATA, width=16, linear=linear).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert lipnets.lipschitz(lipnets.export(model).backbone, SHAPE).value <= 1 + 1e-4
    optim.create_optimizer(model, "adam", lr=0.1)


def test_the_paper_has_two_square_matrices_in_each_of_32_blocks() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("lipnext_l32w1024")
    assert sum(isinstance(each, Conjugate) for each in model.backbone) == 32
    square = [each for each in model.parameters() if each.shape == (1024, 1024)]
    assert sum(each.numel() for each in square) == 64 * 2**20
    positions = [each for each in model.backbone if isinstance(each, PositionBias2d)]
    assert [tuple(each.bias.shape) for each in positions] == [(16, 16)] * 32


def test_what_it_cannot_be_built_of_is_refused() -> None:
    for ratio in (0.0, 0.01, 0.3):
        with pytest.raises(ValueError, match="'shift_ratio' should move"):
            lipnets.create_model("lipnext_xs", **DATA, shift_ratio=ratio)
    with pytest.raises(ValueError, match=r"nn\.Linear without bias"):
        lipnets.create_model("lipnext_xs", **DATA, linear="sandwich_linear")
    with pytest.raises(ValueError, match="manifold_adam"):
        optim.create_optimizer(lipnets.create_model("lipnext_xs", **DATA), "adam", lr=0.1)
