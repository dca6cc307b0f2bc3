"""Optimizers and schedules."""

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.optim import Optimizer

from lipnets import lipschitz, optim
from lipnets.layers import ManifoldConv2d, ManifoldLinear

MANIFOLD = optim.names("manifold_*")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), orthogonal(nn.Linear(4, 4)), nn.LayerNorm(4))


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_lowers_a_quadratic(name: str) -> None:
    model = nn.Linear(4, 4)
    optimizer = optim.create_optimizer(model, name, lr=0.02)
    before = model.weight.square().sum().item()
    for _ in range(40):
        optimizer.zero_grad()
        model.weight.square().sum().backward()
        optimizer.step()
    assert model.weight.square().sum().item() < 0.7 * before


@pytest.mark.parametrize("name", optim.names())
def test_only_free_matrices_decay(name: str) -> None:
    """With gradients of zero, a step moves what decays and nothing else."""
    model = network()
    optimizer = optim.create_optimizer(model, name, lr=0.1, weight_decay=0.5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert moved == ["0.weight"]


def test_all_parameters_are_trained_but_for_frozen_ones() -> None:
    model = network()
    model[2].requires_grad_(False)
    optimizer = optim.create_optimizer(model, "adam", lr=0.1)
    given = [each for group in optimizer.param_groups for each in group["params"]]
    wanted = [each for each in model.parameters() if each.requires_grad]
    assert {id(each) for each in given} == {id(each) for each in wanted}
    assert len(given) == len(wanted)


def test_arguments_reach_the_optimizer() -> None:
    optimizer = optim.create_optimizer(nn.Linear(2, 2), "sgd", lr=0.1, momentum=0.0)
    assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.0, False)
    optimizer = optim.create_optimizer(nn.Linear(2, 2), "adamw", lr=0.1, betas=(0.5, 0.6))
    assert optimizer.defaults["betas"] == (0.5, 0.6)


def test_typos_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        optim.create_optimizer(nn.Linear(2, 2), "adamm", lr=0.1)
    with pytest.raises(TypeError, match="did you mean 'momentum'"):
        optim.create_optimizer(nn.Linear(2, 2), "sgd", lr=0.1, momntum=0.5)


def test_the_schedule_warms_up_and_follows_a_cosine() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = optim.create_scheduler(optimizer, steps=10, warmup_steps=3)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    cosine = [1 + math.cos(math.pi * i / 7) for i in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, *cosine], rel=1e-12)
    assert min(rates) > 0


def test_a_warm_up_that_leaves_no_step_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    with pytest.raises(ValueError, match=r"'warmup_steps' should be in \[0, 10\), got 10"):
        optim.create_scheduler(optimizer, steps=10, warmup_steps=10)


