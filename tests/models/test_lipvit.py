"""The LipViT family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.layers import ConvexResidual, L2SelfAttention, LayerCentering, TokenMixer
from lipnets.models.lipvit import lipvit

TINY = {"in_chans": 1, "img_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}


def bound_and_slope(model: nn.Module, shape: tuple[int, int, int]) -> tuple[float, float]:
    """The proved constant of the backbone, and the largest slope at a few images."""
    backbone = lipnets.export(model, shape).backbone.double()
    slopes = [
        torch.linalg.matrix_norm(
            torch.autograd.functional.jacobian(lambda x: backbone(x[None])[0], x).flatten(1), ord=2
        ).item()
        for x in torch.rand(2, *shape)
    ]
    return lipnets.lipschitz(backbone, shape).value, max(slopes)


def random_weights(model: nn.Module, scale: float) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"attention": "token_mixer", "pool": "adaptive_scaled_avg_pool2d"},
        {"img_size": (6, 9), "hidden": (6,), "norm": None, "pool": "adaptive_l2_norm_pool2d"},
        {"linear": "aol_linear", "act": "relu", "head": "linear", "mlp_ratio": 0.5},
        {"linear": "spectral_linear", "act": {"name": "groupsort", "group_size": 4}},
    ],
)
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_slopes_do_not_exceed_the_bound_nor_that_1(arguments, scale) -> None:
    model = random_weights(lipvit(**{**TINY, **arguments}), scale)
    size = arguments.get("img_size", (8, 8))
    bound, slope = bound_and_slope(model, (1, *size))
    assert slope <= bound * (1 + 1e-9)
    assert bound <= 1 + 1e-4
    assert slope > 0.02  # no part of it is cut off


def test_training_keeps_the_bound_and_learns() -> None:
    model = lipvit(num_classes=2, **{**TINY, "hidden": (8,)})
    images, labels = torch.rand(32, 1, 8, 8) / 4, torch.arange(32) % 2
    images[labels == 1, :, :, 4:] += 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(15):
        loss = nn.functional.cross_entropy(10 * model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert lipnets.lipschitz(lipnets.export(model.backbone), (1, 8, 8)).value <= 1 + 1e-4
    assert (lipnets.certified_radii(model.eval(), images, labels) > 0.1).double().mean() > 0.9


def test_a_position_is_told_apart_from_others() -> None:
    model = lipvit(**{**TINY, "depth": 0, "pool": "adaptive_scaled_avg_pool2d"}).eval()
    positions = next(m for m in model.backbone if isinstance(m, LayerCentering))
    assert positions.bias.shape == (4, 8)
    nn.init.normal_(positions.bias)
    tokens = model.backbone[:5](torch.zeros(1, 1, 8, 8))
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


def test_tokens_are_patches_in_order() -> None:
    model = lipvit(**{**TINY, "in_chans": 2, "img_size": (8, 12), "patch_size": 4}).eval()
    image = torch.rand(1, 2, 8, 12)
    tokens = model.backbone[:3](image)
    assert tokens.shape == (1, 6, 32)
    torch.testing.assert_close(tokens[0, 4], image[0, :, 4:8, 4:8].flatten())


def test_attention_is_divided_by_the_constant_of_its_tokens() -> None:
    model = lipvit(**{**TINY, "depth": 3})
    layers = [module for module in model.modules() if isinstance(module, L2SelfAttention)]
    assert [layer.num_tokens for layer in layers] == [4] * 3
    assert sum(isinstance(module, ConvexResidual) for module in model.modules()) == 6
    mixers = lipvit(**TINY, attention="token_mixer").modules()
    assert sum(isinstance(module, TokenMixer) for module in mixers) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"num_heads": 3}, "divide"),
        ({"attention": "conv2d"}, "'token_mixer'"),
        ({"attention": "l3_attention"}, "did you mean"),
        ({"attention": {"num_heads": 2}}, "'name'"),
        ({"linear": "relu"}, "dense layer"),
        ({"alpha": 1.0}, "alpha"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, why) -> None:
    with pytest.raises(ValueError, match=why):
        lipvit(**{**TINY, **arguments})
