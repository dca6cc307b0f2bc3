"""Estimates of the constants of margins, against explicit matrices and against certificates."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from lipnets import certify, export, layers, lipschitz, models
from lipnets.bounds import NotCertifiedError
from lipnets.margin_slopes import MarginSlopes


def classifier(*backbone: nn.Module, features: int, classes: int = 3) -> nn.Sequential:
    head = nn.Linear(features, classes)
    return nn.Sequential(OrderedDict(backbone=nn.Sequential(*backbone), head=head))


def backbone_constant(model: nn.Sequential, slopes: Tensor) -> float:
    """What distances of rows of the head were multiplied by, the same for all pairs."""
    rows = model[-1].weight.detach()
    distances = (rows[:, None] - rows).norm(dim=2)
    factors = (slopes.detach() / distances)[~torch.eye(len(rows), dtype=torch.bool)]
    assert torch.allclose(factors, factors[0].expand_as(factors))
    return factors[0].item()


@pytest.mark.parametrize("name", ["lipmlp_s", "lipconvnet_xs"])
def test_slopes_of_constrained_networks_are_those_of_the_certificate(name: str) -> None:
    model = models.create_model(name, num_classes=4, in_chans=1, img_size=4, mean=[0.5], std=[0.25])
    slopes = MarginSlopes(model.train(), (1, 4, 4))()
    assert torch.allclose(slopes, certify(export(model), (1, 4, 4)).slopes, rtol=1e-5)


def test_slopes_of_another_last_layer_are_those_of_the_certificate() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU())
    slopes = MarginSlopes(model, (6,), start=200)()
    assert torch.allclose(slopes, certify(export(model), (6,)).slopes, rtol=1e-5)


LAYERS = {
    "linear": (nn.Linear(6, 4), (6,)),
    "conv1d": (nn.Conv1d(2, 3, 3, padding=1), (2, 5)),
    "conv2d, stride and groups": (nn.Conv2d(2, 4, 3, stride=2, groups=2, padding=1), (2, 4, 5)),
    "conv2d, circular": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 3, 3)),
    "conv2d, dilation": (nn.Conv2d(1, 2, 2, dilation=2), (1, 4, 4)),
    "conv3d": (nn.Conv3d(1, 2, 2), (1, 3, 3, 3)),
    "conv_transpose2d": (nn.ConvTranspose2d(2, 1, 2, stride=2), (2, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_free_layers_have_their_norm_and_its_derivative(name: str) -> None:
    """Against the singular values of the explicit matrix, and the derivative of the largest."""
    layer, shape = LAYERS[name]
    layer = copy.deepcopy(layer).double()
    with torch.no_grad():
        for each in layer.parameters():
            each.normal_()
    zero = layer(torch.zeros(1, *shape)).detach()
    size = zero.numel()
    model = classifier(layer, nn.Flatten(), features=size)
    slopes = MarginSlopes(model, shape, start=500)()
    basis = torch.eye(math.prod(shape)).view(-1, *shape)
    matrix = (layer(basis) - layer(torch.zeros_like(basis))).flatten(1)
    expected = torch.linalg.matrix_norm(matrix, 2)
    assert backbone_constant(model, slopes) == pytest.approx(expected.item(), rel=1e-6)
    rows = model[-1].weight.detach()
    (derivative,) = torch.autograd.grad(slopes[0, 1], layer.weight)
    (wanted,) = torch.autograd.grad(expected, layer.weight)
    assert torch.allclose(derivative, wanted * (rows[0] - rows[1]).norm(), atol=1e-3)


def test_power_iteration_goes_on_where_it_stopped() -> None:
    """A step a call: estimates grow towards the norm; after a refresh they start again."""
    model = classifier(nn.Linear(30, 30), features=30)
    slopes = MarginSlopes(model, (30,), start=1)
    norms = [backbone_constant(model, slopes()) for _ in range(40)]
    assert norms == sorted(norms)
    exact = torch.linalg.matrix_norm(model.get_parameter("backbone.0.weight"), 2).item()
    assert norms[0] < 0.9 * exact < 0.98 * exact < norms[-1] <= exact * (1 + 1e-12)
    slopes.refresh()
    assert backbone_constant(model, slopes()) == norms[0]


def combined() -> dict[str, tuple[nn.Module, float]]:
    """Combinators of matrices c I, whose norm is |c|, with the constant of the whole."""

    def times(factor: float, size: int = 4) -> nn.Linear:
        linear = nn.Linear(size, size)
        nn.init.eye_(linear.weight)
        with torch.no_grad():
            linear.weight *= factor
        return linear

    two, three = times(2.0), times(-3.0)
    plain, shortcut = layers.Residual(two), layers.Residual(two, shortcut=three)
    convex = layers.ConvexResidual(three, alpha=0.25)
    groups = layers.Parallel([times(2.0, 1), times(3.0, 3)], [1, 3])
    return {
        "sequential": (nn.Sequential(two, nn.ReLU(), layers.Scale(-0.5), three), 3.0),
        "residual": (plain, 3.0),
        "shortcut": (shortcut, 5.0),
        "convex": (convex, 0.75 + 0.25 * 3),
        "concat": (layers.Concat(two, three), math.sqrt(13)),
        "concat_residual": (layers.ConcatResidual(three, alpha=0.5), math.sqrt(0.5 + 4.5)),
        "parallel": (groups, 3.0),
        "nested": (layers.Residual(nn.Sequential(convex, nn.ReLU(), layers.Residual(two))), 5.5),
    }


@pytest.mark.parametrize("name", combined())
def test_combinators_have_the_constants_of_their_rules(name: str) -> None:
    module, expected = combined()[name]
    features = module(torch.zeros(1, 4)).shape[1]
    model = classifier(module, features=features)
    slopes = MarginSlopes(model, (4,), start=100)()
    assert backbone_constant(model, slopes) == pytest.approx(expected, rel=1e-6)
    assert lipschitz(export(module), (4,)).value == pytest.approx(expected, rel=1e-6)
    slopes.sum().backward()
    if name != "parallel":  # where the smaller one does not count
        for each in module.parameters():
            assert each.ndim < 2 or each.grad.abs().sum() > 0


def test_batch_normalization_counts_with_its_largest_gain() -> None:
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -4.0, 2.0]))
        norm.running_var.copy_(torch.tensor([1.0, 4.0, 0.09]))
    model = classifier(norm, features=3)
    slopes = MarginSlopes(model.train(), (3,))
    value = slopes()
    assert backbone_constant(model, value) == pytest.approx(2 / 0.3, rel=1e-4)
    model(torch.randn(5, 3))  # which changes the running variance in place
    value.sum().backward()
    assert norm.weight.grad.nonzero().tolist() == [[2]]
    assert backbone_constant(model, slopes()) != pytest.approx(2 / 0.3, rel=1e-3)


def test_layers_without_free_weights_count_with_their_bound_until_a_refresh() -> None:
    model = classifier(layers.Scale(2.0), features=4)
    slopes = MarginSlopes(model, (4,))
    assert backbone_constant(model, slopes()) == pytest.approx(2.0)
    model.get_submodule("backbone.0").factor = 3.0
    assert backbone_constant(model, slopes()) == pytest.approx(2.0)
    slopes.refresh()
    assert backbone_constant(model, slopes()) == pytest.approx(3.0)


def test_the_model_its_mode_and_the_random_state_stay_as_they_are() -> None:
    model = classifier(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), features=8).train()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    MarginSlopes(model, (1, 4, 4))().sum()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(model.state_dict()) == list(before)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_rows_that_are_equal_have_a_slope_of_zero_and_finite_gradients() -> None:
    model = classifier(nn.Linear(4, 4), features=4)
    nn.init.zeros_(model[-1].weight)
    slopes = MarginSlopes(model, (4,))()
    slopes.sum().backward()
    assert not slopes.any()
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)


def test_half_precision_is_left_for_float32() -> None:
    model = classifier(nn.Linear(4, 4), features=4).bfloat16()
    plain = copy.deepcopy(model).float()
    value, expected = MarginSlopes(model, (4,))(), MarginSlopes(plain, (4,))()
    assert value.dtype == torch.float32
    assert torch.allclose(value, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(MarginSlopes(plain, (4,))(), expected)


def test_what_no_rule_covers_is_refused() -> None:
    model = classifier(nn.Linear(4, 4), nn.LayerNorm(4), features=4)
    with pytest.raises(NotCertifiedError, match="No rule bounds LayerNorm"):
        MarginSlopes(model, (4,))


def test_what_gives_no_row_of_logits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a row of logits, got shape \(2, 3, 3\)"):
        MarginSlopes(nn.Conv2d(1, 2, 2), (1, 4, 4))


def test_estimates_go_on_from_a_state_to_the_same_bits() -> None:
    """Vectors of power iteration, and constants of weights that have changed since."""
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), orthogonal(nn.Linear(8, 8)), nn.ReLU())
    model = nn.Sequential(backbone, nn.Linear(8, 3))
    slopes = MarginSlopes(model, (2, 2, 2))
    slopes()
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(1.1)
    slopes()
    state = copy.deepcopy(slopes.state_dict())
    expected = [slopes() for _ in range(3)]
    other = MarginSlopes(model, (2, 2, 2))
    assert not torch.equal(other(), expected[0])
    other.load_state_dict(state)
    assert all(torch.equal(other(), value) for value in expected)
