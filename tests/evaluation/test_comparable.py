"""Tests of what is refused before it is evaluated: what could not be compared afterwards."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lipnets.commands import evaluate as script
from lipnets.config import parse_config
from lipnets.data import Dataset, Split
from lipnets.evaluation import Target, TargetError, refuse_incomparable
from lipnets.evaluation.examination import Examination
from lipnets.experiment import build_model
from lipnets.runs import Run

PROBES = ("certified", "frequency")


def on(target: Target, dataset: Dataset) -> Target:
    return dataclasses.replace(target, dataset=dataset)


def test_the_same_data_are_the_same_wherever_they_were_read(
    target: Target, dataset: Dataset
) -> None:
    test = Split(dataset.test.images.clone(), dataset.test.labels.clone())
    refuse_incomparable(
        {"a": target, "b": on(target, dataclasses.replace(dataset, test=test))}, PROBES
    )


@pytest.mark.parametrize("what", ["image", "label", "fewer", "name"])
def test_other_data_are_refused_with_both_and_what_to_do(
    target: Target, dataset: Dataset, what: str
) -> None:
    images, labels = dataset.test.images.clone(), dataset.test.labels.clone()
    if what == "image":
        images[3, 0, 1, 1] += 1e-3
    if what == "label":
        labels[3] = (labels[3] + 1) % 3
    kept = 11 if what == "fewer" else 12
    other = dataclasses.replace(
        dataset,
        name="other" if what == "name" else dataset.name,
        test=Split(images[:kept], labels[:kept]),
    )
    with pytest.raises(TargetError) as caught:
        refuse_incomparable({"a": target, "b": target, "c": on(target, other)}, PROBES)
    said = str(caught.value)
    assert "should have the same data, got noise (12 test images of 3 classes, SHA-256 " in said
    assert f"for 'a' and {other.name} ({kept} test images of 3 classes, SHA-256 " in said
    assert f"{other.sha256[:12]}) for 'c': name the same " in said
    assert ("for all with --data," in said) == (what == "name")


def test_one_network_needs_nothing_of_others(target: Target) -> None:
    refuse_incomparable({"a": target}, ["frequency"])


def test_without_the_label_of_each_image_nothing_is_compared(target: Target) -> None:
    with pytest.raises(TargetError, match="the probe 'certified', got only frequency: name it"):
        refuse_incomparable({"a": target, "b": target}, ["frequency"])


def test_the_command_refuses_before_any_probe_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.arange(40 * 64).reshape(40, 8, 8) % 251
    for name, count in (("a", 40), ("b", 30)):
        path = tmp_path / f"{name}.npz"
        np.savez(path, images=images[:count].astype(np.uint8), labels=np.arange(count) % 10)
        config = parse_config(
            {
                "data": {"name": "npz", "path": str(path)},
                "model": {"name": "lipmlp_s", "widths": [8]}
                | {"in_chans": 1, "img_size": 8, "num_classes": 10},
                "loss": {"name": "cross_entropy"},
                "optimizer": {"name": "adam", "lr": 0.01},
                "schedule": {"epochs": 1},
            }
        )
        run = Run.create(tmp_path / name, config)
        run.save_model(build_model(config))

    def ran(*_: object) -> None:
        raise AssertionError("a probe ran")

    monkeypatch.setattr(Examination, "examine", ran)
    assert script.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: networks that are compared should have the same data, got ")
    assert "for 'a' and" in said
    assert "SHA-256" in said
    assert "name the same data for all with --data, or evaluate one network at a time." in said
    assert not (tmp_path / "a" / "evaluation").exists()
