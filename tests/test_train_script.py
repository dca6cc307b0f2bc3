"""The command `train.py`: what it leaves behind, how it goes on, and what it refuses."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from lipnets import data, experiment, layers, losses, models, optim
from lipnets.certify import certified_radii
from lipnets.commands import train as script
from lipnets.config import shipped
from lipnets.runs import Run
from lipnets.training import Step, fit

SCRIPT = Path(__file__).parents[1] / "train.py"
CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 256, "augment": ["shift"]},
    "model": {"name": "lipmlp_s", "widths": [32]},
    "loss": {"name": "cross_entropy", "temperature": 0.1, "offset": 0.1},
    "optimizer": {"name": "adam", "lr": 0.02},
    "schedule": {"epochs": 4, "warmup_epochs": 1},
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without interruption."""
    path = tmp_path_factory.mktemp("finished")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # what users have
    assert script.main([str(path / "config.yaml"), "--out", str(path / "run")]) == 0
    torch.set_default_dtype(before)
    return path / "run"


def hashes(path: Path) -> dict[str, str]:
    files = [each for each in path.rglob("*") if each.is_file() and each.name != "lock"]
    return {str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Presses Ctrl-C after a step."""

    def interrupted(*args: object, **kwargs: object) -> Iterator[Step]:
        for step in fit(*args, **kwargs):  # pyright: ignore[reportArgumentType]
            yield step
            if step.index == last:
                raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "fit", interrupted)


# What it leaves behind.


def test_a_run_learns_and_leaves_all_its_files(finished: Path) -> None:
    files = {str(each.relative_to(finished)) for each in finished.rglob("*") if each.is_file()}
    assert files == {
        *("config.yaml", "history.jsonl", "model.safetensors", "certificate.npz"),
        *("config.json", "state/a.state", "state/b.state", "checksums.json", "lock"),
    }
    run = Run.open(finished)
    history = run.history()
    losses = [record.value for record in history if record.name == "train/loss"]
    assert len(losses) == 4
    assert losses[-1] < 0.5 * losses[0]
    clean = [record.value for record in history if record.name == "test/accuracy"]
    assert clean[-1] > clean[0] + 0.3


def test_the_history_has_bounds_and_accuracies_of_all_epochs(finished: Path) -> None:
    history = Run.open(finished).history()
    epochs = {
        name: [r.epoch for r in history if r.name == name] for name in {r.name for r in history}
    }
    assert epochs["bound/network"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    for name in ("test/accuracy", "test/certified_accuracy", "train/certified_accuracy"):
        assert epochs[name] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert epochs["learning_rate"] == [1.0, 2.0, 3.0, 4.0]
    layers = {r.details["layer"] for r in history if r.name == "bound/layer"}
    assert "head" in layers
    assert any(layer.startswith("backbone.") for layer in layers)
    assert len(epochs["bound/layer"]) == 5 * len(layers)
    assert len(epochs["train/margin"]) == 5 * 5


def test_the_certificate_is_of_the_weights_that_were_saved(finished: Path) -> None:
    run = Run.open(finished)
    model = run.load_model()
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert run.load_certificate().matches(model)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert not run.load_certificate().matches(model)


def test_the_last_records_are_those_of_the_saved_model(finished: Path) -> None:
    run, test = Run.open(finished), data.load("digits").test
    radii = certified_radii(run.load_model(), test.images, test.labels)
    last = {record.name: record for record in run.history()}
    assert last["test/certified_accuracy"].value == (radii > 36 / 255).double().mean().item()
    assert last["test/accuracy"].value == (radii > 0).double().mean().item()
    # Proved anew when it is read, of weights that lie elsewhere: sums may run in another order.
    again = run.load_certificate().lipschitz
    assert last["bound/network"].value == pytest.approx(again, rel=1e-13)


def test_results_and_the_next_command_are_printed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--resume", "--out", str(finished)]) == 0  # nothing is left to be done
    printed = capsys.readouterr().out
    test = data.load("digits").test
    radii = certified_radii(Run.open(finished).load_model(), test.images, test.labels)
    for name, radius in [("0", 0), ("36/255", 36 / 255), ("108/255", 108 / 255), ("1", 1)]:
        share = (radii > radius).double().mean().item()
        [line] = [each for each in printed.splitlines() if f"at {name} " in each]
        assert f"{share:.2%}" in line
    assert f"python evaluate.py {finished}" in printed


# Going on.


@pytest.mark.parametrize("last", [2, 4, 10])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    finished: Path,
    config: str,
    tmp_path: Path,
    last: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the first epoch, at the very end of it, and in the third: an epoch has 4 steps."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, last)
        assert script.main([config, "--out", str(out)]) == 130
    assert not (out / "model.safetensors").exists()
    told = capsys.readouterr().err
    assert (
        f"interrupted: to go on from the last state that was saved, python train.py --resume --out {out}"
        in told
    )
    torch.rand(17)
    assert script.main(["--resume", "--out", str(out)]) == 0
    for name in ("model.safetensors", "history.jsonl", "config.yaml", "certificate.npz"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


EVERYTHING = (
    "loss={name: cross_entropy, radius: 0.3, temperature: null, offset: null}",
    "data.augment=[flip, trivial_augment, mixup, cutmix]",
    "ema={decay: 0.9, start: 1, warmup: true}",
    "compute={dtype: bfloat16, channels_last: true}",
    "optimizer.clip_grad_norm=0.5",
    *("model={name: lipmlp_s, widths: [32], linear: linear}", "schedule.epochs=3"),
)


@pytest.mark.parametrize("minutes", [5, 0])
def test_whatever_trains_goes_on_to_the_same_bits(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """Averages, mixtures, and slopes of free weights, which power iteration estimates.

    It goes on from the end of the first epoch, and from the last step before the interruption.
    """
    torch.set_default_dtype(torch.float32)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    arguments = [config, *EVERYTHING, f"record.state_minutes={minutes}"]
    assert script.main([*arguments, "--out", str(straight)]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        assert script.main([*arguments, "--out", str(broken)]) == 130
    state = Run.open(broken).load_state()
    assert state is not None
    assert state["step"] == (6 if minutes == 0 else 4)
    assert script.main(["--resume", "--out", str(broken)]) == 0
    for name in ("model.safetensors", "history.jsonl", "config.yaml", "certificate.npz"):
        assert (broken / name).read_bytes() == (straight / name).read_bytes(), name
    run = Run.open(straight)
    state, model = run.load_state(), run.load_model()
    assert state is not None
    for key, value in model.state_dict().items():
        assert torch.equal(value, state["average"][key])
        assert not value.is_floating_point() or value.dtype == torch.float32
    assert any(
        not torch.equal(value, state["average"][key]) for key, value in state["model"].items()
    )
    assert run.load_certificate().matches(model)


def test_the_flag_for_compiling_is_a_value_of_the_config(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def backend(*_: object) -> None:
        raise RuntimeError("no compiler is installed")

    torch.set_default_dtype(torch.float32)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        assert script.main([config, "--compile", "--out", str(tmp_path / "bad")]) == 1
    assert "the model cannot be compiled here, with compute.compile" in capsys.readouterr().err
    assert Run.open(tmp_path / "bad").config().compute.compile
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    arguments = [config, "--compile", "schedule.epochs=2", "--out", str(tmp_path / "run")]
    assert script.main(arguments) == 0
    assert " images/s in training" in capsys.readouterr().out
    weights = Run.open(tmp_path / "run").load_model().state_dict()
    assert not any("_orig_mod" in key for key in weights)


def test_a_run_goes_on_with_its_own_config_only(
    finished: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(finished)
    arguments = [config, "schedule.epochs=9", "--resume", "--out", str(finished)]
    assert script.main([*arguments, "loss.offset=0.2"]) == 1
    told = capsys.readouterr().err
    assert "schedule.epochs: 4 there, 9 now" in told
    assert "loss.offset: 0.1 there, 0.2 now" in told
    assert hashes(finished) == before


# Refusals.


def test_a_run_directory_that_exists_is_left_alone(
    finished: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(finished)
    assert script.main([config, "--out", str(finished)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {finished} exists")
    assert "--out" in told
    assert "--resume" in told
    assert hashes(finished) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["model.width=-1x", "los.name=a", "seed=x"],
            ["model.width", "did you mean 'loss'", "seed"],
        ),
        (["data={name: npz, path: nowhere.npz}"], ["nowhere.npz"]),
        (["--device", "cudda"], ["no device 'cudda'"]),
        (["model.num_classes=7"], ["model.num_classes"]),
        (["loss.radius=36", "loss.temperature=null", "loss.offset=null"], ["such as 0.1412"]),
        (["seed", "=", "3"], ["'seed': should read", "without spaces"]),
        (["optimizer=sgd"], ["such as {name: sgd} (got 'sgd')"]),
        (["data.limit=0"], ["data.limit"]),
        (["model.linear=manifold_linear"], ["the optimizer 'adam' cannot be built"]),
        (["model.act=relu", "model.widths=[33, -1]"], ["the model 'lipmlp_s' cannot be built"]),
    ],
)
def test_mistakes_are_told_in_sentences_and_leave_nothing_behind(
    config: str,
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script.main([config, *arguments, "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert all(word in told for word in words)
    assert not (tmp_path / "run").exists()


def test_a_missing_config_is_told_by_the_process_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "nowhere.yaml", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "nowhere.yaml: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_there_cannot_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--resume", "--out", str(tmp_path / "run")]) == 1
    assert "is not a run directory" in capsys.readouterr().err


def test_a_damaged_state_is_named_and_the_one_before_is_used(
    finished: Path,
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_default_dtype(torch.float32)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        assert script.main([config, "--out", str(out)]) == 130
    older, newest = out / "state/a.state", out / "state/b.state"  # of steps 4 and 8
    intact = older.read_bytes()
    for each in (newest, older):
        each.write_bytes(each.read_bytes()[:-100])
    before = hashes(out)
    capsys.readouterr()
    assert script.main(["--resume", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert all(f"{each} is damaged: its SHA-256" in told for each in (older, newest))
    assert "Nothing was changed" in told
    assert hashes(out) == before
    older.write_bytes(intact)
    capsys.readouterr()
    assert script.main(["--resume", "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert f"warning: {newest} is damaged" in told
    assert f"Training goes on from the state of step 4, {older}." in told
    for name in ("model.safetensors", "history.jsonl", "certificate.npz"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_finished(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, calls = tmp_path / "run", 0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return logits.square().mean() / (0 if calls == 6 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(losses, "build", lambda *_, **__: loss)
        assert script.main([config, "record.drivers=null", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "The loss is inf at step 6" in told
    assert f"{out} keeps the history" in told
    state = Run.open(out).load_state()
    assert state is not None
    assert state["step"] == 4
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_model_that_no_rule_covers_is_refused_before_training(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square()

    def steep(num_classes: int = 10) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), Square(), nn.Linear(64, num_classes))

    monkeypatch.setitem(models.registry._table, "steep", steep)
    assert script.main([config, "model.name=steep", "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert "cannot be certified: No rule bounds Square.forward" in told
    assert not (tmp_path / "run").exists()


def test_an_epoch_of_the_bounds_only_now_and_then_still_ends_with_one(
    config: str, tmp_path: Path
) -> None:
    arguments = ["record.bounds_every=3", "schedule.epochs=4", "data.limit=64"]
    assert script.main([config, *arguments, "--out", str(tmp_path / "run")]) == 0
    history = Run.open(tmp_path / "run").history()
    assert [r.epoch for r in history if r.name == "bound/network"] == [0.0, 3.0, 4.0]


# The command line.


def test_the_schema_and_the_names_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--schema"]) == 0
    assert "optimizer" in json.loads(capsys.readouterr().out)["properties"]
    assert script.main(["--list"]) == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    registered = [models.names(), layers.names(), losses.names(), optim.names(), data.names()]
    everything = [
        name for names in [*registered, data.augment.names(), shipped()] for name in names
    ]
    assert sorted(named) == sorted(everything)


@pytest.mark.parametrize(
    ("what", "first", "names"),
    [
        ("data", "data (6)", {"cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "npz"}),
        ("attention", "layers: attention (2)", {"l2_attention", "token_mixer"}),
        ("manifold_*linear", "layers: dense (1)", {"manifold_linear"}),
        ("lipmlp_", "models (3)", {"lipmlp_l", "lipmlp_m", "lipmlp_s"}),
    ],
)
def test_a_kind_or_a_pattern_is_listed_with_a_line_for_each(
    what: str, first: str, names: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--list", what]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == first
    assert {line.split()[0] for line in lines[: len(names)]} == names
    assert all(len(line.split()) > 2 for line in lines[: len(names)])


def test_what_is_not_there_to_be_listed_is_told_with_what_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script.main(["--list", "modles"]) == 1
    assert (
        capsys.readouterr().err
        == "error: Nothing here is called 'modles': did you mean 'models'?\n"
    )
    assert script.main(["--list", "xyzzy"]) == 1
    assert "kinds are models, activation, " in capsys.readouterr().err


def test_help_shows_commands_as_they_are_called_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for called, shown in (("train.py", "python train.py"), ("bin/lipnets-train", "lipnets-train")):
        monkeypatch.setattr(sys, "argv", [called])
        with pytest.raises(SystemExit, match="0"):
            script.main(["--help"])
        help_ = capsys.readouterr().out
        assert f"usage: {shown} [-h]" in help_
        assert f"{shown} configs/digits/lipconvnet_aol.yaml" in help_


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which CONFIG?"),
        (["--resume"], "which CONFIG?"),
        (["seed=3"], "'seed=3' should be a CONFIG"),
        (["seed=3", "--resume", "--out", "run"], "goes on with the config it was begun with"),
        (["lipmlp_s"], "'lipmlp_s' is a model, and a CONFIG is needed first"),
        (["a.yaml", "--epochs", "3"], 'without dashes, such as "optimizer.lr=1e-3"'),
    ],
)
def test_what_is_no_command_is_told_with_one(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_directory_is_no_config(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(finished)]) == 1
    told = f"is a directory, that of a run: its config is {finished / 'config.yaml'}"
    assert told in capsys.readouterr().err


def test_runs_are_named_after_the_config_and_its_directory() -> None:
    parsed = script.parse(["configs/digits/small.yaml", "--resume", "seed=3"])
    assert parsed.out == Path("runs/digits_small")
    assert parsed.overrides == ["seed=3"]
