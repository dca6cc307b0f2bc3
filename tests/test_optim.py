"""Optimizers and schedules."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lipnets import optim


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
