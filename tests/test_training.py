"""The training loop: what it does to weights, and what it refuses to do."""

import copy
import math
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm

from lipnets import layers, lipschitz, losses, optim
from lipnets.certify import certify
from lipnets.data import Mixed
from lipnets.export import export
from lipnets.layers import build
from lipnets.training import (
    NonFiniteLossError,
    Step,
    fit,
    moving_average,
    restore_state,
    training_forward,
    training_state,
)

Batch = tuple[Tensor, Tensor]


def network() -> nn.Sequential:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(6, 3)))


def examples(count: int, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 5, 2, 2, 2, generator=generator, dtype=torch.float64)
    return list(zip(images, torch.randint(3, (count, 5), generator=generator), strict=True))


def pieces(model: nn.Module, lr: float = 0.1, steps: int = 20) -> tuple:
    optimizer = optim.create_optimizer(model, "adam", lr=lr)
    return losses.build("cross_entropy"), optimizer, optim.create_scheduler(optimizer, steps)


def test_one_step_of_sgd_is_the_one_computed_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    weight = model[1].weight.detach().clone().requires_grad_()
    bias = model[1].bias.detach().clone().requires_grad_()
    [(images, labels)] = examples(1)
    logits = images.flatten(1) @ weight.T + bias
    loss = -logits.log_softmax(dim=1)[range(5), labels].mean()
    loss.backward()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    batches = [(images, labels)]
    [step] = fit(
        model, batches, losses.build("cross_entropy"), optimizer, scheduler, steps_per_epoch=4
    )
    assert torch.allclose(model[1].weight, weight - 0.5 * weight.grad, atol=1e-14, rtol=0)
    assert step.loss == pytest.approx(loss.item(), rel=1e-12)
    squares = weight.grad.square().sum() + bias.grad.square().sum()
    assert step.gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-12)
    assert (step.index, step.epoch, step.lr, step.shape) == (1, 0.25, 0.5, (2, 2, 2))


def test_fit_lowers_the_loss() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    batches = examples(1) * 60
    steps = list(fit(model, batches, *pieces(model, steps=60), steps_per_epoch=60))
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert [step.index for step in steps] == list(range(1, 61))


def test_the_model_trains_whatever_the_receiver_of_a_step_does_to_its_mode() -> None:
    model = network()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for step in fit(model, examples(3), *pieces(model), steps_per_epoch=3):
        step.model.eval()
    assert modes == [True, True, True]


def test_a_loss_that_is_not_finite_stops_before_weights_are_spoilt() -> None:
    model = network()
    good, (images, labels) = examples(2)
    images = images.clone()
    images[0, 0, 0, 0] = math.nan
    steps = fit(model, [good, (images, labels)], *pieces(model), steps_per_epoch=2, start=7)
    next(steps)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match="The loss is nan at step 9"):
        next(steps)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_before_weights_are_spoilt() -> None:
    """The root has a finite value and an infinite slope at 0."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    _, optimizer, scheduler = pieces(model)

    def loss_fn(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.sqrt().sum()

    batch = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(NonFiniteLossError, match="The gradient is inf at step 1"):
        list(fit(model, [batch], loss_fn, optimizer, scheduler, steps_per_epoch=1))
    assert model.weight.item() == 0.0


class Marked(nn.Module):
    """A layer in the middle whose output overflows for one image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (x * 1e300).square().clamp_min(0) if x.amax() > 1e6 else x


def stopped(model: nn.Module, batch: Batch, **settings: Any) -> str:
    """What is said of a batch that training stops at, after one that it does not."""
    [good] = examples(1, seed=4)
    steps = fit(model, [good, batch], *pieces(model), steps_per_epoch=2, **settings)
    next(steps)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(NonFiniteLossError) as caught:
        next(steps)
    assert caught.value.step == 2
    for key, value in model.state_dict().items():
        assert "calls" in key or torch.equal(value, state[key])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return str(caught.value)


def test_images_that_are_not_finite_are_counted() -> None:
    [(images, labels)] = examples(1)
    images[1, 0, 0, 0], images[3, 1, 1, 1] = math.inf, math.nan
    assert "2 of the 5 images of the batch hold values" in stopped(network(), (images, labels))


def test_weights_that_are_not_finite_before_the_step_are_named() -> None:
    model, [good, bad] = network(), examples(2)
    steps = fit(model, [good, bad], *pieces(model), steps_per_epoch=2)
    next(steps)
    with torch.no_grad():
        model.head.weight[0, 0] = math.inf
    with pytest.raises(NonFiniteLossError, match=r"not finite in 'head\.weight'"):
        next(steps)


