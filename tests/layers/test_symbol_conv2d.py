"""Convolutions constrained at each frequency, against plain convolutions and explicit matrices."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import StoredConv2d, SymbolConv2d, frequency_gains

ORTHOGONAL = ["bro_conv2d", "cayley_conv2d", "lot_conv2d", "soc_conv2d"]
NAMES = [*ORTHOGONAL, "svcm_conv2d"]
CAP = 2 * math.pi  # of norms of skew matrices
CIRCULAR = {"padding": 1, "padding_mode": "circular"}


def random(**arguments: object) -> SymbolConv2d:
    """A layer without constraint, which should be the plain convolution."""
    layer = SymbolConv2d(**arguments)  # pyright: ignore[reportArgumentType]
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer.eval()


def plain(layer: SymbolConv2d, **arguments: object) -> nn.Conv2d:
    conv = nn.Conv2d(**arguments)  # pyright: ignore[reportArgumentType]
    conv.load_state_dict(layer.state_dict())
    return conv.eval()


def matrix(layer: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    with torch.no_grad():
        pixels = torch.eye(math.prod(shape)).reshape(-1, *shape)
        return (layer(pixels) - layer(torch.zeros(1, *shape))).flatten(1).mT


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("size", [(4, 4), (5, 6), (7, 4)])
@pytest.mark.parametrize("padding", [0, 1, 2, (2, 0), "same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("kernel_size", [2, 3, (3, 2), 4])
def test_without_constraint_it_is_the_plain_convolution(kernel_size, stride, padding, size) -> None:
    if padding == "same" and stride != 1:
        return  # torch refuses
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    layer = random(in_channels=2, out_channels=3, **given)
    conv = plain(layer, in_channels=2, out_channels=3, **given)
    x = torch.randn(2, 2, *size)
    torch.testing.assert_close(layer(x), conv(x))
    torch.testing.assert_close(layer.train()(x), conv(x))
    torch.testing.assert_close(layer.materialize((2, *size))(x), conv(x))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(1, 1, 0), (3, 1, 1), (3, 1, "same"), (2, 1, "same"), (4, 1, "same"), (5, 1, 2),
     (2, 2, 0), (3, 2, 1), (4, 2, 1), (5, 2, 2), (3, 3, 0), (4, 3, 1), ((3, 2), (1, 2), (1, 0)),
     (3, 1, 0), ((3, 3), 1, (1, 0))],
)  # fmt: skip
def test_on_a_torus_it_is_the_circular_convolution(kernel_size, stride, padding) -> None:
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    given |= {"padding_mode": "circular", "in_channels": 2, "out_channels": 2}
    layer = random(**given)
    x = torch.randn(2, 2, 6, 12)
    torch.testing.assert_close(layer(x), plain(layer, **given)(x))


def test_the_bound_is_the_norm_on_the_torus() -> None:
    for kernel_size, size in itertools.product([1, 3, (3, 1)], [(3, 3), (4, 5), (6, 4)]):
        layer = random(
            in_channels=2, out_channels=3, kernel_size=kernel_size, padding="same",
            padding_mode="circular",
        )  # fmt: skip
        norm = torch.linalg.matrix_norm(matrix(layer, (2, *size)), ord=2).item()
        bound = lipschitz(layer, (2, *size)).value
        assert norm * (1 - 1e-12) <= bound <= norm * (1 + 1e-9)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(3, 3), (2, 5), (5, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_singular_values_are_as_promised(name, channels, stride, mode) -> None:
    layer = layers.build(
        name, in_channels=channels[0], out_channels=channels[1], kernel_size=3, stride=stride,
        padding=1, padding_mode=mode,
    )  # fmt: skip
    with torch.no_grad():
        layer.weight += torch.randn_like(layer.weight)
    shape = (channels[0], 4, 6)
    values = torch.linalg.svdvals(matrix(layer.eval(), shape))
    bound = lipschitz(layer, shape).value
    assert values.max() <= bound * (1 + 1e-12)
    assert bound <= 1 + 1e-9
    if mode == "circular" and name in ORTHOGONAL:
        torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-9)


def test_zero_padding_takes_images_that_the_stride_does_not_divide() -> None:
    layer = layers.build(
        "cayley_conv2d", in_channels=2, out_channels=3, kernel_size=3, stride=2, padding=1
    )
    values = torch.linalg.svdvals(matrix(layer.eval(), (2, 5, 7)))
    assert values.max() <= lipschitz(layer, (2, 5, 7)).value <= 1 + 1e-9


@pytest.mark.parametrize("channels", [(4, 4), (2, 5), (5, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_training_computes_what_evaluation_does(name, channels) -> None:
    layer = layers.build(
        name, in_channels=channels[0], out_channels=channels[1], kernel_size=3, **CIRCULAR
    )
    with torch.no_grad():
        layer.weight += 0.1 * torch.randn_like(layer.weight)
    x, weights = torch.randn(2, channels[0], 4, 5), torch.randn(2, channels[1], 4, 5)
    results = []
    for training in (True, False):
        moved = [layer.weight, x.requires_grad_()]
        out = layer.train(training)(x)
        results.append([out, *torch.autograd.grad((out * weights).sum(), moved)])
    tolerance = 1e-2 if name == "lot_conv2d" else 1e-9  # few poles in training
    for trained, evaluated in zip(*results, strict=True):
        torch.testing.assert_close(trained, evaluated, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["cayley_conv2d", "soc_conv2d", "bro_conv2d", "svcm_conv2d"])
def test_gradients_in_training_are_those_of_finite_differences(name) -> None:
    layer = layers.build(name, in_channels=2, out_channels=3, kernel_size=3, **CIRCULAR).train()
    with torch.no_grad():
        layer.weight += torch.randn_like(layer.weight)
    x = torch.randn(2, 2, 3, 4, requires_grad=True)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, x)

    assert torch.autograd.gradcheck(function, (x, layer.weight.detach().requires_grad_()))


def test_clipping_moves_singular_values_above_1_only() -> None:
    layer = layers.build("svcm_conv2d", in_channels=3, out_channels=2, kernel_size=3, **CIRCULAR)
    free = random(in_channels=3, out_channels=2, kernel_size=3, **CIRCULAR)
    layer.weight = free.weight
    with torch.no_grad():
        free.weight *= 0.3
    before, after = free.symbols((4, 5)), layer.eval().symbols((4, 5))
    left, values, right = torch.linalg.svd(before, full_matrices=False)
    assert values.max() > 1 > values.min()
    clipped = (left * values.clamp_max(1)[:, None]) @ right
    torch.testing.assert_close(after, clipped)


def test_lot_is_the_nearest_orthogonal_convolution() -> None:
    layer = layers.build("lot_conv2d", in_channels=3, out_channels=3, kernel_size=3, **CIRCULAR)
    nn.init.normal_(layer.weight)
    free = random(in_channels=3, out_channels=3, kernel_size=3, **CIRCULAR)
    free.weight = layer.weight
    left, _, right = torch.linalg.svd(free.symbols((4, 5)))
    torch.testing.assert_close(layer.eval().symbols((4, 5)), left @ right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 1e12])
def test_soc_is_the_exponential_of_the_scaled_skew_convolution(scale) -> None:
    layer = layers.build("soc_conv2d", in_channels=2, out_channels=2, kernel_size=3, **CIRCULAR)
    nn.init.normal_(layer.weight, std=scale)
    free = random(in_channels=2, out_channels=2, kernel_size=3, **CIRCULAR)
    skew = layer.weight.detach() - layer.weight.detach().transpose(0, 1).flip(2, 3)
    values = torch.linalg.svdvals(skew.reshape(2, 18)) * math.sqrt(9) / CAP
    shrink = torch.linalg.vector_norm(torch.cat([torch.ones(1), values]), ord=16)
    free.weight = nn.Parameter(layer.weight.detach() / shrink)
    dense = matrix(free, (2, 4, 3))
    assert torch.linalg.matrix_norm(dense - dense.mT, ord=2) <= CAP
    torch.testing.assert_close(
        matrix(layer.eval(), (2, 4, 3)), torch.linalg.matrix_exp(dense - dense.mT)
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(1, 1, 0), (3, 1, 1), (3, 1, 0), (3, 1, 4), (4, 1, "same"), ((2, 3), 1, 0), (3, 2, 1), (4, 2, 1)],
)  # fmt: skip
def test_norms_of_skew_kernels_are_capped_whatever_the_taps(kernel_size, stride, padding) -> None:
    layer = layers.build(
        "soc_conv2d", in_channels=2, out_channels=3, kernel_size=kernel_size, stride=stride,
        padding=padding,
    )  # fmt: skip
    initial = layer.weight.detach().clone()
    raw = [initial, 1e6 * initial, 1e6 * torch.ones_like(initial), torch.zeros_like(initial)]
    raw[2][:, 1:] *= -1  # the same sign at all taps: the bound is attained, or nearly
    norms = []
    for kernel in raw:
        taps = layer.raw_geometry.of_taps(layer.constraint.prepare(kernel))
        waves = layer.raw_geometry.waves((12, 12))
        flat = [part @ taps.flatten(1) for part in waves]
        symbols = torch.complex(*flat).unflatten(1, taps.shape[1:])
        norms.append(torch.linalg.matrix_norm(symbols - symbols.mH, ord=2).amax())
    torch.testing.assert_close(layer.constraint.prepare(initial), initial, rtol=1e-3, atol=0)
    assert all(norm <= CAP for norm in norms)
    assert norms[2] > 0.4 * CAP
    assert norms[3] == 0


def test_steps_of_soc_have_a_bounded_cost_and_gradients_whatever_the_weights() -> None:
    layer = layers.build("soc_conv2d", in_channels=4, out_channels=4, kernel_size=3, **CIRCULAR)
    x, weights = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    counts, sizes = [], []
    direction = torch.randn_like(layer.weight)
    for scale in (1.0, 1e3, 1e6):
        with torch.no_grad():
            layer.weight.copy_(scale * direction)
        layer.weight.grad = None
        out = layer.train()(x)
        node = next(n for n in _nodes(out.grad_fn) if type(n).__name__ == "_ExponentialBackward")
        counts.append(len(node.factors))  # pyright: ignore[reportAttributeAccessIssue]
        (out * weights).sum().backward()
        assert layer.weight.grad is not None
        sizes.append(scale * torch.linalg.vector_norm(layer.weight.grad))
    assert len(set(counts)) == 1
    # Angles are those of the direction alone: a relative step has the same effect at any scale.
    torch.testing.assert_close(sizes[1], sizes[2], rtol=1e-6, atol=0)
    assert sizes[1] > 0.1


def _nodes(node: Any) -> list[Any]:
    return [] if node is None else [node, *(n for up, _ in node.next_functions for n in _nodes(up))]


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("name", NAMES)
def test_stored_layers_are_the_same_function_and_certificate(name, mode) -> None:
    layer = layers.build(
        name, in_channels=2, out_channels=3, kernel_size=3, padding=1, padding_mode=mode
    )
    x = torch.randn(2, 2, 5, 4)
    model = nn.Sequential(layer, layers.Abs()).eval()
    stored = lipnets.export(model, (2, 5, 4))
    assert type(stored[0]) is StoredConv2d
    torch.testing.assert_close(stored(x), model(x))
    assert lipschitz(stored, (2, 5, 4)).value == lipschitz(model, (2, 5, 4)).value
    with pytest.raises(ValueError, match="stored are for images of size"):
        stored(torch.randn(1, 2, 4, 4))
    with pytest.raises(NotCertifiedError, match="stored are for images of size"):
        lipschitz(stored, (2, 4, 4))


def test_stored_symbols_without_symmetry_are_certified_as_they_are() -> None:
    stored = random(in_channels=2, out_channels=2, kernel_size=3, **CIRCULAR).materialize((2, 4, 4))
    nn.init.normal_(stored.weight)  # complex at frequencies that are their own opposites
    norm = torch.linalg.matrix_norm(matrix(stored.eval(), (2, 4, 4)), ord=2)
    assert norm <= lipschitz(stored, (2, 4, 4)).value


def test_gains_are_the_norms_at_each_frequency() -> None:
    layer, size = random(in_channels=2, out_channels=3, kernel_size=3, **CIRCULAR), (4, 5)
    gains = frequency_gains(layer, size)
    responses = torch.fft.fft2(matrix(layer, (2, *size)).T.reshape(2, *size, 3, *size)[:, 0, 0])
    norms = torch.linalg.svdvals(responses.permute(2, 3, 0, 1)).amax(dim=-1)
    torch.testing.assert_close(gains, norms, rtol=1e-9, atol=1e-12)
    assert gains.max() == lipschitz(layer, (2, *size)).value
    padded = random(in_channels=2, out_channels=3, kernel_size=3, padding=1)
    with pytest.raises(NotCertifiedError, match="under circular padding"):
        frequency_gains(padded, size)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"groups": 2}, "one group and dilation 1"),
     ({"dilation": 2}, "one group and dilation 1"),
     ({"kernel_size": 2, "stride": 3}, "at least the stride"),
     ({"padding_mode": "reflect", "padding": 1}, "'zeros' or 'circular'"),
     ({"padding_mode": "circular", "padding": 2}, "Circular 'padding'"),
     ({"padding_mode": "circular", "padding": 1, "kernel_size": 4}, "Circular 'padding'")],
)  # fmt: skip
def test_what_has_no_torus_is_refused(wrong, message) -> None:
    given = {"in_channels": 2, "out_channels": 2, "kernel_size": 3, **wrong}
    with pytest.raises(ValueError, match=message):
        layers.build("cayley_conv2d", **given)


def test_images_that_do_not_fit_are_refused() -> None:
    layer = layers.build(
        "cayley_conv2d", in_channels=2, out_channels=2, kernel_size=3, stride=2, **CIRCULAR
    ).eval()
    with pytest.raises(ValueError, match="multiple of the stride 2, got 5"):
        layer(torch.randn(1, 2, 4, 5))
    with pytest.raises(NotCertifiedError, match="multiple of the stride"):
        lipschitz(layer, (2, 5, 4))
    with pytest.raises(NotCertifiedError, match="shape"):
        lipschitz(layer, (2, 4))
    valid = layers.build("cayley_conv2d", in_channels=2, out_channels=2, kernel_size=3).eval()
    with pytest.raises(ValueError, match="as large as the kernel"):
        valid(torch.randn(1, 2, 2, 4))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_in_and_out(name) -> None:
    layer = layers.build(name, in_channels=2, out_channels=2, kernel_size=3, padding=1).bfloat16()
    for training in (True, False):
        out = layer.train(training)(torch.randn(1, 2, 4, 4, dtype=torch.bfloat16))
        assert out.dtype == torch.bfloat16
        assert out.isfinite().all()
