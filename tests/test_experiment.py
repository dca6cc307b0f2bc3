"""Data and models of a config."""

import copy
from pathlib import Path

import pytest
import torch

from lipnets import data
from lipnets.config import parse_config
from lipnets.experiment import ExperimentError, build_model, load_data, train
from lipnets.runs import Run
from lipnets.training import Step

TREE = {
    "data": {"name": "digits", "limit": 20},
    "model": {"name": "lipmlp_s"},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "adam", "lr": 1e-3},
    "schedule": {"epochs": 1},
}


def test_the_data_set_is_what_it_is_however_many_images_are_trained_on() -> None:
    dataset = load_data(parse_config(TREE))
    assert dataset.sha256 == data.load("digits").sha256
    assert len(dataset.train) == 1198


def test_files_that_are_not_those_published_load_if_the_config_says_so(tmp_path) -> None:
    for name in ("train", "t10k"):
        images = torch.zeros(3, 28, 28, dtype=torch.uint8).numpy().tobytes()
        head = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 28, 28))
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(head + images)
        labels = b"\x00\x00\x08\x01\x00\x00\x00\x03\x00\x01\x09"
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    tree = copy.deepcopy(TREE)
    tree["data"] = {"name": "mnist", "dir": str(tmp_path)}
    with pytest.raises(ExperimentError, match="'mnist' cannot be loaded"):
        load_data(parse_config(tree))
    tree["data"] |= {"verify": False}
    assert len(load_data(parse_config(tree)).test) == 3


def test_models_are_drawn_from_the_seed_in_float32() -> None:
    config = parse_config(TREE).fitted_to(data.load("digits"))
    first, second = (build_model(config).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert {t.dtype for t in first.values() if t.is_floating_point()} == {torch.float32}
    other = build_model(parse_config({**config.to_tree(), "seed": 1})).state_dict()
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_initial_weights_are_scaled_before_their_parametrization() -> None:
    tree = {**TREE, "model": {"name": "plain_mlp_s", "widths": [8]}}
    config = parse_config(tree).fitted_to(data.load("digits"))
    once, twice = (
        build_model(parse_config({**config.to_tree(), "init_scale": scale})).state_dict()
        for scale in (1.0, 2.0)
    )
    for name, value in once.items():
        factor = 2.0 if name.endswith("weight") else 1.0
        assert torch.equal(twice[name], factor * value)
    config = parse_config(TREE).fitted_to(data.load("digits"))
    model = build_model(parse_config({**config.to_tree(), "init_scale": 3.0}))
    raw = build_model(config).state_dict()
    changed = [
        name for name, value in model.state_dict().items() if not torch.equal(value, raw[name])
    ]
    assert changed
    assert all(name.endswith("weight.original") for name in changed)


@pytest.mark.parametrize("steps", [1, 7])
def test_training_ends_after_so_many_steps(tmp_path: Path, steps: int) -> None:
    tree = {**TREE, "schedule": {"epochs": 3, "max_steps": steps}}
    tree["data"] = {**TREE["data"], "batch_size": 5}
    dataset = data.load("digits")
    config = parse_config(tree).fitted_to(dataset)
    model = build_model(config)
    run = Run.create(tmp_path / "run", config)
    untrained = Step(0, 0.0, model, (1, 8, 8))
    taken = [step.index for step, _ in train(run, config, dataset, untrained)]
    assert taken == list(range(steps + 1))
    last = [record for record in run.history() if record.name == "bound/network"][-1]
    assert (last.step, last.epoch) == (steps, steps / 4)
    assert run.load_certificate().lipschitz == pytest.approx(last.value, rel=1e-12)


def test_labels_and_the_order_of_images_have_seeds_of_their_own(tmp_path: Path) -> None:
    """What is first seen is told by the loss of the first step, of the same initial weights."""
    dataset = data.load("digits")

    def first_loss(**settings: object) -> float:
        tree = {**TREE, "schedule": {"epochs": 1, "max_steps": 1}}
        tree["data"] = {**TREE["data"], "batch_size": 5, **settings}
        config = parse_config(tree).fitted_to(dataset)
        run = Run.create(tmp_path / str(settings), config)
        untrained = Step(0, 0.0, build_model(config), (1, 8, 8))
        return [step.loss for step, _ in train(run, config, dataset, untrained)][1]

    plain = first_loss()
    assert first_loss(order_seed=0) == plain
    assert first_loss(order_seed=1) != plain
    assert first_loss(label_noise=1.0) != plain


def test_a_penalty_of_slopes_lowers_the_bound(tmp_path: Path) -> None:
    dataset = data.load("digits")

    def bound(penalty: float) -> float:
        tree = {
            **TREE,
            "data": {"name": "digits", "limit": 200, "batch_size": 50},
            "model": {"name": "plain_mlp_s", "widths": [16]},
            "loss": {"name": "cross_entropy", "slope_penalty": penalty},
            "schedule": {"epochs": 10},
        }
        config = parse_config(tree).fitted_to(dataset)
        run = Run.create(tmp_path / str(penalty), config)
        list(train(run, config, dataset, Step(0, 0.0, build_model(config), (1, 8, 8))))
        return run.load_certificate().lipschitz

    assert bound(1.0) < 0.9 * bound(0.0)


def test_a_warm_up_that_outlasts_the_training_is_refused(tmp_path: Path) -> None:
    tree = {**TREE, "schedule": {"epochs": 9, "warmup_epochs": 2, "max_steps": 2}}
    dataset = data.load("digits")
    config = parse_config(tree).fitted_to(dataset)
    run = Run.create(tmp_path / "run", config)
    untrained = Step(0, 0.0, build_model(config), (1, 8, 8))
    with pytest.raises(ExperimentError, match=r"warm-up of 2 steps .* 2 steps"):
        next(train(run, config, dataset, untrained))
