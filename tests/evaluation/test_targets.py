"""Tests of what can be evaluated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lipnets import models
from lipnets.config import parse_config
from lipnets.evaluation import TargetError, open_target
from lipnets.experiment import ExperimentError, build_model
from lipnets.runs import Run

SOURCE = """
import torch

def network():
    torch.manual_seed({seed})
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

def number():
    return 3

def broken():
    raise ValueError("no weights here")

def lost():
    return {{}}["weights"]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_networks_of_a_test.py"
    path.write_text(SOURCE.format(seed=1))
    return path


def test_a_model_of_the_zoo_is_built_for_the_data(tmp_path: Path) -> None:
    first, second = (
        open_target("lipmlp_s", data_name="digits", out=tmp_path / "out") for _ in range(2)
    )
    assert first.model(torch.rand(2, 1, 8, 8).float()).shape == (2, 10)
    assert first.weights == second.weights
    assert not first.model.training
    assert "not trained" in first.origin
    assert open_target("lipmlp_s", data_name="digits").out == Path("evaluations/lipmlp_s")


def test_a_function_of_a_file_or_of_a_module_gives_a_model(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_file = open_target(f"{source}:network", data_name="digits")
    monkeypatch.chdir(source.parent)
    of_module = open_target("my_networks_of_a_test:network", data_name="digits")
    assert of_file.weights == of_module.weights
    assert of_module.out == Path("evaluations/my_networks_of_a_test.network")
    source.write_text(SOURCE.format(seed=2))
    assert open_target(f"{source}:network", data_name="digits").weights != of_file.weights


def test_weights_are_told_apart_by_a_bit_and_by_structure(source: Path) -> None:
    from lipnets.evaluation.targets import _digest

    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    before = _digest(model)
    assert _digest(nn.Sequential(model[0], nn.Identity())) != before
    with torch.no_grad():
        model[0].bias[0] = torch.nextafter(model[0].bias[0], torch.tensor(9.0))
    assert _digest(model) != before


def test_weights_are_told_apart_by_their_names_shapes_and_types() -> None:
    """Modules that print alike, and hold the same bytes."""
    from lipnets.evaluation.targets import _digest

    def holding(name: str, tensor: torch.Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, tensor)
        return module

    zeros = torch.zeros(2, 3, dtype=torch.float32)
    same = _digest(holding("a", zeros))
    assert _digest(holding("a", zeros.clone())) == same
    for other in (
        holding("b", zeros),
        holding("a", zeros.T.contiguous()),
        holding("a", zeros.view(torch.int32)),
    ):
        assert repr(other) == repr(holding("a", zeros))
        assert _digest(other) != same


def test_what_save_pretrained_wrote_is_opened(tmp_path: Path) -> None:
    model = models.build("lipmlp_s", num_classes=10, in_chans=1, img_size=8)
    model.save_pretrained(tmp_path / "saved")
    target = open_target(str(tmp_path / "saved"), data_name="digits")
    assert target.out == tmp_path / "saved" / "evaluation"
    images = target.dataset.test.images[:3]
    expected = model.eval().to(torch.float32)(images)
    torch.testing.assert_close(target.model.to(torch.float32)(images), expected)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("lipmlp_s", "says nothing of its data: name them with --data, one of"),
        ("nowhere:network", "should be a function of a module: No module named 'nowhere'"),
        ("FILE:missing", "should be a function of a module"),
        ("FILE:number", "should return an nn.Module, got int"),
        ("FILE:broken", "cannot be built: no weights here"),
        (
            "FILE:lost",
            r"cannot be built: KeyError: 'weights' \(my_networks_of_a_test.py, line 15\)",
        ),
    ],
)
def test_what_is_no_network_is_refused(source: Path, what: str, said: str) -> None:
    name = None if what == "lipmlp_s" else "digits"
    with pytest.raises(TargetError, match=said):
        open_target(what.replace("FILE", str(source)), data_name=name)


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="the data set 'cifar10' cannot be loaded"):
        open_target("lipmlp_s", data_name="cifar10", data_dir=str(tmp_path))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, images=np.zeros((9, 8, 8), np.uint8), labels=np.arange(9) % 3)
    return path


def test_images_of_a_file_are_data(
    images: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_target(f"{source}:network", data_name=str(images)).dataset.name == "mine"
    beside = open_target(f"{source}:network", data_name="mine.npz", data_dir=str(images.parent))
    assert beside.dataset.num_classes == 3
    monkeypatch.chdir(images.parent)
    for directory in (None, "elsewhere"):
        here = open_target(f"{source}:network", data_name="mine.npz", data_dir=directory)
        assert here.dataset.sha256 == beside.dataset.sha256
    with pytest.raises(TargetError, match="as in --data FILE"):
        open_target(f"{source}:network", data_name="npz")
    with pytest.raises(ExperimentError, match=r"others\.npz' cannot be loaded"):
        open_target(f"{source}:network", data_name="others.npz")


@pytest.mark.parametrize("own", ["digits", "npz"])
def test_a_run_is_evaluated_on_other_data_than_its_own(
    tmp_path: Path, images: Path, own: str
) -> None:
    data: dict[str, Any] = {"digits": {"name": own}, "npz": {"name": own, "path": str(images)}}[own]
    tree = {
        "data": data,
        "model": {"name": "lipmlp_s", "in_chans": 1, "img_size": 8, "num_classes": 3},
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "schedule": {"epochs": 1},
    }
    config = parse_config(tree)
    run = Run.create(tmp_path / "run", config)
    run.save_model(build_model(config))
    other = {"digits": str(images), "npz": "digits"}[own]
    assert open_target(str(run.path), data_name=other).dataset.name == Path(other).stem
    assert open_target(str(run.path)).dataset.name == Path(own.replace("npz", "mine")).stem


def test_a_file_that_is_no_python_is_told_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def network(:")
    with pytest.raises(TargetError, match="should be a function of a module: SyntaxError"):
        open_target(f"{path}:network", data_name="digits")
