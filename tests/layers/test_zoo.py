"""The contract of the zoo: a layer is held to it by being registered.

Whatever happens to the parameters of a layer, its outputs are finite, its proved bound holds against
the Jacobian, and the guarantee on its card is kept.
"""

import copy
import io
import math
import zlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import lipnets
from lipnets import layers, lipschitz

NAMES = layers.names()
CONSTRAINED = [n for n in NAMES if layers.card(n).guarantee in ("1-Lipschitz", "orthogonal")]


def shape_of(name: str) -> tuple[int, ...]:
    return layers.card(name).shape


def built(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The example of a card, whose parameters are near, not at, their initialization."""
    torch.manual_seed(zlib.crc32(name.encode()))
    layer = layers.build(name, **layers.card(name).arguments).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return layer


def inputs(name: str, count: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape_of(name), generator=generator, dtype=dtype)


def trained(layer: nn.Module, x: Tensor) -> None:
    """20 steps of Adam at 0.025, after outputs that are not those of the layer."""
    if not list(layer.parameters()):
        return
    layer.train()
    targets = torch.randn_like(layer(x)).detach() * 3
    optimizer = torch.optim.Adam(layer.parameters(), 0.025)
    for _ in range(20):
        optimizer.zero_grad()
        (layer(x) - targets).square().mean().backward()
        optimizer.step()


def every(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], None]:
    """A state in which each parameter of a layer is changed."""

    def apply(layer: nn.Module, x: Tensor) -> None:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(change(parameter.clone()))

    return apply


def rank_one(weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return weight
    flat = weight.flatten(1)
    return (flat.sum(dim=1, keepdim=True) * flat.sum(dim=0, keepdim=True)).view_as(weight)


def identical(weight: Tensor) -> Tensor:
    return weight[:1].expand_as(weight) if weight.ndim else weight


# state: (how to reach it, whether orthogonal layers are orthogonal there)
STATES: dict[str, tuple[Callable[[nn.Module, Tensor], None], bool]] = {
    "initial": (every(lambda w: w), True),
    "trained": (trained, True),
    "times 100": (every(lambda w: 100 * w), True),
    "times 1e-6": (every(lambda w: 1e-6 * w), True),
    "zero": (every(torch.zeros_like), False),
    "rank one": (every(rank_one), False),
    "identical channels": (every(identical), False),
}


def jacobian(module: nn.Module, x: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], x)
    return found.reshape(-1, x.numel())


def program(layer: nn.Module, name: str) -> nn.Module:
    """The layer as it is exported in its dtype, with the numbers of that dtype, in float64."""
    return lipnets.export(layer, shape_of(name)).double()


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", NAMES)
def test_in_every_state_the_guarantee_is_kept(name, state, dtype) -> None:
    reach, determined = STATES[state]
    layer, x = built(name, dtype), inputs(name, dtype=dtype)
    reach(layer, x)
    layer.train()
    out = layer(x.clone().requires_grad_())
    out.square().sum().backward()
    assert out.dtype == dtype
    assert out.isfinite().all()
    for parameter in layer.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()

    exported = program(layer, name)
    bound = lipschitz(exported, shape_of(name)).value
    matrices = [jacobian(exported, point) for point in inputs(name, 2)]
    values = torch.cat([torch.linalg.svdvals(matrix) for matrix in matrices])
    assert values.max() <= bound * (1 + 1e-9)
    guarantee = layers.card(name).guarantee
    if guarantee in ("1-Lipschitz", "orthogonal"):
        assert bound <= 1 + 1e-6
    if guarantee == "orthogonal" and determined:
        torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name) -> None:
    layer = built(name).train()
    parameters, x = list(layer.parameters()), inputs(name).requires_grad_()
    weights = torch.randn_like(layer.eval()(x))
    moved = [*parameters, x]
    directions = [torch.randn_like(tensor) for tensor in moved]
    grads = torch.autograd.grad((weights * layer(x)).sum(), moved, allow_unused=True)
    slope = sum(
        (grad * direction).sum().item()
        for grad, direction in zip(grads, directions, strict=True)
        if grad is not None
    )

    def value(step: float) -> float:
        with torch.no_grad():
            for tensor, direction in zip(moved, directions, strict=True):
                tensor += step * direction
            result = (weights * layer(x)).sum().item()
            for tensor, direction in zip(moved, directions, strict=True):
                tensor -= step * direction
        return result

    step = 1e-5
    # Richardson's extrapolation: errors of the order of step⁴.
    near = (value(step) - value(-step)) / (2 * step)
    far = (value(2 * step) - value(-2 * step)) / (4 * step)
    assert slope == pytest.approx((4 * near - far) / 3, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_a_pure_function_of_parameters(name) -> None:
    layer, x = built(name), inputs(name)
    layer.train()
    for _ in range(2):
        layer(torch.randn_like(x))
    before = copy.deepcopy(layer.state_dict())
    out = layer.eval()(x)
    assert torch.equal(layer(x), out)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])

    again = built(name)
    again.load_state_dict(before)
    assert torch.equal(again.eval()(x), out)
    assert torch.equal(copy.deepcopy(layer)(x), out)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(x), out)


@pytest.mark.parametrize("name", NAMES)
def test_exports_compute_the_same_function(name) -> None:
    layer, x = built(name).eval(), inputs(name)
    for plain in (lipnets.export(layer), lipnets.export(layer, shape_of(name))):
        torch.testing.assert_close(plain(x), layer(x), rtol=1e-9, atol=1e-9)
        assert lipschitz(plain, shape_of(name)).value == pytest.approx(
            lipschitz(layer, shape_of(name)).value, rel=1e-9
        )
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), plain(x))
    exported = torch.export.export(plain, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), plain(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_averages_of_weights_keep_the_guarantee(name) -> None:
    layer, x = built(name), inputs(name)
    if not list(layer.parameters()):
        return  # nothing to average
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(3):
        every(lambda w: w + torch.randn_like(w))(layer, x)
        average.update_parameters(layer)
    exported = program(average.module, name)
    bound = lipschitz(exported, shape_of(name)).value
    assert torch.linalg.matrix_norm(jacobian(exported, x[0]), ord=2) <= bound * (1 + 1e-9)
    assert bound <= 1 + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_autocast_leaves_constraints_in_full_precision(name) -> None:
    layer = built(name, torch.float32).eval()
    x = inputs(name, dtype=torch.float32)
    plain = lipnets.export(layer)
    with torch.autocast("cpu", torch.bfloat16):
        out, expected = layer(x), plain(x)
    torch.testing.assert_close(out.float(), expected.float(), rtol=1e-2, atol=1e-2)
    assert out.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        again = lipnets.export(layer)
    for mine, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_built_without_memory(name) -> None:
    with torch.device("meta"):
        layer = layers.build(name, **layers.card(name).arguments)
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    full = built(name)
    layer.load_state_dict(full.state_dict(), assign=True)
    assert torch.equal(layer.double().eval()(inputs(name)), full.eval()(inputs(name)))


OTHER_AXES = [  # what 2-d convolutions do as well, on fewer axes or more
    pytest.param(name, marks=[pytest.mark.slow] if name.endswith(("1d", "3d")) else [])
    for name in NAMES
]


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OTHER_AXES)
def test_layers_compile(name, backend) -> None:
    """What dynamo reads is a graph; with `slow`, its backward is traced as well."""
    layer, x = built(name), inputs(name)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=backend)
    out = compiled(x.requires_grad_())
    torch.testing.assert_close(out, layer(x), rtol=1e-9, atol=1e-9)
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_a_reader_needs(name) -> None:
    card = layers.card(name)
    assert card.choose.endswith(".")
    assert bool(card.paper) == bool(card.url)
    assert math.prod(card.shape) <= 2**9  # contracts take the SVD of Jacobians
    layer = built(name).eval()
    assert layer(inputs(name)).shape[0] == 4


def test_unknown_layers_have_no_card() -> None:
    with pytest.raises(ValueError, match="did you mean 'cayley_linear'"):
        layers.card("cayly_linear")


@pytest.mark.parametrize("name", ["bjorck_linear", "cayley_linear"])
def test_the_contract_catches_a_layer_that_breaks_its_promise(name, monkeypatch) -> None:
    build = layers.registry[name]

    def scaled(*args: object, **kwargs: object) -> nn.Module:
        return nn.Sequential(build(*args, **kwargs), layers.Scale(1 + 1e-5))

    monkeypatch.setitem(layers.registry._table, name, scaled)
    monkeypatch.setattr(layers.registry, "build", lambda name, **kwargs: scaled(**kwargs))
    monkeypatch.setattr(layers, "build", layers.registry.build)
    with pytest.raises(AssertionError):
        test_in_every_state_the_guarantee_is_kept(name, "initial", torch.float64)
