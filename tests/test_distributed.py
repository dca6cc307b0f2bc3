"""Two processes train as one does: the same weights, one history, one voice."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from lipnets import distributed
from lipnets.commands import train
from lipnets.runs import Run

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "train.py"
CONFIG = {
    # The last batch of an epoch has one image: nothing is left for the second process.
    "data": {"name": "digits", "batch_size": 64, "limit": 129, "augment": ["shift", "mixup"]},
    "model": {"name": "lipmlp_s", "widths": [16]},
    "loss": {"name": "cross_entropy", "radius": 0.2},
    "optimizer": {"name": "sgd", "lr": 0.05, "clip_grad_norm": 0.5},
    "schedule": {"epochs": 2},
    "ema": {"decay": 0.5},
    "record": {"state_minutes": 0},
}

# The weights are huge after a step, which is saved, and what comes of them is not finite.
BLOWN = (
    "model={name: plain_mlp_s, widths: [16]}",
    "loss.radius=null",
    "optimizer={name: sgd, lr: 1e37}",
    "record={state_minutes: 0, ledger: null, drivers: null}",
)

spec = spec_from_file_location("distributed_cases", HERE / "distributed_cases.py")
assert spec is not None
assert spec.loader is not None
cases: Any = module_from_spec(spec)
sys.modules[spec.name] = cases  # data classes look it up
spec.loader.exec_module(cases)


LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
RUN: dict[str, Any] = {
    "text": True,
    "env": {**os.environ, "OMP_NUM_THREADS": "1"},
    "cwd": HERE.parent,
}


def torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """What comes of a script with two processes."""
    command = [sys.executable, *LAUNCHER, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300, **RUN)


@contextmanager
def running(*arguments: object, said: Path) -> "Iterator[subprocess.Popen[str]]":
    """A script with two processes, which are killed if they are still there at the end."""
    command = [sys.executable, *LAUNCHER, *map(str, arguments)]
    with said.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, **RUN) as started:
        try:
            yield started
        finally:
            for process in [*ranks(started), started.pid] if started.poll() is None else []:
                os.kill(process, signal.SIGKILL)


def ranks(launcher: "subprocess.Popen[str]") -> list[int]:
    """The processes that a launcher has started, in their order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    return sorted(map(int, children.split()))


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of all cases."""
    out = tmp_path_factory.mktemp("both")
    (out / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = torchrun(HERE / "distributed_cases.py", out)
    assert done.returncode == 0, done.stderr
    (out / "stdout").write_text(done.stdout)
    (out / "stderr").write_text(done.stderr)
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one process."""
    out = tmp_path_factory.mktemp("alone")
    (out / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # what users have
    assert train.main([str(out / "config.yaml"), "--out", str(out / "run")]) == 0
    torch.set_default_dtype(before)
    return out / "run"


def outcomes(both: Path, name: str) -> tuple[Any, Any, Any]:
    """Of both ranks, and of one process."""
    ranks = [torch.load(both / f"{name}.{rank}.pt") for rank in (0, 1)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return ranks[0], ranks[1], cases.weights_after(name)
    finally:
        torch.set_default_dtype(before)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert list(first) == list(second)
    return max((first[key].double() - second[key].double()).abs().max().item() for key in first)


EXACT = ["clipped", "averaged", "normalized", "of the batch", "mixed", "last"]


@pytest.mark.parametrize("name", [*EXACT, "half", "half normalized", "dropout"])
def test_ranks_have_the_same_weights_losses_and_norms_to_the_bit(both, name) -> None:
    first, second, _ = outcomes(both, name)
    for kind in ("weights", "average"):
        if first[kind] is not None:
            assert all(torch.equal(first[kind][key], second[kind][key]) for key in first[kind])
    assert first["losses"] == second["losses"]
    assert first["norms"] == second["norms"]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_train_as_one(both, name) -> None:
    """Batches of 8, 5 and 1: the second process has 4, 2 and none."""
    first, _, one = outcomes(both, name)
    for kind in ("weights", "average"):
        if one[kind] is not None:
            assert distance(one["start"], one[kind]) > 1e-2
            assert distance(first[kind], one[kind]) < 1e-6
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert first["norms"] == pytest.approx(one["norms"], rel=1e-4)


@pytest.mark.parametrize(("name", "share"), [("half", 2**-7), ("half normalized", 2**-6)])
def test_in_half_precision_two_processes_differ_as_numbers_are_rounded(both, name, share) -> None:
    """Gradients of parts are rounded to 8 bits before they are averaged; here, of what weights moved."""
    first, _, one = outcomes(both, name)
    weights = {key for key in one["weights"] if "tracked" not in key}
    moved = distance(
        *({key: each[key] for key in weights} for each in (one["start"], one["weights"]))
    )
    assert distance(first["weights"], one["weights"]) < share * moved


def test_dropout_draws_otherwise_on_each_rank(both) -> None:
    first, second, _ = outcomes(both, "dropout")
    assert not torch.equal(first["drawn"], second["drawn"])


@pytest.mark.parametrize(
    ("name", "taken", "told"),
    [
        ("bad image", 1, "The loss is nan at step 2, .* 1 of the 5 images of the batch"),
        ("overflow", 3, "The loss is nan at step 4, .* inf in its outputs is '2', a Huge"),
    ],
)
def test_what_is_not_finite_in_one_process_stops_all_with_the_same_error(
    both, name, taken, told
) -> None:
    first, second, one = outcomes(both, name)
    assert first["error"] == second["error"] == one["error"]
    assert len(first["losses"]) == len(second["losses"]) == taken
    assert re.search(told, first["error"])
    assert all(torch.equal(first["weights"][k], second["weights"][k]) for k in first["weights"])


# The command.


def test_one_process_writes_the_run_that_one_process_alone_does(both: Path, alone: Path) -> None:
    assert [(both / f"statuses.{rank}").read_text() for rank in (0, 1)] == ["[0, 130, 0]"] * 2
    mine, theirs = Run(both / "run"), Run(alone)
    assert {str(each.relative_to(mine.path)) for each in mine.path.rglob("*")} == {
        str(each.relative_to(alone)) for each in alone.rglob("*")
    }
    weights = [load_file(each / "model.safetensors") for each in (mine.path, alone)]
    assert distance(*weights) < 1e-5
    for mine_record, record in zip(mine.history(), theirs.history(), strict=True):
        assert (mine_record.name, mine_record.step) == (record.name, record.step)
        if record.name == "train/loss":
            assert mine_record.value == pytest.approx(record.value, rel=1e-5)
    difference = mine.load_certificate().lipschitz - theirs.load_certificate().lipschitz
    assert abs(difference) < 1e-5


def test_what_was_interrupted_goes_on_to_the_same_bits(both: Path) -> None:
    """In the midst of an epoch: the first process reads the state, and tells the other."""
    for name in ("model.safetensors", "history.jsonl"):
        assert (both / "run" / name).read_bytes() == (both / "again" / name).read_bytes()


def test_the_first_process_speaks_for_all(both: Path) -> None:
    lines = (both / "stdout").read_text().splitlines()
    assert sum("held-out images" in line for line in lines) == 2  # of two trainings that ended
    assert (both / "stderr").read_text().count("interrupted") == 1


def test_a_mistake_is_told_once_and_ends_all(tmp_path: Path) -> None:
    """The launcher has a report of its own: of ours there is one sentence."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    out = tmp_path / "run"
    out.mkdir()
    (out / "precious").write_text("keep")
    done = torchrun(SCRIPT, tmp_path / "config.yaml", "--out", out)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert f"error: {out} exists and was left as it is" in done.stderr
    assert 'train.py", line' not in done.stderr
    assert [each.name for each in out.iterdir()] == ["precious"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("optimizer.lr=-1",), "optimizer.lr"),
        (("--device", "cuda"), "there is no device 'cuda:0'"),
        (BLOWN, "The last good state is that of step 1"),
    ],
)
def test_a_mistake_of_all_processes_is_told_once(tmp_path: Path, arguments, told) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = torchrun(SCRIPT, tmp_path / "config.yaml", *arguments, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert told in done.stderr
    assert 'train.py", line' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_alone_says_why_and_ends_all(tmp_path: Path, rank: int) -> None:
    code = f"""
import sys, torch
from lipnets import distributed
def main():
    if distributed.rank() == {rank}:
        raise ValueError("only here")
    distributed.gathered(0)
    return 0
sys.exit(distributed.command(main))
"""
    (tmp_path / "script.py").write_text(code)
    done = torchrun(tmp_path / "script.py")
    assert done.returncode == 1
    assert done.stderr.count("ValueError: only here") == 1, done.stderr
    assert "closed" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("who", ["launcher", "first", "second", "all", "launcher, killed"])
def test_sigterm_keeps_the_last_step_and_goes_on_to_the_same_bits(tmp_path: Path, who: str) -> None:
    """In an epoch of so many steps that no state is due."""
    tree = {**CONFIG, "schedule": {"epochs": 1, "max_steps": 400}, "record": {}}
    tree["data"] = {**CONFIG["data"], "batch_size": 2, "limit": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    out, said = tmp_path / "run", tmp_path / "said"
    with running(SCRIPT, tmp_path / "config.yaml", "--out", out, said=said) as started:
        wait_until(lambda: (out / "history.jsonl").exists())
        processes = ranks(started)
        chosen = {"first": processes[:1], "second": processes[1:], "all": [*processes]}
        for each in chosen.get(who, []):
            os.kill(each, signal.SIGTERM)
        if who not in chosen or who == "all":
            started.send_signal(signal.SIGKILL if "killed" in who else signal.SIGTERM)
        assert started.wait(60) != 0
        wait_until(lambda: not any(Path(f"/proc/{each}/cmdline").exists() for each in processes))
    told = said.read_text()
    again = f"torchrun --nproc-per-node=2 train.py --resume --out {out}"
    assert (
        told.count(f"ended by SIGTERM: to go on from the last state that was saved, {again}") == 1
    )
    assert 'train.py", line' not in told, told
    with Run(out).lock():  # nobody holds it
        state = Run(out).load_state()
    assert state is not None
    assert 0 < state["step"] < 400
    done = torchrun(SCRIPT, "--resume", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    straight = torchrun(SCRIPT, tmp_path / "config.yaml", "--out", tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    for name in ("model.safetensors", "history.jsonl", "certificate.npz"):
        assert (out / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


@pytest.mark.slow
def test_another_torchrun_on_a_run_directory_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    tree = {**CONFIG, "schedule": {"epochs": 10000}, "record": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    out, said = tmp_path / "run", tmp_path / "said"
    with running(SCRIPT, tmp_path / "config.yaml", "--out", out, said=said) as started:
        wait_until(lambda: (out / "state/b.state").exists())
        for arguments, told in [
            (("--resume",), f"trains in {out}: wait until it ends"),
            ((tmp_path / "config.yaml",), f"{out} exists and was left as it is"),
        ]:
            other = torchrun(SCRIPT, *arguments, "--out", out)
            assert other.returncode == 1
            assert other.stderr.count("error: ") == 1, other.stderr
            assert told in other.stderr
        assert started.poll() is None
        started.terminate()
        assert started.wait(60) != 0
    assert "ended by SIGTERM" in said.read_text()
    with Run(out).lock():
        assert Run(out).load_state() is not None


# Alone.


def test_the_last_good_state_is_named_where_numbers_stop_to_be_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.set_default_dtype(torch.float32)
    out = tmp_path / "run"
    status = train.main([str(tmp_path / "config.yaml"), *BLOWN, "--out", str(out)])
    told = capsys.readouterr().err
    assert status == 1
    found = re.search(r"at step 2.* The last good state is that of step (\d+), in (.*)\.\n", told)
    assert found, told
    assert Path(found[2]).parent == out / "state"
    assert Path(found[2]).is_file()
    state = Run(out).load_state()
    assert state is not None
    assert state["step"] == int(found[1]) == 1


def test_one_process_has_nothing_to_share() -> None:
    model = nn.Linear(2, 2)
    assert distributed.parallel(model) is model
    assert distributed.whole_batch(model.forward, model) == model.forward
    assert distributed.from_first(lambda: 3) == 3
    assert distributed.gathered(3) == [3]
    assert distributed.device_name("cuda") == "cuda"
    assert distributed.is_first()
    assert distributed.command(lambda: 7) == 7