@pytest.mark.parametrize("name", optim.names())
def test_what_a_module_says_should_not_decay_does_not(name: str) -> None:
    class Position(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels = nn.Parameter(torch.randn(4, 5))
            self.rest = nn.Parameter(torch.randn(4, 5))

        def no_weight_decay(self) -> set[str]:
            return {"pixels"}

    model = nn.Sequential(Position())
    before = copy.deepcopy(model.state_dict())
    optimizer = optim.create_optimizer(model, name, lr=0.1, weight_decay=0.5)
    take(optimizer, model, torch.zeros_like)
    assert torch.equal(model[0].pixels, before["0.pixels"])
    assert not torch.equal(model[0].rest, before["0.rest"])


def take(optimizer: Optimizer, model: nn.Module, gradient: Callable[[Tensor], Tensor]) -> None:
    """A step with given gradients."""
    for parameter in model.parameters():
        parameter.grad = gradient(parameter.detach())
    optimizer.step()


def on_manifolds(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Square, wide and tall weights, one above the size of batches, and parameters of other kinds."""
    return nn.Sequential(
        ManifoldConv2d(3, 8, 1, dtype=dtype),
        ManifoldConv2d(8, 8, 1, dtype=dtype),
        nn.Flatten(),
        ManifoldLinear(8, 8, dtype=dtype),
        ManifoldLinear(8, 5, dtype=dtype),
        nn.LayerNorm(5, dtype=dtype),
        nn.Linear(5, 2, dtype=dtype),
    )


@pytest.mark.parametrize("lr", [1e-3, 0.3])
@pytest.mark.parametrize("name", MANIFOLD)
def test_weights_stay_orthonormal_in_float32(name: str, lr: float) -> None:
    model = on_manifolds(torch.float32).eval()
    optimizer = optim.create_optimizer(model, name, lr=lr)
    for _ in range(100):
        take(optimizer, model, torch.randn_like)
    for layer in (model[0], model[1], model[3], model[4]):
        shape = (layer.weight.shape[1], *(1,) * (layer.weight.ndim - 2))
        assert lipschitz(layer, shape).value <= 1 + 1e-6
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1).double())
        torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MANIFOLD)
def test_large_weights_are_moved_one_by_one_and_stay_orthonormal(name: str) -> None:
    model = nn.Sequential(ManifoldLinear(300, 300), ManifoldLinear(300, 300)).float().eval()
    optimizer = optim.create_optimizer(model, name, lr=1e-2)
    for _ in range(3):
        take(optimizer, model, torch.randn_like)
    assert lipschitz(model, (300,)).value <= 1 + 1e-6


def skew(frame: Tensor, gradient: Tensor) -> Tensor:
    return (frame.mT @ gradient - gradient.mT @ frame) / 2


def polar(matrix: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def moved(name: str, lr: float, shape: tuple[int, int], **arguments: object) -> tuple[Tensor, ...]:
    """A weight before and after a step, and the gradient."""
    torch.manual_seed(0)
    layer = ManifoldLinear(shape[1], shape[0], bias=False)
    optimizer = optim.create_optimizer(layer, name, lr=lr, **arguments)
    before, gradient = layer.weight.detach().clone(), torch.randn(shape)
    take(optimizer, layer, lambda _: gradient)
    return before, layer.weight.detach(), gradient


def test_square_weights_move_along_geodesics_to_second_order() -> None:
    errors = []
    for lr in (0.02, 0.01):
        before, after, gradient = moved("manifold_sgd", lr, (6, 6), momentum=0.0)
        exact = before @ torch.matrix_exp(-lr * skew(before, gradient))
        errors.append((after - exact).norm().item())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.05)


def test_large_steps_of_square_weights_are_exponentials() -> None:
    before, after, gradient = moved("manifold_sgd", 3.0, (6, 6), momentum=0.0)
    exact = before @ torch.matrix_exp(-3.0 * skew(before, gradient))
    torch.testing.assert_close(after, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
@pytest.mark.parametrize("lr", [0.01, 3.0])
def test_other_weights_move_to_polar_factors(shape: tuple[int, int], lr: float) -> None:
    before, after, gradient = moved("manifold_sgd", lr, shape, momentum=0.0)
    if shape[0] < shape[1]:
        before, after, gradient = before.mT, after.mT, gradient.mT
    inner = before.mT @ gradient
    direction = gradient - before @ (inner + inner.mT) / 2
    torch.testing.assert_close(after, polar(before - lr * direction), rtol=0, atol=1e-10)


def test_the_first_step_of_adam_turns_by_signs() -> None:
    before, after, gradient = moved("manifold_adam", 1e-3, (5, 5))
    signs = skew(before, gradient).sign()
    exact = before @ torch.matrix_exp(-1e-3 * signs)
    torch.testing.assert_close(after, exact, rtol=0, atol=1e-7)  # steps to the third power


def test_muon_turns_square_weights_by_about_one_angle() -> None:
    before, after, _ = moved("manifold_muon", 1e-2, (16, 16), momentum=0.0)
    angles = torch.linalg.eigvals(before.mT @ after).angle().abs()
    unit = 1e-2 * 0.2 * 16**0.5
    assert angles.min() > 0.6 * unit
    assert angles.max() < 1.3 * unit


@pytest.mark.parametrize("shape", [(6, 6), (4, 7)])
@pytest.mark.parametrize("name", MANIFOLD)
def test_optima_on_the_manifold_are_found(name: str, shape: tuple[int, int]) -> None:
    """The trace of WᵀT is largest at the polar factor of T: the problem of Procrustes."""
    layer = ManifoldLinear(shape[1], shape[0], bias=False)
    target = torch.randn(shape)
    if shape[0] == shape[1] and torch.linalg.det(target) * torch.linalg.det(layer.weight) < 0:
        target[0] *= -1  # orthogonal matrices have two components
    optimizer = optim.create_optimizer(layer, name, lr=0.1)
    scheduler = optim.create_scheduler(optimizer, steps=400)
    for _ in range(400):
        take(optimizer, layer, lambda _: -target)
        scheduler.step()
    torch.testing.assert_close(layer.weight, polar(target), rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", MANIFOLD)
def test_all_other_parameters_are_trained_by_adamw(name: str) -> None:
    model = on_manifolds()
    others = nn.ModuleList(model[-2:])
    twin = copy.deepcopy(others)
    optimizer = optim.create_optimizer(model, name, lr=0.1, weight_decay=0.3)
    oracle = torch.optim.AdamW(
        [
            {"params": [twin[1].weight], "weight_decay": 0.3},
            {"params": [*twin[0].parameters(), twin[1].bias], "weight_decay": 0.0},
        ],
        lr=0.1,
    )
    for _ in range(3):
        take(optimizer, model, torch.randn_like)
        for mine, theirs in zip(others.parameters(), twin.parameters(), strict=True):
            theirs.grad = mine.grad
        oracle.step()
    for mine, theirs in zip(others.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lookahead", [0, 3])
@pytest.mark.parametrize("name", optim.names())
def test_training_resumes_exactly(name: str, lookahead: int) -> None:
    """Interrupted after a number of steps that is no multiple of those of the lookahead."""

    def fresh() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        model = on_manifolds(torch.float32) if name in MANIFOLD else network().float()
        return model, optim.create_optimizer(model, name, lr=0.02, lookahead=lookahead)

    def gradients(start: int, stop: int, model: nn.Module, optimizer: Optimizer) -> None:
        for index in range(start, stop):
            torch.manual_seed(index)
            take(optimizer, model, torch.randn_like)

    model, optimizer = fresh()
    gradients(0, 10, model, optimizer)
    first, before = fresh()
    gradients(0, 5, first, before)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": before.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again, resumed = fresh()
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    gradients(5, 10, again, resumed)
    for mine, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", sorted(set(optim.names()) - set(MANIFOLD)))
def test_optimizers_that_would_leave_the_manifold_are_refused(name: str) -> None:
    model = on_manifolds()
    with pytest.raises(ValueError, match=r"4 such weights.*manifold_adam.*cayley_linear"):
        optim.create_optimizer(model, name, lr=0.1)
    for layer in (model[0], model[1], model[3], model[4]):
        layer.weight.requires_grad_(False)
    optim.create_optimizer(model, name, lr=0.1)  # they stay where they are


def test_weights_that_are_not_orthonormal_are_refused() -> None:
    layer = ManifoldLinear(3, 3)
    layer.weight.data *= 2
    with pytest.raises(ValueError, match="should start orthonormal"):
        optim.create_optimizer(layer, "manifold_adam", lr=0.1)
    layer = ManifoldLinear(3, 3).bfloat16()
    with pytest.raises(ValueError, match=r"got torch\.bfloat16: train with autocast"):
        optim.create_optimizer(layer, "manifold_sgd", lr=0.1)


def test_lookahead_goes_half_the_way_back() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    optimizer = optim.create_optimizer(layer, "sgd", lr=0.1, momentum=0.0, lookahead=3)
    seen = []
    for _ in range(6):
        take(optimizer, layer, torch.ones_like)
        seen.append(layer.weight.item())
    # From 0.9 to 0.7 and half the way back, then from 0.8 to 0.5.
    assert seen == pytest.approx([0.9, 0.8, 0.8, 0.7, 0.6, 0.65])
    with pytest.raises(ValueError, match="'lookahead' should be a number of steps"):
        optim.create_optimizer(layer, "sgd", lr=0.1, lookahead=-1)


def test_lookahead_on_the_manifold_goes_to_the_middle_of_geodesics() -> None:
    layer = ManifoldLinear(6, 6, bias=False)
    plain = copy.deepcopy(layer)
    target = torch.randn(6, 6)
    for each, lookahead in ((layer, 4), (plain, 0)):
        optimizer = optim.create_optimizer(each, "manifold_sgd", lr=0.02, lookahead=lookahead)
        for step in range(4):
            take(optimizer, each, lambda weight: weight + target)
            if step == 0:
                start = each.weight.detach().clone()
    values, vectors = torch.linalg.eig(start.mT @ plain.weight.detach())
    middle = (vectors * values.sqrt()) @ torch.linalg.inv(
        vectors
    )  # its rotation, by half the angle
    torch.testing.assert_close(layer.weight, start @ middle.real, rtol=0, atol=1e-9)
