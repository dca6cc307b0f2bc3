"""The training loop: what it does to weights, and what it refuses to do."""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from lipnets import losses, optim
from lipnets.data import Mixed
from lipnets.training import NonFiniteLossError, Step, fit, restore_state, training_state

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


def test_a_loss_that_needs_slopes_is_given_those_of_the_weights_of_the_step() -> None:
    """The margin that a radius asks for is as differentiable as the logits: oracle by hand."""
    model = nn.Sequential(nn.Flatten(), orthogonal(nn.Linear(8, 3), orthogonal_map="cayley"))
    raw = model[1].parametrizations.weight.original.detach().clone()
    twin = copy.deepcopy(model)
    computed = []
    model[1].parametrizations.weight[0].register_forward_hook(lambda *_: computed.append(1))

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
    assert len(computed) == 1  # once, for logits and slopes
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
    """Dropout draws from the global generator: the state has to hold that as well."""
    batches = examples(6)
    straight = network()
    start = {key: value.clone() for key, value in straight.state_dict().items()}
    torch.manual_seed(3)
    list(fit(straight, batches, *pieces(straight), steps_per_epoch=6))

    first = network()
    first.load_state_dict(start)
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(5)
    loss_fn, optimizer, scheduler = pieces(first)
    list(fit(first, batches[:3], loss_fn, optimizer, scheduler, steps_per_epoch=6))
    torch.rand(2, generator=generator)
    state = training_state(first, optimizer, scheduler, generator)
    expected = torch.rand(2, generator=generator)
    torch.manual_seed(99)

    second, other = network(), torch.Generator()
    loss_fn, optimizer, scheduler = pieces(second)
    restore_state(state, second, optimizer, scheduler, other)
    assert torch.equal(torch.rand(2, generator=other), expected)
    steps = list(
        fit(second, batches[3:], loss_fn, optimizer, scheduler, steps_per_epoch=6, start=3)
    )
    assert [step.index for step in steps] == [4, 5, 6]
    for key, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[key], value)
