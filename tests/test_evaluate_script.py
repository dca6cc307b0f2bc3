"""The command `evaluate.py`: what it writes and prints, and what it refuses."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lipnets import data, experiment, probes, verify
from lipnets.certify import certified_radii
from lipnets.commands import evaluate as script
from lipnets.config import parse_config
from lipnets.evaluation import writing
from lipnets.experiment import build_model
from lipnets.probes import Subject
from lipnets.records import Record
from lipnets.runs import Run, parse_records
from lipnets.training import Step

SCRIPT = Path(__file__).parents[1] / "evaluate.py"
CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "limit": 512},
    "model": {"name": "lipmlp_s", "widths": [32]},
    "loss": {"name": "cross_entropy", "temperature": 0.1, "offset": 0.1},
    "optimizer": {"name": "adam", "lr": 0.02},
    "schedule": {"epochs": 2},
}

MYSTERY = """
import torch

class Mystery(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1)).sin()

def network():
    return Mystery()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two short epochs."""
    path = tmp_path_factory.mktemp("trained") / "run"
    dataset = data.load("digits")
    config = parse_config(CONFIG).fitted_to(dataset)
    run = Run.create(path, config)
    untrained = Step(0, 0.0, build_model(config), (1, 8, 8))
    list(experiment.train(run, config, experiment.load_data(config), untrained))
    return path


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a report."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained, path)
    assert script.main([str(path), "--limit", "60", "--quick"]) == 0
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def read(path: Path) -> list[Record]:
    file = path / "evaluation" / "records.jsonl"
    return parse_records(file.read_text(encoding="utf-8"), file)


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says when it fails: a sentence, and no traceback."""
    assert script.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said


# What it writes.


def test_an_evaluation_leaves_records_tables_figures_and_a_page(evaluated: Path) -> None:
    files = {each.name for each in (evaluated / "evaluation").iterdir()}
    figures = ("band_certified_accuracy", "bound_layer", "bound_network", "certified_curve")
    figures += ("corrupted_accuracy", "corrupted_certified_accuracy", "filtered_accuracy")
    figures += ("learning_curves",)
    tables = {"records.jsonl", "summary.csv", "examples.csv"}
    assert files >= {"cache", "certificate.npz", "report.html", *tables}
    assert files >= {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}


def test_every_probe_but_one_is_part_of_it(evaluated: Path) -> None:
    assert set(probes.ORDER) == set(probes.names()) - {"smoothing"}
    assert len(probes.ORDER) == len(set(probes.ORDER))
    cached = {
        each.name.rsplit("-", 1)[0] for each in (evaluated / "evaluation" / "cache").iterdir()
    }
    assert cached >= set(probes.ORDER)


def test_the_certificate_of_an_evaluation_is_proved_again(evaluated: Path, capsys) -> None:
    assert verify.main([str(evaluated / "evaluation" / "certificate.npz")]) == 0
    assert "Images: 60" in capsys.readouterr().out


def test_certified_accuracies_are_those_of_the_saved_network(evaluated: Path) -> None:
    test = data.load("digits").test
    chosen = torch.arange(60) * len(test) // 60
    model = Run.open(evaluated).load_model()
    radii = certified_radii(model, test.images[chosen], test.labels[chosen])
    records = [record for record in read(evaluated) if record.name == "certified_accuracy"]
    assert [record.details["radius"] for record in records] == [0, 36 / 255, 72 / 255, 108 / 255, 1]
    for record in records:
        expected = (radii > record.details["radius"]).double().mean().item()
        assert (record.value, record.count) == (expected, 60)
    assert records[0].value > 0.5  # the network has learnt something
    curve = next(record for record in read(evaluated) if record.name == "certified_curve")
    positive = sorted(radii[radii > 0].tolist())
    assert curve.details["steps"] == pytest.approx(positive, rel=1e-9)


