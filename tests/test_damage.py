"""Run directories whose files are damaged, gone, or made to harm: a clear sentence, or the same bits."""

import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lipnets import experiment, verify
from lipnets.commands import evaluate, train
from lipnets.evaluation import writing
from lipnets.runs import Run
from lipnets.states import pack

CONFIG = {
    "data": {"name": "digits", "batch_size": 32, "limit": 64},
    "model": {"name": "lipmlp_s", "widths": [8]},
    "loss": {"name": "cross_entropy", "temperature": 0.1, "offset": 0.1},
    "optimizer": {"name": "adam", "lr": 0.02},
    "schedule": {"epochs": 3},
    "record": {"ledger": None, "drivers": None, "frequencies": False, "geometry": False},
}
RESULTS = ("model.safetensors", "history.jsonl", "certificate.npz", "config.json")
FILES = (*RESULTS, "config.yaml", "state/a.state", "state/b.state", "checksums.json", "lock")
COMMANDS = ("resume", "evaluate", "verify")


@pytest.fixture(autouse=True)
def _users_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Nothing is printed or drawn at the end, and few images are certified."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "print_results", lambda *_: None)
        patch.setattr(train, "certify_first", lambda _: 1.0)
        patch.setattr(writing, "figures", lambda *_: {})
        patch.setattr(writing, "page", lambda *_: "")
        patch.setattr(experiment, "_CERTIFIED", 4)
        yield


@pytest.fixture(scope="module")
def finished(_quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an evaluation."""
    path = tmp_path_factory.mktemp("finished")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    assert train.main([str(path / "config.yaml"), "--out", str(path / "run")]) == 0
    assert command("evaluate", path / "run") == 0
    torch.set_default_dtype(before)
    return path / "run"


def command(name: str, run: Path) -> int:
    """The exit status of a command."""
    if name == "resume":
        return train.main(["--resume", "--out", str(run)])
    if name == "evaluate":
        return evaluate.main([str(run), "--probes", "certified", "--limit", "4"])
    return verify.main([str(run / "certificate.npz")])


def damaged(path: Path, draw: random.Random, how: str) -> None:
    """Damages a file in place."""
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "flipped":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "overwritten":
        start = draw.randrange(len(content))
        content[start : start + 200] = draw.randbytes(len(content[start : start + 200]))
        path.write_bytes(content)
    else:
        path.unlink()
        if how == "directory":
            path.mkdir()


def contents(run: Path, names: tuple[str, ...]) -> dict[str, bytes | None]:
    return {n: (run / n).read_bytes() if (run / n).is_file() else None for n in names}


def check(name: str, finished: Path, run: Path, told: str, status: int) -> None:
    """Either the results are those of the intact run, or an error says what is wrong."""
    assert "Traceback" not in told
    assert not list(run.rglob("*.part"))
    if name == "resume" and status == 0:
        assert contents(run, RESULTS) == contents(finished, RESULTS)
    elif name == "evaluate" and status == 0:
        records = ("evaluation/records.jsonl", "evaluation/certificate.npz")
        assert contents(run, records) == contents(finished, records)
    elif status:
        assert status == 1
        assert re.match(r"(warning: [^\n]*\n)*(error: )?[^\n]{30,}", told), told
        assert str(run) in told


def spoil(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seed: int,
    how: str,
    file: str,
) -> None:
    draw = random.Random(f"{seed} {how} {file}")
    names = ("verify",) if file == "certificate.npz" else ("resume", "evaluate")
    for name in (draw.choice(names),) if seed == 0 else names:
        run = tmp_path / f"{name}-{how}-{file.replace('/', '-')}-{seed}"
        shutil.copytree(finished, run)
        if name == "evaluate":
            shutil.rmtree(run / "evaluation")
        damaged(run / file, draw, how)
        before = contents(run, FILES)
        capsys.readouterr()
        status = command(name, run)
        check(name, finished, run, capsys.readouterr().err, status)
        if status:
            after = contents(run, FILES)
            assert {k: v for k, v in after.items() if k != "lock"} == {
                k: v for k, v in before.items() if k != "lock"
            }


HOW = ("truncated", "flipped", "emptied", "overwritten", "removed", "directory")


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_told_or_does_no_harm(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """Each file in two ways, and each way; with `slow`, in all."""
    start = FILES.index(file)
    for how in (HOW * 2)[start % 6 : start % 6 + 2]:
        spoil(finished, tmp_path, capsys, 0, how, file)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("file", FILES)
def test_more_damage_is_told_or_does_no_harm(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, seed: int
) -> None:
    for how in HOW:
        spoil(finished, tmp_path, capsys, seed, how, file)


# Code.


class Evil:
    """Touches a file when it is unpickled, as any command might be run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def plants(owned: Path) -> dict[str, list[bytes]]:
    """For each kind of file, what runs code where it is read without care."""
    evil = Evil(owned)
    array, saved = BytesIO(), BytesIO()
    np.savez(array, meta=np.array([evil], dtype=object))
    torch.save({"state": evil}, saved)
    raw = pickle.dumps(evil)
    pickle.loads(raw)
    owned.rmdir()  # it would run
    text = f"!!python/object/apply:os.mkdir ['{owned}']\n".encode()
    named = json.dumps({"py/reduce": ["os.mkdir", str(owned)]}).encode()
    note = {"number": 99, "step": 6, "history_bytes": 0, "history_sha256": "", "checksums": {}}
    note["history_sha256"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    state = pack(note, {"step": evil})
    return {
        ".npz": [array.getvalue(), raw],
        ".state": [state, saved.getvalue(), raw],
        ".yaml": [text],
        ".json": [named, raw],
        ".jsonl": [named + b"\n", raw],
        ".safetensors": [saved.getvalue(), raw],
    }


@pytest.mark.parametrize("trusted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_no_file_of_a_run_directory_runs_code(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trusted: bool
) -> None:
    """Also where whoever planted it has made the checksums right."""
    owned = tmp_path / "owned"
    planted = plants(owned)
    for file in [each for each in FILES if each != "lock"]:
        for index, content in enumerate(planted[Path(file).suffix]):
            run = tmp_path / f"{file.replace('/', '-')}-{index}"
            shutil.copytree(finished, run)
            for each in ("a", "b") if file.startswith("state") else ():
                (run / f"state/{each}.state").write_bytes(content)
            if trusted and file in (*RESULTS, "config.yaml") and not file.endswith("jsonl"):
                Run(run).write(file, content)
            (run / file).write_bytes(content)
            name = "verify" if file == "certificate.npz" else "evaluate"
            names = ("resume", name) if file != "certificate.npz" else (name,)
            for each in (names[index % len(names)],) if trusted else names:  # quick, or slow
                capsys.readouterr()
                status = command(each, run)
                check(each, finished, run, capsys.readouterr().err, status)
                assert not owned.exists(), (file, index, each)
            shutil.rmtree(run)
