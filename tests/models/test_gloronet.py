"""The GloRo family."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.models import gloronet

TINY = {"in_chans": 1, "img_size": 8, "widths": (4, 6), "depths": (1, 1), "hidden": (8,)}


def weights(name: str) -> tuple[list[tuple[int, ...]], int]:
    """The shapes of all weights, and the number of parameters, for images of 3 × 32 × 32."""
    with torch.device("meta"):
        model = lipnets.create_model(name)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    return shapes, sum(p.numel() for p in model.parameters())


def test_6c2f_has_six_convolutions_and_two_dense_layers_of_the_published_sizes() -> None:
    shapes, parameters = weights("gloronet_6c2f")
    first = [(32, 3, 3, 3), (32, 32, 3, 3), (32, 32, 4, 4)]
    second = [(64, 32, 3, 3), (64, 64, 3, 3), (64, 64, 4, 4)]
    assert shapes == [*first, *second, (512, 64 * 8 * 8), (10, 512)]
    assert parameters == 896 + 9248 + 16416 + 18496 + 36928 + 65600 + 2097664 + 5130


def test_names_count_convolutions_and_dense_layers() -> None:
    for name in lipnets.list_models("gloronet*"):
        shapes, _ = weights(name)
        convolutions = sum(len(shape) == 4 for shape in shapes)
        assert name == f"gloronet_{convolutions}c{len(shapes) - convolutions}f"


@pytest.mark.parametrize("size", [8, (5, 10), (7, 3)])
def test_forward_gives_one_logit_per_class(size) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    model = gloronet(num_classes=7, **{**TINY, "img_size": size})
    assert model(torch.rand(3, 1, height, width)).shape == (3, 7)


def test_free_layers_start_orthogonal() -> None:
    model = gloronet(**TINY)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            matrix = module.weight.flatten(1)
            if matrix.shape[0] > matrix.shape[1]:
                matrix = matrix.mT
            torch.testing.assert_close(matrix @ matrix.mT, torch.eye(matrix.shape[0]))
            assert (module.bias == 0).all()


def test_constants_of_free_layers_are_proved_and_not_below_the_jacobian() -> None:
    model = gloronet(**TINY).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    bound = lipnets.lipschitz(model.backbone, (1, 8, 8)).value
    slopes = [
        torch.linalg.matrix_norm(
            torch.autograd.functional.jacobian(model.backbone, x[None]).reshape(8, 64), ord=2
        )
        for x in torch.randn(3, 1, 8, 8)
    ]
    assert 1 < max(slopes) <= bound


@pytest.mark.parametrize("conv", ["spectral_conv2d", "aoc_conv2d", "cayley_conv2d"])
def test_constrained_layers_make_the_backbone_1_lipschitz(conv) -> None:
    model = gloronet(**TINY, conv=conv, linear="cayley_linear").eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    assert lipnets.lipschitz(model.backbone, (1, 8, 8)).value <= 1 + 1e-4


@pytest.mark.parametrize(
    "arguments",
    [{"widths": ()}, {"widths": (4,)}, {"depths": (1, -1)}, {"conv": "linear"}, {"act": "conv2d"}],
)
def test_impossible_networks_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match=r"widths|is needed here"):
        gloronet(**{**TINY, **arguments})