def test_records_name_the_data_and_the_weights(evaluated: Path) -> None:
    sha256 = experiment.load_data(Run.open(evaluated).config()).sha256
    weights = hashlib.sha256((evaluated / "model.safetensors").read_bytes()).hexdigest()
    lines = (evaluated / "evaluation" / "records.jsonl").read_text().splitlines()
    assert len(lines) > 100
    for line in lines:
        record = json.loads(line)
        assert math.isfinite(record["value"])
        if "epoch" in record:
            continue
        details = record["details"]
        assert (details["data"], details["split"]) == ("digits", "test")
        assert (details["sha256"], details["weights"]) == (sha256, weights)
        assert details["images"].endswith("of 599, evenly spaced")


def test_the_page_shows_the_network_and_nothing_of_this_machine(evaluated: Path) -> None:
    page = (evaluated / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "lipmlp_s on digits" in page
    assert str(evaluated) not in page
    assert page.rstrip().endswith("</html>")


def test_the_network_is_left_as_it_was(trained: Path, evaluated: Path) -> None:
    for file in trained.rglob("*"):
        if file.is_file():
            assert (evaluated / file.relative_to(trained)).read_bytes() == file.read_bytes()


def test_the_same_command_gives_the_same_files(run: Path) -> None:
    command = [str(run), "--limit", "20", "--probes", "certified", "dynamics"]
    contents = []
    for more in ([], [], ["--fresh"]):
        assert script.main([*command, *more]) == 0
        files = sorted(each for each in (run / "evaluation").iterdir() if each.is_file())
        contents.append({each.name: each.read_bytes() for each in files})
    assert contents[0] == contents[1] == contents[2]


def test_several_runs_are_compared_image_by_image(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    model = Run.open(other).load_model()
    with torch.no_grad():
        model.get_parameter("head.bias").add_(torch.linspace(0, 0.5, 10))
    Run.open(other).save_model(model)
    command = [str(run), str(other), "--limit", "60", "--probes", "certified"]
    assert script.main(command) == 0
    home = tmp_path / "comparison_run_other"
    assert f"Comparison: {home / 'report.html'}" in capsys.readouterr().out
    text = (home / "comparison.jsonl").read_text(encoding="utf-8")
    records = parse_records(text, home)
    first, second = ({r.name: r for r in read(path)}["accuracy"].value for path in (run, other))
    differences = [r.value for r in records if r.name.endswith("difference/accuracy")]
    assert differences == [pytest.approx(second - first)]
    page = (home / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for path in (run, other):
        assert (path / "evaluation" / "report.html").is_file()


def test_a_model_of_the_zoo_is_evaluated_untrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["lipmlp_s", "--data", "digits", "--limit", "30", "--probes", "certified"]
    assert script.main([*command, "--out", str(out)]) == 0
    assert "30 of 599 test images of digits" in capsys.readouterr().out
    assert "it was not trained" in (out / "report.html").read_text(encoding="utf-8")
    assert verify.main([str(out / "certificate.npz")]) == 0


def test_a_module_that_no_rule_covers_is_measured_and_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mine.py"
    source.write_text(MYSTERY)
    out = tmp_path / "out"
    command = [f"{source}:network", "--data", "digits", "--limit", "30", "--quick"]
    assert script.main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Nothing is proved of this network" in said
    assert "Certificate:" not in said
    assert not (out / "certificate.npz").exists()
    names = {record.name for record in parse_records((out / "records.jsonl").read_text(), out)}
    assert {"accuracy", "attacked_accuracy", "corrupted_accuracy"} <= names
    assert not {"certified_accuracy", "corrupted_certified_accuracy"} & names


def test_probes_that_are_named_twice_run_once(run: Path) -> None:
    command = [str(run), "--limit", "9", "--probes", "certified", "certified"]
    assert script.main(command) == 0
    assert [record.name for record in read(run)].count("accuracy") == 1


def test_effective_robustness_is_that_above_the_runs_that_are_named(
    evaluated: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Copies of an evaluation, each with other accuracies and as if of other weights.
    lines = (evaluated / "evaluation" / "records.jsonl").read_text().splitlines()
    standard = []
    for place in range(10):
        on, off = 0.5 + 0.04 * place, 0.3 + 0.05 * place
        records = [json.loads(line) for line in lines]
        for record in records:
            if record["name"] == "corruption_mean":
                record["details"] |= {"clean": on, "weights": str(place)}
                record["value"] = off
        standard.append(run.parent / f"standard_{place}" / "evaluation" / "records.jsonl")
        standard[-1].parent.mkdir(parents=True)
        standard[-1].write_text("".join(json.dumps(record) + "\n" for record in records))
    named = ["--standard", *(str(each.parents[1]) for each in standard)]
    quick = [str(run), "--quick", "--limit", "60", "--probes", "certified", "corruptions"]
    assert script.main([*quick, *named]) == 0
    assert "effective robustness" in capsys.readouterr().out
    (found,) = (r for r in read(run) if r.name == "effective_robustness")
    (mean,) = (r for r in read(run) if r.name == "corruption_mean" and r.details["family"] == "all")
    on, off = np.linspace(0.5, 0.86, 10), np.linspace(0.3, 0.75, 10)
    slope, height = np.polyfit(np.log(on / (1 - on)), np.log(off / (1 - off)), 1)
    clean = mean.details["clean"]
    expected = 1 / (1 + np.exp(-height - slope * np.log(clean / (1 - clean))))
    assert found.value == pytest.approx(mean.value - expected)
    assert "got 9: through fewer" in refusal([*quick, *named[:-1], named[1]], capsys)
    standard[4].write_text("nothing")
    assert "standard_4" in refusal([*quick, *named], capsys)
    standard[4].write_text("")
    assert "number 5 was not" in refusal([*quick, *named], capsys)


# What it prints.


def test_lines_without_a_terminal_tell_progress_results_and_the_report(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(run), "--limit", "30", "--probes", "certified", "frequency"]) == 0
    said = capsys.readouterr().out
    assert "clean images: 1/1" in said
    assert "frequency: " in said
    assert "30 of 599 test images of digits" in said
    assert "certified at 36/255" in said
    assert "\x1b" not in said  # no colours, no bars
    assert said.rstrip().endswith(str(run / "evaluation" / "report.html"))


# What it refuses.


@pytest.mark.parametrize("content", [None, {}])
def test_what_is_no_run_directory_is_refused(
    tmp_path: Path, content: dict | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no_run"
    if content is not None:
        path.mkdir()
    assert f"{path} is not a run directory" in refusal([str(path)], capsys)


@pytest.mark.parametrize("times", [1, 2])
def test_a_directory_that_nothing_can_be_written_to_is_refused_at_once(
    trained: Path, tmp_path: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "report"
    said = refusal([str(trained)] + ["other"] * (times - 1) + ["--out", str(out)], capsys)
    assert f"the report should go to the directory '{out}'" in said
    assert "name another with --out" in said


def test_what_may_have_been_meant_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\nnetwork = nn.Linear(3, 3)\n")
    for what, words in (
        ("lipmpl_s", "no model is called so; did you mean the model 'lipmlp_s'"),
        (f"{run}/model.safetensors", f"it is a file of one, {run}."),
        (f"{tmp_path}/mine.py", "name the function that returns the network"),
        (f"{tmp_path}/mine.py:network", "should be a function that returns a network, and is a"),
    ):
        assert words in refusal([what, "--data", "digits"], capsys)


def test_a_damaged_checkpoint_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = run / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "model.safetensors is damaged" in refusal([str(run)], capsys)
    assert not (run / "evaluation").exists()


def test_a_training_that_did_not_finish_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.safetensors").unlink()
    assert "training was not finished" in refusal([str(run)], capsys)


def test_a_damaged_history_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = run / "history.jsonl"
    history.write_text("{}\n" + history.read_text())
    assert "history.jsonl is damaged: its SHA-256" in refusal([str(run)], capsys)


def test_a_misspelt_probe_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal([str(tmp_path), "--probes", "certifed"], capsys)
    assert said == "error: No probe is called 'certifed': did you mean 'certified'?\n"


def test_missing_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.npz"
    tree = {**CONFIG, "data": {"name": "npz", "path": str(path)}}
    tree["model"] = {**CONFIG["model"], "in_chans": 1, "img_size": 8, "num_classes": 10}
    run = Run.create(tmp_path / "run", parse_config(tree))
    run.save_model(build_model(run.config()))
    said = refusal([str(run.path)], capsys)
    assert "the data set 'npz' cannot be loaded" in said
    assert str(path) in said


@pytest.mark.parametrize(
    ("side", "classes", "said"),
    [(6, 10, "does not take images of shape (1, 6, 6)"), (8, 11, "labels go from 0 to 10")],
)
def test_data_that_the_network_was_not_made_for_are_refused(
    tmp_path: Path, side: int, classes: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "images.npz"
    labels = np.arange(6 * classes) % classes
    np.savez(path, images=np.zeros((len(labels), side, side), np.uint8), labels=labels)
    tree = {**CONFIG, "data": {"name": "npz", "path": str(path)}}
    tree["model"] = {**CONFIG["model"], "in_chans": 1, "img_size": 8, "num_classes": 10}
    run = Run.create(tmp_path / "run", parse_config(tree))
    run.save_model(build_model(run.config()))
    message = refusal([str(run.path)], capsys)
    assert message.startswith("error: the network does not fit the data: ")
    assert said in message


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_refused(
    run: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"there is no device '{device}'" in refusal([str(run), "--device", device], capsys)


@pytest.mark.parametrize("option", ["--limit", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-3", "1.5", "all"])
def test_numbers_of_images_are_whole(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        script.main(["run", f"{option}={value}"])
    assert stop.value.code == 2
    assert f"should be a whole number from 1 on, got '{value}'" in capsys.readouterr().err


def test_a_broken_invariant_fails_and_writes_no_report(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = run / "history.jsonl"
    lines = history.read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if json.loads(line)["name"] == "bound/network")
    record = json.loads(lines[last])
    lines[last] = json.dumps({**record, "value": 0.5 * record["value"]})
    history.write_text("\n".join(lines) + "\n")
    said = refusal([str(run), "--limit", "9", "--probes", "certified", "dynamics"], capsys)
    assert "Invariant broken: the last bound of the training" in said
    assert [each.name for each in (run / "evaluation").iterdir()] == ["cache"]


def test_an_evaluation_that_fails_leaves_the_report_before(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script.main([str(run), "--limit", "9", "--probes", "certified"]) == 0

    def files() -> dict[Path, bytes]:
        return {each: each.read_bytes() for each in (run / "evaluation").glob("*.*")}

    before = files()

    def full(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(writing, "write_atomic", full)
    capsys.readouterr()
    command = [str(run), "--limit", "10", "--probes", "certified"]
    assert refusal(command, capsys) == "error: No space left on device\n"
    assert files() == before


def test_an_interruption_is_told_in_a_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Subject, "of", interrupted)
    assert script.main([str(run)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_ends_it_as_it_ends_training(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Subject, "of", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert script.main([str(run)]) == 143
    assert "ended by SIGTERM: reports were left as they were" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_script_runs_from_anywhere(trained: Path, tmp_path: Path) -> None:
    path = shutil.copytree(trained, tmp_path / "elsewhere")
    command = [sys.executable, str(SCRIPT), str(path), "--limit", "5", "--probes", "certified"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (path / "evaluation" / "report.html").is_file()
    assert done.stderr == ""