@pytest.mark.parametrize("settings", [{}, {"seed": 3}], ids=["unseeded", "seeded"])
def test_the_first_layer_that_overflows_is_named(settings) -> None:
    """Not those after it, nor those that hold it; what the second forward counts is taken back."""
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), marked=Marked(), dense=nn.Linear(8, 6)))
    model = nn.Sequential(OrderedDict(body=body, head=nn.Linear(6, 3)))
    [(images, labels)] = examples(1)
    images[2] *= 1e9
    told = stopped(model, (images, labels), **settings)
    assert "finite inputs and inf in its outputs is 'body.marked', a Marked." in told
    assert body.marked.calls == 2


def test_a_parametrization_that_overflows_is_named_before_its_layer() -> None:
    class Blown(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight if weight.norm() < 100 else weight * math.inf

    dense = nn.Linear(8, 3)
    parametrize.register_parametrization(dense, "weight", Blown())
    model, [good, bad] = nn.Sequential(nn.Flatten(), dense), examples(2)
    steps = fit(model, [good, bad], *pieces(model), steps_per_epoch=2)
    next(steps)
    with torch.no_grad():
        dense.parametrizations.weight.original.mul_(1e4)
    with pytest.raises(NonFiniteLossError, match=r"is '1\.parametrizations\.weight\.0', a Blown"):
        next(steps)


def test_a_layer_that_writes_over_its_inputs_is_not_taken_for_a_victim() -> None:
    class Writing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.div_((x.detach() < 1e6).double())

    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8, bias=False), Writing(), nn.Linear(8, 3))
    nn.init.eye_(model[1].weight)
    [(images, labels)] = examples(1)
    assert "outputs is '2', a Writing" in stopped(model, (images * 1e9, labels))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, r"not finite in '0\.parametrizations\.weight\.original'"),
        (1e300, r"a factorization failed in '0\.parametrizations\.weight\.0', a Factored"),
    ],
)
def test_a_factorization_that_fails_stops_training_with_the_name_of_its_weights(
    value, told
) -> None:
    class Factored(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return torch.linalg.cholesky(weight.mT @ weight + torch.eye(8))

    dense = nn.Linear(8, 8)
    parametrize.register_parametrization(dense, "weight", Factored())
    model, batches = nn.Sequential(dense, nn.ReLU(), nn.Linear(8, 3)), examples(2)
    batches = [(images.flatten(1), labels) for images, labels in batches]
    steps = fit(model, batches, *pieces(model), steps_per_epoch=2)
    next(steps)
    with torch.no_grad():
        dense.parametrizations.weight.original.fill_(value)
    with pytest.raises(NonFiniteLossError, match=f"at step 2, .*{told}"):
        next(steps)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_slopes_and_losses_that_are_not_finite_are_told_apart() -> None:
    class Loss:
        needs_slopes = True

        def __call__(self, logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
            return (logits.square() * slopes.sum()).sum().log()

    told = []
    for slope in (math.inf, 0.0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
        arguments = (Loss(), *pieces(model)[1:])
        slopes = partial(torch.full, (3, 3), slope)
        with pytest.raises(NonFiniteLossError) as caught:
            list(fit(model, examples(1), *arguments, steps_per_epoch=1, slopes=slopes))
        told.append(str(caught.value))
    assert "the slopes that the loss was given are not finite, the logits are" in told[0]
    assert "the logits are finite, the largest of size" in told[1]


@pytest.mark.parametrize(("factor", "told"), [(0.0, "is not of '0.weight'"), (1e200, "sum of")])
def test_parameters_whose_gradient_is_not_finite_are_named(factor, told) -> None:
    """The root has no slope at 0; a gradient of 1e200 has a square that is not finite."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    nn.init.zeros_(model[0].weight)
    nn.init.ones_(model[1].weight)
    _, optimizer, scheduler = pieces(model)

    def loss_fn(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits * factor if factor else logits.sqrt()).sum()

    batch = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(NonFiniteLossError, match=told):
        list(fit(model, [batch], loss_fn, optimizer, scheduler, steps_per_epoch=1))


def test_a_loss_that_needs_slopes_is_given_those_of_the_weights_of_the_step() -> None:
    """The margin that a radius asks for is as differentiable as the logits: oracle by hand."""
    model = nn.Sequential(nn.Flatten(), orthogonal(nn.Linear(8, 3), orthogonal_map="cayley"))
    raw = model[1].parametrizations.weight.original.detach().clone()
    twin = copy.deepcopy(model)

    def slopes() -> Tensor:
        return torch.cdist(model[1].weight * 2, model[1].weight)

    class Loss:
        needs_slopes = True

        def __call__(self, logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
            return logits.square().sum() + slopes[labels].square().sum()

    [(images, labels)] = examples(1)
    weight = twin[1].weight
    loss = twin(images).square().sum() + torch.cdist(weight * 2, weight)[labels].square().sum()
    loss.backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    arguments = (Loss(), optimizer, scheduler)
    batches = [(images, labels)]
    [step] = fit(model, batches, *arguments, steps_per_epoch=1, slopes=slopes)
    assert step.loss == pytest.approx(loss.item(), rel=1e-12)
    expected = raw - 0.01 * twin[1].parametrizations.weight.original.grad
    assert torch.allclose(model[1].parametrizations.weight.original, expected, atol=1e-13, rtol=0)
    with pytest.raises(TypeError, match="slopes"):
        list(fit(model, batches, *arguments, steps_per_epoch=1))


def test_the_loss_of_mixed_labels_is_the_mean_of_the_losses_of_both() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    [(images, first), (_, second)] = examples(2)
    third = torch.tensor([2, 2, 0, 1, 1])
    logs = model(images).log_softmax(dim=1)
    targets = 0.7 * (0.6 * F.one_hot(first, 3) + 0.4 * F.one_hot(second, 3))
    expected = -((targets + 0.3 * F.one_hot(third, 3)) * logs).sum(dim=1).mean().item()
    labels = Mixed(Mixed(first, second, 0.6), third, 0.7)
    [step] = fit(model, [(images, labels)], *pieces(model), steps_per_epoch=1)
    assert step.loss == pytest.approx(expected, rel=1e-12)


def test_the_batch_ahead_is_prepared_before_the_loss_is_waited_for() -> None:
    """What a device computes meanwhile is not seen here: the order of requests is."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    asked = []

    def source() -> Iterator[Batch]:
        for number, batch in enumerate(examples(3)):
            asked.append(number)
            yield batch

    steps = fit(model, source(), *pieces(model), steps_per_epoch=3)
    assert [(next(steps).index, len(asked)) for _ in range(3)] == [(1, 2), (2, 3), (3, 3)]
    assert next(steps, None) is None


def test_a_step_certifies_a_copy_and_leaves_the_model_its_mode_and_randomness_alone() -> None:
    model = network().train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    certificate = Step(0, 0.0, model, (2, 2, 2)).certificate

    product = math.prod(
        torch.linalg.svdvals(module.weight)[0].item()
        for module in model.modules()
        if isinstance(module, nn.Linear)
    )
    assert certificate.lipschitz == pytest.approx(product, rel=1e-9)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_a_step_certifies_once() -> None:
    step = Step(0, 0.0, network(), (2, 2, 2))
    assert step.certificate is step.certificate


def test_training_goes_on_from_a_state_as_if_it_had_not_been_interrupted() -> None:
    """Dropout draws what the seed and the step say, whatever was drawn between."""
    batches = examples(6)
    straight = network()
    start = {key: value.clone() for key, value in straight.state_dict().items()}
    list(fit(straight, batches, *pieces(straight), steps_per_epoch=6, seed=3))

    first = network()
    first.load_state_dict(start)
    loss_fn, optimizer, scheduler = pieces(first)
    list(fit(first, batches[:3], loss_fn, optimizer, scheduler, steps_per_epoch=6, seed=3))
    state = training_state(first, optimizer, scheduler)
    torch.manual_seed(99)

    def rest(seed: int) -> dict[str, Tensor]:
        model = network()
        loss_fn, optimizer, scheduler = pieces(model)
        restore_state(copy.deepcopy(state), model, optimizer, scheduler)
        arguments = (model, batches[3:], loss_fn, optimizer, scheduler)
        steps = list(fit(*arguments, steps_per_epoch=6, start=3, seed=seed))
        assert [step.index for step in steps] == [4, 5, 6]
        return model.state_dict()

    same, other = rest(seed=3), rest(seed=4)
    assert all(torch.equal(same[key], value) for key, value in straight.state_dict().items())
    assert any(not torch.equal(other[key], value) for key, value in same.items())


def test_a_step_knows_the_model_that_is_trained_and_the_one_that_is_kept() -> None:
    model = network()
    average = moving_average(model, 0.9)
    [step] = fit(model, examples(1), *pieces(model), steps_per_epoch=1, average=average)
    assert step.trained is model
    assert step.model is average.module


# Clipping, and how the forward is computed.


@pytest.mark.parametrize(("limit", "factor"), [(0.25, 0.25), (100.0, None)])
def test_gradients_that_are_too_long_are_scaled_down_to_a_norm(limit, factor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    before = [each.detach().clone() for each in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    arguments = (losses.build("cross_entropy"), optimizer, scheduler)
    [(images, labels)] = examples(1)
    batch = (5 * images, labels)
    [step] = fit(model, [batch], *arguments, steps_per_epoch=1, clip_grad_norm=limit)
    moves = [each.detach() - old for each, old in zip(model.parameters(), before, strict=True)]
    moved = torch.cat([each.flatten() for each in moves]).norm().item()
    assert step.gradient_norm > 0.3
    assert moved == pytest.approx(factor or step.gradient_norm, rel=1e-5)


def convolutional(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    conv = build("bcop_conv2d", in_channels=2, out_channels=4, kernel_size=3, padding="same")
    backbone = nn.Sequential(conv, nn.ReLU(), nn.Flatten())
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(16, 3))).to(dtype)


def test_in_bfloat16_layers_compute_and_weights_stay_in_float32() -> None:
    model, images = convolutional(), torch.rand(5, 2, 2, 2, dtype=torch.float32)
    seen: dict[str, torch.dtype] = {}
    model.backbone[0].register_forward_hook(lambda *each: seen.update(layer=each[2].dtype))
    model.backbone[0].parametrizations.weight.register_forward_hook(
        lambda *each: seen.update(weight=each[2].dtype)
    )
    logits = training_forward(model, dtype=torch.bfloat16)(images)
    assert seen == {"layer": torch.bfloat16, "weight": torch.float32}
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(each.grad.dtype == torch.float32 for each in model.parameters())
    exact = model(images)
    # Two layers, with 8 bits each.
    assert 0 < (logits - exact).abs().max() < 4 * 2**-8 * exact.abs().max()


@pytest.mark.parametrize("name", layers.names())
def test_in_bfloat16_constraints_are_those_of_float32_to_the_bit(name) -> None:
    """Of all layers: what parametrizations give, what is certified, and the dtype of gradients."""
    shape = layers.card(name).shape
    layer = layers.build(name, **layers.card(name).arguments).to(torch.float32).train()
    x = torch.rand(3, *shape, dtype=torch.float32)

    def computed(dtype: torch.dtype) -> list[Tensor]:
        seen, handles, twin = [], [], copy.deepcopy(layer)
        for module in twin.modules():
            if isinstance(module, parametrize.ParametrizationList):
                handles.append(module.register_forward_hook(lambda *each: seen.append(each[2])))
        training_forward(twin, dtype=dtype)(x)
        return seen

    plain, half = computed(torch.float32), computed(torch.bfloat16)
    assert len(plain) == len(half)
    for weight, other in zip(plain, half, strict=True):
        assert weight.dtype == other.dtype == torch.float32
        assert torch.equal(weight, other)

    training_forward(layer, dtype=torch.bfloat16)(x.requires_grad_()).square().sum().backward()
    gradients = [each.grad for each in layer.parameters() if each.grad is not None]
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in gradients)
    proved = lipschitz(export(layer, shape), shape).value
    with torch.autocast("cpu", torch.bfloat16):
        assert lipschitz(export(layer, shape), shape).value == proved


def test_channels_last_is_how_images_and_kernels_lie_in_memory() -> None:
    model, images = convolutional(torch.float64), torch.rand(5, 2, 4, 4)
    model.head = nn.Linear(64, 3)
    expected = model(images)
    seen = []
    model.backbone[0].register_forward_pre_hook(lambda _, each: seen.append(each[0]))
    found = training_forward(model, channels_last=True)(images)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_a_compiled_forward_trains_the_plain_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles graphs is left out here: they are traced, guarded and run as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    batches = examples(5)
    batches = [*batches[:2], (batches[2][0][:3], batches[2][1][:3]), *batches[3:]]
    plain, twin = convolutional(torch.float64), convolutional(torch.float64)
    twin.load_state_dict(plain.state_dict())
    keys = list(twin.state_dict())
    list(fit(plain, batches, *pieces(plain), steps_per_epoch=5))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    forward = training_forward(twin, compiled=True)
    for step in fit(twin, batches, *pieces(twin), steps_per_epoch=5, forward=forward):
        assert step.model is twin
        step.model.eval()
        assert step.certificate.lipschitz > 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # one for each batch size
    assert list(twin.state_dict()) == keys
    for key, value in plain.state_dict().items():
        assert torch.allclose(twin.state_dict()[key], value, rtol=0, atol=1e-10), key


@pytest.mark.parametrize("kind", ["plain", "parametrized"])
def test_the_forward_and_the_backward_are_traced_without_a_break(kind, monkeypatch) -> None:
    """As a whole, which fullgraph asks for: a break would be an error."""
    whole = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    model = network() if kind == "plain" else convolutional(torch.float64)
    twin, batches = copy.deepcopy(model), examples(2)
    torch._dynamo.reset()
    for each, compiled in ((model, True), (twin, False)):
        forward = training_forward(each, compiled=compiled)
        list(fit(each, batches, *pieces(each), steps_per_epoch=2, forward=forward, seed=1))
    for key, value in twin.state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, rtol=0, atol=1e-10), key


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # inductor's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_what_inductor_compiles_trains_the_same_weights() -> None:
    model = convolutional()
    twin = copy.deepcopy(model)
    batches = [(images.float(), labels) for images, labels in examples(3)]
    torch._dynamo.reset()
    for each, compiled in ((model, True), (twin, False)):
        forward = training_forward(each, compiled=compiled)
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        arguments = (losses.build("cross_entropy"), optimizer, scheduler)
        list(fit(each, batches, *arguments, steps_per_epoch=3, forward=forward))
    for key, value in twin.state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, rtol=0, atol=1e-5), key


# Moving averages.


def averaged(model: nn.Module, **settings: Any) -> tuple[list[dict], nn.Module]:
    """The states of a model after each step, and the model that was recorded last."""
    average = moving_average(model, **settings)
    states = []
    kept = model
    for step in fit(model, examples(6), *pieces(model), steps_per_epoch=3, average=average):
        states.append({key: value.clone() for key, value in model.state_dict().items()})
        kept = step.model
        assert kept is average.module
    return states, kept


@pytest.mark.parametrize("start", [0, 2])
def test_parameters_are_averaged_with_weights_that_decay_from_the_start_on(start) -> None:
    states, kept = averaged(network(), decay=0.7, start=start)
    for key, value in kept.state_dict().items():
        expected = states[start][key]
        for state in states[start + 1 :]:
            expected = 0.7 * expected + 0.3 * state[key]
        assert torch.allclose(value, expected, rtol=0, atol=1e-12)


def test_the_average_of_orthogonal_layers_is_certified_as_one_lipschitz() -> None:
    layer = build("cayley_linear", in_features=8, out_features=8)
    conv = build("bcop_conv2d", in_channels=2, out_channels=2, kernel_size=1)
    model = nn.Sequential(conv, nn.Flatten(), layer, nn.Linear(8, 3))
    states, kept = averaged(model, decay=0.9)
    assert any(not torch.equal(value, states[-1][key]) for key, value in states[0].items())
    plain = export(kept)
    assert isinstance(plain, nn.Sequential)
    assert certify(plain, (2, 2, 2)).bound.parts[2].value <= 1 + 1e-6
    weight = kept.get_submodule("2").weight
    assert torch.allclose(weight @ weight.T, torch.eye(8), rtol=0, atol=1e-9)


def test_buffers_are_copied_so_that_vectors_of_power_iterations_keep_their_length() -> None:
    linear = spectral_norm(nn.Linear(8, 3))
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), linear)
    states, kept = averaged(model, decay=0.9)
    buffers = dict(kept.named_buffers())
    vectors = [key for key in buffers if key.endswith(("._u", "._v"))]
    assert len(vectors) == 2
    for key, value in buffers.items():
        assert torch.equal(value, states[-1][key])
    for key in vectors:
        assert buffers[key].norm().item() == pytest.approx(1, abs=1e-12)
        mean = sum(state[key] for state in states) / len(states)
        assert torch.as_tensor(mean).norm() < 1 - 1e-9  # what averaging would do


def test_an_average_goes_on_from_a_state_as_if_it_had_not_been_interrupted() -> None:
    batches, start = examples(6), network()
    ends = []
    for cut in (6, 4):
        model = copy.deepcopy(start)
        arguments = pieces(model)
        average = moving_average(model, 0.8, start=1, warmup=True)
        known = {"steps_per_epoch": 6, "average": average, "seed": 3}
        list(fit(model, batches[:cut], *arguments, **known))
        state = copy.deepcopy(training_state(model, *arguments[1:], average))
        if cut < 6:
            model = network()
            arguments = pieces(model)
            average = moving_average(model, 0.8, start=1, warmup=True)
            restore_state(state, model, *arguments[1:], average)
            list(fit(model, batches[cut:], *arguments, **{**known, "average": average}, start=cut))
        ends.append(average.module.state_dict())
    for key, value in ends[0].items():
        assert torch.equal(ends[1][key], value)
        assert not torch.equal(start.state_dict()[key], value)
