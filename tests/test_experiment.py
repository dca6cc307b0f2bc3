"""Data and models of a config."""

import copy

import pytest
import torch

from lipnets import data
from lipnets.config import parse_config
from lipnets.experiment import ExperimentError, build_model, load_data

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
