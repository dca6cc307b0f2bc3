"""Schedules of the learning rate, beside those of torch."""

from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer, lr_scheduler

from lipnets import optim
from lipnets.config import parse_config

STEPS = 20


def optimizer() -> Optimizer:
    return SGD([torch.zeros(1, requires_grad=True)], lr=2.0)


def rates(scheduler: lr_scheduler.LRScheduler) -> list[float]:
    found = []
    for _ in range(STEPS):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def ours(warmup: int = 0, **settings: Any) -> list[float]:
    return rates(optim.create_scheduler(optimizer(), STEPS, warmup, **settings))


def test_without_warm_up_schedules_are_those_of_torch() -> None:
    of_torch = lr_scheduler
    expected = {
        "constant": of_torch.ConstantLR(optimizer(), factor=1.0),
        "cosine": of_torch.CosineAnnealingLR(optimizer(), T_max=STEPS),
        "linear": of_torch.LinearLR(optimizer(), 1.0, 0.0, total_iters=STEPS),
        "step": of_torch.MultiStepLR(optimizer(), milestones=[7, 15], gamma=0.3),
    }
    for name, scheduler in expected.items():
        steps = {"milestones": [7, 15], "gamma": 0.3} if name == "step" else {}
        assert ours(name=name, **steps) == pytest.approx(rates(scheduler), rel=1e-9), name


def test_one_cycle_is_that_of_torch_with_its_peak_after_the_warm_up() -> None:
    """There, the last step has the last rate: here, the step after it would have."""
    theirs = lr_scheduler.OneCycleLR(
        optimizer(),
        max_lr=2.0,
        total_steps=STEPS + 1,
        pct_start=7 / (STEPS + 1),
        cycle_momentum=False,
    )
    expected = rates(theirs)
    assert ours(6, name="one_cycle") == pytest.approx(expected, rel=1e-9)
    assert max(expected) == expected[6] == 2.0


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
def test_all_others_warm_up_alike(name) -> None:
    found = ours(3, name=name, milestones=[9])
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0], rel=1e-12)
    assert min(found) > 0
    assert (found[8] == 2.0) == (name in ("constant", "step"))


def test_schedules_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="No schedule is called 'cosin'"):
        ours(name="cosin")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "step"}, "'milestones' are for the schedule 'step', which needs them"),
        ({"milestones": [1]}, "'milestones' are for the schedule 'step', which needs them"),
        ({"name": "step", "milestones": [2, 4]}, "'milestones' should be less than 'epochs'"),
        ({"name": "cosin"}, r"schedule.name: should be 'constant', 'cosine', .* \(got 'cosin'\)"),
        (
            {"name": "step", "milestones": [0]},
            r"schedule.milestones\[0\]: should be greater than 0",
        ),
    ],
)
def test_configs_of_schedules_that_cannot_be_are_refused(settings, message) -> None:
    tree = {
        "data": {"name": "digits"},
        "model": {"name": "lipmlp_s"},
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adam", "lr": 1e-3},
    }
    good = {"epochs": 4, "name": "step", "milestones": [1, 2.5], "gamma": 0.5}
    assert parse_config({**tree, "schedule": good}).schedule.milestones == (1, 2.5)
    with pytest.raises(ValueError, match=message):
        parse_config({**tree, "schedule": {"epochs": 4, **settings}})
