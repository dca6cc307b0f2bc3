"""Run directories: whole files, checksums, refusals, and the way back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from lipnets import models
from lipnets.certify import certify
from lipnets.config import Config, parse_config
from lipnets.records import Record
from lipnets.runs import (
    DamagedFileError,
    Run,
    RunError,
    RunExistsError,
    format_records,
    parse_records,
    write_atomic,
)


def config() -> Config:
    return parse_config(
        {
            "data": {"name": "digits"},
            "model": {"name": "lipmlp_s", "in_chans": 1, "img_size": 8, "widths": [8]},
            "loss": {"name": "cross_entropy"},
            "optimizer": {"name": "adam", "lr": 0.01},
            "schedule": {"epochs": 2},
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", config())


def build() -> nn.Module:
    spec = config().model
    return models.build(spec.name, **spec.arguments)


# Writing.


def test_a_file_is_written_in_text_and_in_bytes(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "ℓ2\n")
    assert (tmp_path / "a").read_bytes() == "ℓ2\n".encode()
    write_atomic(tmp_path / "a", b"\0\1")
    assert (tmp_path / "a").read_bytes() == b"\0\1"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_atomic(tmp_path / "a", "before")

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a", "after")
    assert (tmp_path / "a").read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_an_interruption_at_any_moment_leaves_an_intact_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every move of a file into its place is made to fail in turn, also after failures before."""
    run.write("notes", "0")
    move = Path.replace
    content = "0"
    for round_, broken in enumerate([1, 2, 1, 2, 3, 2, 1], start=1):
        moves = 0

        def fail(self: Path, target: Path, broken: int = broken) -> Path:
            nonlocal moves
            moves += 1
            if moves == broken:
                raise KeyboardInterrupt
            return move(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            with pytest.raises(KeyboardInterrupt):
                run.write("notes", str(round_))
        content = str(round_) if broken == 3 else content
        assert run.read("notes").decode() == content
    run.write("notes", "whole")
    assert run.read("notes") == b"whole"
    assert len(json.loads((run.path / "checksums.json").read_text())["notes"]) == 1


def test_a_process_that_is_killed_while_writing_leaves_the_file_before(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "before")
    code = f"""
import os, signal
from lipnets.runs import write_atomic
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomic({str(tmp_path / "a")!r}, "after" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -9
    assert (tmp_path / "a").read_text() == "before"


# Creating and opening.


def test_a_run_directory_holds_its_config(run: Run) -> None:
    assert Run.open(run.path).config().to_tree() == config().to_tree()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_exists_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    kept = path if kind == "file" else path / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("precious")
    with pytest.raises(RunExistsError, match=r"run exists.*--out.*--resume"):
        Run.create(path, config())
    assert kept.read_text() == "precious"
    assert sorted(each.name for each in tmp_path.rglob("*")) == sorted({"run", kept.name})


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    assert Run.create(tmp_path, config()).path == tmp_path


def test_what_is_no_run_directory_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere is not a run directory: it does not exist"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"it has no config.yaml"):
        Run.open(tmp_path)


# Weights, certificates and states.


def test_a_model_comes_back_with_its_weights_and_dtype_in_evaluation_mode(run: Run) -> None:
    model = build().to(torch.float32)
    run.save_model(model)
    rng = torch.get_rng_state()
    loaded = run.load_model()
    assert torch.equal(torch.get_rng_state(), rng)
    images = torch.rand(3, 1, 8, 8, dtype=torch.float32)
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(images), model.eval()(images))


def test_weights_that_are_not_contiguous_or_shared_are_saved(run: Run) -> None:
    """Torch's orthogonal parametrization keeps a transposed base, which safetensors refuses."""
    layer = orthogonal(nn.Linear(3, 5), orthogonal_map="cayley")
    assert not all(each.is_contiguous() for each in layer.state_dict().values())
    model = nn.Sequential(layer, layer)
    run.save_model(model)
    from safetensors.torch import load

    saved = load(run.read("model.safetensors"))
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[key], value) for key, value in model.state_dict().items())


def test_weights_of_another_model_are_refused(run: Run) -> None:
    run.save_model(nn.Linear(2, 2))
    with pytest.raises(DamagedFileError, match=r"model.safetensors does not hold .* another model"):
        run.load_model()


