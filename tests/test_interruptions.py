"""Trainings that are killed, at any moment, go on to the bits of those that were not."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lipnets.runs import Run

CASES = Path(__file__).with_name("interruption_cases.py")
CONFIG = {
    "data": {
        "name": "digits",
        "batch_size": 64,
        "limit": 200,
        "augment": ["shift", "mixup"],
    },
    "model": {"name": "lipmlp_s", "widths": [16], "linear": "linear"},
    "loss": {"name": "cross_entropy", "radius": 0.3, "temperature": None, "offset": None},
    "optimizer": {"name": "adam", "lr": 0.02},
    "schedule": {"epochs": 4},
    "ema": {"decay": 0.9, "start": 1, "warmup": True},
    "record": {"state_minutes": 0, "drivers": {"every": 3, "examples": 16}},
}
RESULTS = ("model.safetensors", "history.jsonl", "config.yaml", "certificate.npz", "config.json")
MOMENTS = ("fsync", "before a move", "after a move", "half a file", "half a line")


class Trainings:
    """Starts trainings in children of a process that has imported all."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CASES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def train(self, *arguments: str, said: Path, **moment: Any) -> int:
        """The exit status of `train.py`, or minus the signal that ended it."""
        case = {"arguments": arguments, "said": str(said), **moment}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def trainings() -> Iterator[Trainings]:
    started = Trainings()
    yield started
    assert started.process.stdin
    assert started.process.stdout
    started.process.stdin.close()
    started.process.wait(60)
    started.process.stdout.close()


@pytest.fixture(scope="module")
def straight(trainings: Trainings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    path = tmp_path_factory.mktemp("straight")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = (str(path / "config.yaml"), "--out", str(path / "run"))
    assert trainings.train(*arguments, said=path / "said") == 0, (path / "said").read_text()
    return path


def kill_until_it_ends(
    trainings: Trainings, straight: Path, tmp_path: Path, moments: list[dict[str, Any]]
) -> int:
    """Kills a training and goes on with it, at each moment; returns how often it was killed."""
    out, said = tmp_path / "run", tmp_path / "said"
    kills = 0
    for moment in [*moments, {}]:
        begun = (out / "config.yaml").exists()
        arguments = ("--resume",) if begun else (str(straight / "config.yaml"),)
        status = trainings.train(*arguments, "--out", str(out), said=said, **moment)
        assert status in (0, -signal.SIGKILL), said.read_text()
        assert moment or status == 0
        kills += status != 0
    for name in RESULTS:
        assert (out / name).read_bytes() == (straight / "run" / name).read_bytes(), name
    assert not list(out.rglob("*.part"))
    assert "Traceback" not in said.read_text()
    return kills


def drawn(seed: int, count: int) -> list[dict[str, Any]]:
    """Moments at random: of files, of lines, and of the clock."""
    draw = random.Random(seed)
    moments: list[dict[str, Any]] = []
    for _ in range(count):
        if draw.random() < 0.3:
            moments.append({"seconds": draw.uniform(0.1, 1.5)})
        else:
            moments.append({"what": draw.choice(MOMENTS), "number": draw.randint(1, 12)})
    return moments


def test_a_training_that_is_killed_goes_on_to_the_same_bits(
    trainings: Trainings, straight: Path, tmp_path: Path
) -> None:
    moments = [{"what": what, "number": 4} for what in MOMENTS]
    moments += [{"seconds": 0.6}]
    assert kill_until_it_ends(trainings, straight, tmp_path, moments) >= len(MOMENTS)


@pytest.mark.parametrize("what", ["fsync", "half a file"])
def test_a_training_that_is_killed_before_it_has_a_config_leaves_room_for_itself(
    trainings: Trainings, straight: Path, tmp_path: Path, what: str
) -> None:
    out = tmp_path / "run"
    arguments = (str(straight / "config.yaml"), "--out", str(out))
    status = trainings.train(*arguments, said=tmp_path / "said", what=what, number=1)
    assert status == -signal.SIGKILL
    assert list(out.iterdir())
    killed = trainings.train(*arguments, said=tmp_path / "said", what="fsync", number=9)
    assert killed == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert (out / "config.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_training_that_is_killed_thirty_times_goes_on_to_the_same_bits(
    trainings: Trainings, straight: Path, tmp_path: Path, seed: int
) -> None:
    assert kill_until_it_ends(trainings, straight, tmp_path, drawn(seed, 30)) >= 20


def test_sigterm_keeps_the_last_step_and_says_how_to_go_on(
    trainings: Trainings, straight: Path, tmp_path: Path
) -> None:
    """In the midst of a long epoch: no state is due before its end."""
    out, said = tmp_path / "run", tmp_path / "said"
    arguments = (str(straight / "config.yaml"), "data={name: digits, batch_size: 1}")
    arguments += ("record={drivers: null}", "--out", str(out))
    moment = {"until": str(out / "history.jsonl"), "seconds": 0.5, "signal": signal.SIGTERM}
    status = trainings.train(*arguments, said=said, **moment)
    assert status == 143, said.read_text()
    told = said.read_text()
    assert (
        "ended by SIGTERM: to go on from the last state that was saved, "
        f"python train.py --resume --out {out}" in told
    )
    assert not list(out.rglob("*.part"))
    state = Run.open(out).load_state()
    assert state is not None
    assert 0 < state["step"] < 1198
