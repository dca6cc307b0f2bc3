"""Disks that are full, directories that are gone or locked, data that are others: a sentence each."""

import errno
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lipnets import locks, resuming, tensorboard
from lipnets.commands import train as script
from lipnets.config import parse_config
from lipnets.records import Record
from lipnets.runs import Run, RunBusyError, RunError, UnwritableError

CONFIG = {
    "data": {"name": "digits", "batch_size": 32, "limit": 64},
    "model": {"name": "lipmlp_s", "widths": [8]},
    "loss": {"name": "cross_entropy", "temperature": 0.1, "offset": 0.1},
    "optimizer": {"name": "adam", "lr": 0.02},
    "schedule": {"epochs": 2},
    "record": {"ledger": None, "drivers": None, "frequencies": False, "geometry": False},
}
RESULTS = ("model.safetensors", "history.jsonl", "certificate.npz", "config.json")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(script, "print_results", lambda *_: None)
    monkeypatch.setattr(script, "certify_first", lambda _: 1.0)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    tree = {**CONFIG, "model": {**CONFIG["model"], "in_chans": 1, "img_size": 8}}
    return Run.create(tmp_path / "run", parse_config(tree))


def full(code: int, first: int) -> tuple[Callable[..., Any], list[str]]:
    """An opener of files that, from the `first` file to be written on, have half of their content.

    Returns:
        The opener, and the names of the files that were to be written.
    """
    opened = Path.open
    names: list[str] = []

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(bytes(content)[: len(content) // 2])
            raise OSError(code, os.strerror(code))

    def open_(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode in ("wb", "ab"):
            names.append(re.sub(r"^\.(.*)\.\d+\.part$", r"\1", self.name))
            if len(names) >= first:
                return Full(self, mode)
        return opened(self, mode, *args, **kwargs)

    return open_, names


def test_a_full_disk_stops_training_at_any_file_and_it_goes_on_to_the_same_bits(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of configs, checksums, histories, states, weights and certificates, in turn."""
    straight = tmp_path / "straight"
    open_, names = full(errno.ENOSPC, 10**9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        assert script.main([config, "--out", str(straight)]) == 0
    assert {*names} == {*RESULTS, "config.yaml", "checksums.json", "a.state", "b.state"}
    for name in dict.fromkeys(names):
        out, first = tmp_path / f"run_{name}", names.index(name) + 1
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full(errno.ENOSPC, first)[0])
            assert script.main([config, "--out", str(out)]) == 1
        error, what = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: /")
        assert f"/{name} cannot be written: No space left on device. Free some space" in error
        begun = (out / "config.yaml").exists()
        assert what.endswith(f"--resume --out {out}" if begun else "stopped: nothing was written")
        assert begun or not out.exists()
        assert not list(out.rglob(".*"))
        if name in ("history.jsonl", "b.state", "certificate.npz"):
            assert script.main(["--resume", "--out", str(out)]) == 0
            for each in RESULTS:
                assert (out / each).read_bytes() == (straight / each).read_bytes(), each


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "Permission denied. Make it and its directory writable"),
        (errno.EROFS, "Read-only file system. Make it and its directory writable"),
        (errno.EDQUOT, "Free some space there: the quota is used up"),
        (errno.EIO, "Look after the disk"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_that_names_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    run.save_state({"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full(code, 1)[0])
        with pytest.raises(UnwritableError, match=words) as caught:
            run.save_state({"step": 2})
    assert str(caught.value).startswith(f"{run.path / 'state/b.state'} cannot be written: ")
    assert caught.value.errno == code
    assert run.load_state() == {"step": 1}
    assert [each.name for each in (run.path / "state").iterdir()] == ["a.state"]


def test_a_history_without_room_has_no_half_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.log([Record("a", 1.0, "1")])
    before = (run.path / "history.jsonl").read_bytes()
    monkeypatch.setattr(Path, "open", full(errno.ENOSPC, 1)[0])
    with pytest.raises(UnwritableError, match=r"history\.jsonl cannot be written: No space"):
        run.log([Record("b", 2.0, "1")])
    assert (run.path / "history.jsonl").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_read_only_is_refused_before_training(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.path.chmod(0o555)
    try:
        assert script.main(["--resume", "--out", str(run.path)]) == 1
    finally:
        run.path.chmod(0o755)
    assert "Permission denied. Make it" in capsys.readouterr().err


def test_a_directory_that_vanished_is_told(run: Run) -> None:
    shutil.rmtree(run.path)
    with pytest.raises(UnwritableError, match="Its directory is no longer there"):
        run.log([Record("a", 1.0, "1")])
    with pytest.raises(UnwritableError, match="Its directory is no longer there"):
        run.save_state({"step": 1})
    assert not run.path.exists()


def test_states_are_written_in_turn_and_one_is_always_intact(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 6):
        run.save_state({"step": step})
        names = sorted(each.name for each in (run.path / "state").iterdir())
        assert names == ["a.state", "b.state"][: min(step, 2)]
        assert Run(run.path).load_state() == {"step": step}
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full(errno.ENOSPC, 1)[0])
            with pytest.raises(UnwritableError):
                run.save_state({"step": 99})
        assert Run(run.path).load_state() == {"step": step}
    told: list[str] = []
    newest = run.path / "state/a.state"
    newest.write_bytes(newest.read_bytes()[:-1])
    again = Run(run.path, told.append)
    assert again.load_state() == {"step": 4}
    assert len(told) == 1
    assert f"{newest} is damaged" in told[0]
    assert "from the state of step 4" in told[0]
    again.save_state({"step": 6})  # in the place of the damaged one
    assert Run(run.path).load_state() == {"step": 6}
    (run.path / "state/a.state").unlink()
    assert Run(run.path).load_state() == {"step": 4}


# Two at once.


def test_two_processes_do_not_train_in_one_directory(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from pathlib import Path; from lipnets import locks\n"
        f"with locks.hold(Path({str(run.path / 'lock')!r}), print):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    before = (run.path / "config.yaml").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError), run.lock():
            pass
        assert script.main(["--resume", "--out", str(run.path)]) == 1
        told = capsys.readouterr().err
        assert f"error: process {other.pid} on " in told
        assert f"trains in {run.path}: wait until it ends, or end it" in told
        with pytest.raises(RunError, match=rf"does not exist yet: process {other.pid} on"):
            run.load_model()
        other.kill()
        other.wait()
    with run.lock():  # which the system has released
        assert locks.holder(run.path / "lock") == f"process {os.getpid()} on {os.uname().nodename}"
    assert locks.holder(run.path / "lock") is None
    with pytest.raises(RunError, match=r"does not exist: training was not finished"):
        run.load_model()
    assert (run.path / "config.yaml").read_bytes() == before


def test_a_file_system_without_locks_is_told_and_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    told: list[str] = []
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with Run(run.path, told.append).lock():
        pass
    assert len(told) == 1
    assert "There are no locks on the file system" in told[0]


# Others than before.


def test_a_training_goes_on_with_its_own_data_only_and_tells_of_other_versions(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, load = tmp_path / "run", script.load_data
    assert script.main([config, "--out", str(out)]) == 0
    before = {each: (out / each).read_bytes() for each in RESULTS}

    def other(config: Any) -> Any:
        dataset = load(config)
        images = dataset.test.images.clone()
        images[0, 0, 0, 0] += 1 / 16
        return replace(dataset, test=replace(dataset.test, images=images.clamp(max=1)))

    with monkeypatch.context() as patch:
        patch.setattr(script, "load_data", other)
        capsys.readouterr()
        assert script.main(["--resume", "--out", str(out)]) == 1
    assert f"error: {out} was begun with other data of the same name" in capsys.readouterr().err
    assert {each: (out / each).read_bytes() for each in RESULTS} == before
    with monkeypatch.context() as patch:
        patch.setattr(resuming.lipnets, "__version__", "99.0")
        assert script.main(["--resume", "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert (
        "warning: Training goes on with lipnets 99.0 (before: 0.1.0): the weights may have" in told
    )


def test_a_state_of_another_model_is_told_and_the_history_left_alone(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    assert script.main([config, "--out", str(out)]) == 0
    assert script.main([config, "model.widths=[12]", "--out", str(other)]) == 0
    for name in ("state/a.state", "state/b.state", "history.jsonl"):
        shutil.copy(other / name, out / name)
    with (out / "history.jsonl").open("a") as file:
        file.write("half")
    before = (out / "history.jsonl").read_bytes()
    capsys.readouterr()
    assert script.main(["--resume", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: The last state, which lipnets 0.1.0 wrote, does not fit what")
    assert "Nothing was changed" in told
    assert (out / "history.jsonl").read_bytes() == before


# TensorBoard.


def test_tensorboard_has_the_history_once_also_after_an_interruption(
    config: str, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    for arguments in ([config], ["--resume"]):
        assert script.main([*arguments, "--tensorboard", "--out", str(out)]) == 0
        seen = EventAccumulator(str(out / "tensorboard"), {"scalars": 0}).Reload()
        found = {
            (tag, each.step): each.value
            for tag in seen.Tags()["scalars"]
            for each in seen.Scalars(tag)
        }
        history = {(tensorboard.tag(r), r.step): r.value for r in Run(out).history()}
        assert len(history) == len(Run(out).history())
        assert found == pytest.approx(history, rel=1e-6)
        assert sum(len(seen.Scalars(tag)) for tag in seen.Tags()["scalars"]) == len(history)


def test_a_missing_tensorboard_is_told_before_training(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert script.main([config, "--tensorboard", "--out", str(tmp_path / "run")]) == 1
    assert "pip install 'lipnets[track]', or leave out --tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