def test_a_certificate_comes_back(run: Run) -> None:
    certificate = certify(build().eval(), (1, 8, 8))
    run.save_certificate(certificate)
    loaded = run.load_certificate()
    # Proved anew, of weights that lie elsewhere in memory: sums may have another order.
    assert loaded.lipschitz == pytest.approx(certificate.lipschitz, rel=1e-12)
    torch.testing.assert_close(loaded.slopes, certificate.slopes, rtol=1e-12, atol=0)


def test_a_state_comes_back_and_takes_the_history_along(run: Run) -> None:
    assert run.load_state() is None
    run.log([Record("a", 1.0, "1")])
    run.save_state({"epoch": 1, "tensor": torch.arange(3), "plain": [1, {"x": (2.5, None)}]})
    run.log([Record("a", 2.0, "1")])  # of an epoch that was not finished
    with (run.path / "history.jsonl").open("a") as file:
        file.write('{"name": "a", "val')
    assert [record.value for record in run.history()] == [1.0, 2.0]

    state = run.load_state()
    assert state is not None
    assert (state["epoch"], state["plain"]) == (1, [1, {"x": (2.5, None)}])
    assert torch.equal(state["tensor"], torch.arange(3))
    assert [record.value for record in run.history()] == [1.0, 2.0]  # until all else is in order
    run.take_history_back()
    assert [record.value for record in run.history()] == [1.0]


def test_a_state_with_objects_is_not_unpickled(run: Run, tmp_path: Path) -> None:
    """Even if its checksum were right."""

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "owned",)

    run.save_state({"evil": Evil()})
    with pytest.raises(
        DamagedFileError, match=r"a.state is damaged: it should hold tensors and plain data"
    ):
        run.load_state()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("how", ["truncated", "changed", "emptied"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "certificate.npz", "state/a.state", "config.yaml"]
)
def test_damage_is_noticed_and_the_file_named(run: Run, name: str, how: str) -> None:
    model = build().eval()
    run.save_model(model)
    run.save_certificate(certify(model, (1, 8, 8)))
    run.save_state({"model": model.state_dict()})
    path = run.path / name
    data = path.read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"truncated": data[:-1], "changed": changed, "emptied": b""}[how])
    read = {
        "model.safetensors": run.load_model,
        "certificate.npz": run.load_certificate,
        "state/a.state": run.load_state,
        "config.yaml": run.config,
    }[name]
    with pytest.raises(DamagedFileError, match=name.replace(".", r"\.") + " is damaged"):
        read()


def test_a_damaged_list_of_checksums_is_named(run: Run) -> None:
    (run.path / "checksums.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"checksums\.json is damaged"):
        run.config()


def test_weights_that_were_not_written_yet_are_missed(run: Run) -> None:
    with pytest.raises(RunError, match=r"model\.safetensors does not exist"):
        run.load_model()


def test_a_history_that_was_cut_is_noticed(run: Run) -> None:
    run.log([Record("a", 1.0, "1")])
    run.save_state({})
    (run.path / "history.jsonl").write_text("")
    with pytest.raises(DamagedFileError, match=r"history\.jsonl is damaged"):
        run.load_state()


# Records.


def test_records_survive_as_lines_of_json() -> None:
    records = [
        Record("bound/layer", 1.0 + 2**-52, "1", step=3, epoch=0.1, details={"layer": "a.b"}),
        Record("accuracy", 0.5, "fraction", count=7),
        Record("radius", float("inf"), "l2 pixels", details={"low": float("-inf")}),
    ]
    text = format_records(records)
    assert all(json.loads(line, parse_constant=pytest.fail) for line in text.splitlines())
    first, second, third = parse_records(text, "here")
    assert [first, second] == records[:2]
    assert third.value == float("inf")


def test_a_damaged_line_is_named() -> None:
    text = format_records([Record("a", 1.0, "1")])
    for damaged in ("{}\n", "x\n", '{"name": "a", "value": 1, "unit": "1", "colour": 2}\n'):
        with pytest.raises(DamagedFileError, match="history is damaged in line 2"):
            parse_records(text + damaged + text, "history")
