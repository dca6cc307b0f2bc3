"""Studies: what they conclude from histories that are known, and how they go on."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lipnets import studies
from lipnets.dynamics import follow, gains, highest
from lipnets.experiment import build_model
from lipnets.records import Record
from lipnets.runs import Run, RunError
from lipnets.studies import Finding, Lab
from lipnets.studies.__main__ import main
from lipnets.studies.architectures import FREE, NORMALIZED, RAW

BASE = {
    "data": {"name": "digits", "batch_size": 16, "limit": 64},
    "model": {"name": "plain_mlp_s", "widths": [8]},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.0},
    "schedule": {"name": "constant", "epochs": 1000, "max_steps": 4},
    "record": {"bounds_every": 1000, "drivers": None, "geometry": False, "frequencies": False},
}
CONFIGS = Path(__file__).parents[2] / "configs/studies"
Oracle = Callable[[Mapping[str, Any]], list[Record]]


@dataclass(frozen=True)
class Told:
    """A lab that trains nothing: histories are told."""

    oracle: Oracle
    dataset: Any = field(default_factory=lambda: SimpleNamespace(name="told"))

    def histories(self, grid: Sequence[Mapping[str, Any]]) -> list[list[Record]]:
        return [self.oracle(changes) for changes in grid]


def conclude(name: str, oracle: Oracle, **settings: Any) -> Finding:
    return studies.build(name, lab=Told(oracle), **settings)


def line(name: str, values: Sequence[float], every: int = 1, **details: Any) -> list[Record]:
    """Records of the network at multiples of a step."""
    return [
        Record(name, value, "nats", step=every * i, epoch=0.0, details=details)
        for i, value in enumerate(values)
    ]


# What is concluded from histories that are known.


@pytest.mark.parametrize(
    ("power", "verdict"), [(1.0, "confirmed"), (0.0, "not confirmed"), (2.0, "not confirmed")]
)
def test_variances_that_fall_as_the_batch_grows_confirm_the_law(power: float, verdict: str) -> None:
    draws = random.Random(0)

    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        deviation = 0.1 * changes["data.batch_size"] ** (-power / 2)
        end = 2.0 + draws.gauss(0, deviation)
        noise = line("driver/variance", [1e-3] * 3)
        return [*line("ledger/log_norm", [2.0, end]), *noise]

    found = conclude("batch_size", oracle, sizes=(4, 16, 64), replicas=60, steps=3, every=1)
    assert found.verdict == verdict
    assert found.rows[0][3] == "3.00e-03"  # three steps of variance 1e-3
    [words] = [part for part in found.sentence.split(";") if "power" in part]
    exponent = float(words.split("power ")[1].split(" ")[0])
    assert exponent == pytest.approx(-power, abs=0.3)
    # Each logarithm of a variance of 60 normal numbers has the variance 2/59; the line is through three that
    # are log 4 apart.
    assert f"± {math.sqrt(2 / 59) / (math.sqrt(2) * math.log(4)):.2f};" in words + ";"


@pytest.mark.parametrize(("left", "verdict"), [(1.0, "confirmed"), (0.1, "not confirmed")])
def test_a_scale_that_is_forgotten_does_not_set_the_constant(left: float, verdict: str) -> None:
    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        begin = 3 * math.log(changes["init_scale"]) + 0.01 * changes["seed"]
        loss = line("train/loss", [0.5])
        return [*line("ledger/log_norm", [begin, 3 + left * begin]), *loss]

    found = conclude("initialization", oracle)
    assert found.verdict == verdict
    assert f"{left:.0%} is left" in found.sentence


@pytest.mark.parametrize(("late", "verdict"), [(1.0, "confirmed"), (-1.0, "not confirmed")])
def test_label_noise_is_judged_at_both_stages(late: float, verdict: str) -> None:
    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        share = changes["data.label_noise"]
        rest = [*line("train/accuracy", [0.9]), *line("train/loss", [0.1])]
        return [*line("ledger/log_norm", [3, 3 - share, 3 + late * share], every=10), *rest]

    found = conclude("label_noise", oracle, early=10, late=20)
    assert found.verdict == verdict
    assert found.rows[2][1:3] == ("2.500", f"{3 + late / 2:.3f}")


@pytest.mark.parametrize(("kappa", "verdict"), [(1e-2, "confirmed"), (1e-4, "not confirmed")])
def test_late_growth_is_that_of_noise_if_noise_gives_most_of_it(kappa: float, verdict: str) -> None:
    """Of 100 steps, log K grows by 0.01 in each; the last four fifths begin at step 20."""

    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        grown = line("ledger/log_norm", [0.01 * i for i in range(101)])
        noise = line("driver/noise_curvature", [kappa] * 100)
        return [*grown, *noise, *line("train/loss", [1e-4])]

    found = conclude("long_training", oracle, steps=100, every=1)
    assert found.verdict == verdict
    assert "grows by 0.800" in found.sentence
    assert f"noise-curvature gives {80 * kappa:.4f}" in found.sentence


def test_regularizers_are_told_apart() -> None:
    draws = random.Random(0)

    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        low = "optimizer.weight_decay" in changes or "data.augment" in changes
        end = (1.0 if low else 2.0) + draws.gauss(0, 0.01)
        names = ("linear", "curvature", "square")
        terms = [record for name in names for record in line(f"ledger/{name}", [0.0, 0.1])]
        accuracy = line("test/accuracy", [0.9])
        return [*line("ledger/log_norm", [1.5, end]), *terms, *accuracy]

    found = conclude("regularizers", oracle)
    assert found.verdict == "undecided"
    assert found.sentence.startswith("log K ends lower with weight decay 0.01, mixup;")


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (0.0, 1.0, "confirmed"),
        (0.2, 1.0, "not confirmed"),
        (0.0, 1.4, "not confirmed"),
        (0.0, 0.7, "not confirmed"),
    ],
)
def test_scores_must_have_the_mean_0_and_the_variance_1(
    shift: float, spread: float, verdict: str
) -> None:
    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        draws = random.Random(changes["data.order_seed"])
        scores = [shift + spread * draws.gauss(0, 1) for _ in range(400)]
        names = ("drift", "noise_curvature", "ito", "deterministic")
        terms = [record for name in names for record in line(f"driver/{name}", [1e-3] * 400)]
        return [*line("driver/z", scores), *line("ledger/log_norm", [0.0] * 401), *terms]

    found = conclude("martingale", oracle)
    assert found.verdict == verdict
    means = [
        float(row[1]) for row in found.rows
    ]  # of 400 scores, to three digits: ± 0.01 of an error
    largest = float(found.sentence.split("the largest is ")[1].split(" ")[0])
    assert largest == pytest.approx(20 * max(map(abs, means)), abs=0.07)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"one": 0.9, "two": 0.9, "raw": 0.0}, "confirmed"),
        ({"one": 0.9, "two": 0.0, "raw": 0.9}, "undecided"),
        ({"one": 0.0, "raw": 0.9}, "not confirmed"),
        ({"raw": 0.9}, "confirmed"),
    ],
)
def test_a_drift_that_undoes_the_noise_answers_to_it(
    answers: dict[str, float], verdict: str
) -> None:
    """Two layers and what is summed of them; the last drivers are of a step that was not taken."""
    draws, never = random.Random(1), random.Random(2)

    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        model = changes["model"]
        records = line("driver/drift", [5.0] * 3)  # the network, which is the sum
        for layer in ("first", "second"):
            kind = {"layer": layer, "role": "raw" if model == "raw" else "free"}
            noise = draws.gauss(0, 0.05)
            drift = 0.5 - answers[model] * noise + draws.gauss(0, 0.005)
            records += line("driver/drift", [drift, 0.0, never.gauss(0, 9)], **kind)
            for term in ("noise_curvature", "ito", "deterministic"):
                records += line(f"driver/{term}", [0.1, 0.0, 9.0], **kind)
            records += line("ledger/log_norm", [1.0, 7.0, 1.3 + drift + noise], **kind)
            records += line("ledger/log_norm", [1.0, 7.0, 3.0], layer="undriven", role="free")
        # A gain whose running variance does much, which no driver predicts.
        kind = {"layer": "norm", "role": "gain"}
        moved = draws.gauss(0, 9)
        records += line("driver/drift", [0.2, 0.0, 9.0], **kind)
        records += line("ledger/log_norm", [3.0, 4.0, 3.2 + moved], **kind)
        return records + line("ledger/buffer", [0.0, 1.0, moved], **kind)

    models = {name: name for name in answers}
    found = conclude("compensation", oracle, models=models, replicas=40)
    assert found.verdict == verdict
    for (name, weights, growth, total, noise, drift, r), answer in zip(
        found.rows, answers.values(), strict=True
    ):
        assert weights == ("raw" if name == "raw" else "in use")
        assert float(growth) == pytest.approx(2 * 0.8 + 0.2, abs=0.1)
        both = 2**0.5 * 0.05  # the deviations of two layers with noise of their own
        assert float(noise) == pytest.approx(both, rel=0.4)
        assert float(total) == pytest.approx((1 - answer) * both, rel=0.4, abs=0.01)
        assert float(drift) == pytest.approx(answer * both, rel=0.4, abs=0.01)
        assert abs(float(r) + (answer > 0)) < 0.4


def test_all_layers_take_the_step_of_the_same_batch(lab: Lab) -> None:
    """Of batches of one image there are as many steps of the whole as images, and no more."""
    torch.manual_seed(0)
    model = build_model(lab.config({})).double().eval()
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    assert len([each for each in follow(model, (1, 8, 8)) if each.role == "free"]) == 2
    changes = import_module("lipnets.studies.moments")._changes
    found = changes(model, images, torch.tensor([0, 4, 7]), lr=0.1, batch_size=1, resamples=60)
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize(
    ("flow", "fall", "verdict"),
    [
        *((2.0, 1.0, "confirmed"), (-2.0, 1.0, "confirmed")),
        *((0.1, 1.0, "not confirmed"), (2.0, 0.0, "not confirmed")),
    ],
)
def test_what_moves_the_constant_is_told_by_its_parts(
    flow: float, fall: float, verdict: str
) -> None:
    """Two layers: of the curvature of each, noise has κ / (κ + own) in each interval between looks."""

    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        noisy = (16 / changes["data.batch_size"]) ** fall
        grown = flow * (1 - changes["data.label_noise"] / 2)
        records = line("ledger/log_norm", [3.0, 3.2, 3.0 + grown + 0.3], every=5)
        records += line("ledger/linear", [0.0, 0.1, grown], every=5)
        records += line("ledger/curvature", [0.0, 0.2, 0.5], every=5)
        records += line("ledger/square", [0.0, -0.1, -0.2], every=5)
        records += line("driver/variance", [0.01, 0.01, 0.0], every=5)
        for layer, bends in (("first", [0.0, 0.2, 0.3]), ("second", [0.0, 0.0, 0.2])):
            records += line("ledger/curvature", bends, every=5, layer=layer)
            records += line("driver/noise_curvature", [noisy, noisy, 1e9], every=5, layer=layer)
            records += line("driver/drift", [0.0, 2.0, 0.0], every=5, layer=layer)
            records += line("driver/deterministic", [-0.5, 1.0, 0.0], every=5, layer=layer)
        return records

    found = conclude("drivers", oracle, models={"one": {}, "two": {}}, every=5)
    assert found.verdict == verdict
    assert [row[:3] for row in found.rows[:4]] == [
        *(("one", size, "0%") for size in ("16", "64", "256")),
        ("one", "64", "50%"),
    ]
    growth, linear, curvature, noise, square, switch, norms, deviation = map(
        float, found.rows[0][3:]
    )
    assert (growth, linear) == pytest.approx((flow + 0.3, flow))
    assert (curvature, square, switch, norms) == pytest.approx((0.5, -0.2, 0.0, 0.0))
    # At first only noise bends, as the rest is estimated below zero; then noise has 1 of 1 + 1 + 2²/2.
    assert noise == pytest.approx(0.2 + 0.25 * (0.1 + 0.2), abs=1e-3)
    assert deviation == pytest.approx(math.sqrt(5 * 0.02), abs=1e-3)
    assert f"{100 * abs(flow) / (abs(flow) + 0.7):.3g} %" in found.sentence


def test_the_parts_of_a_training_add_up_to_the_growth(lab: Lab) -> None:
    model = {"name": "plain_convnet_xs", "width": 4, "norm": "batch_norm2d"}
    sizes = {"sizes": (8, 16), "share": 0.5, "steps": 12, "every": 3}
    found = studies.build("drivers", lab=lab, models={"one": model}, seeds=(0,), **sizes)
    for row in found.rows:
        growth, linear, curvature, noise, *others, deviation = map(float, row[3:])
        assert linear + curvature + sum(others) == pytest.approx(growth, abs=5e-3)
        assert -1e-3 <= noise <= curvature + 1e-3
        assert abs(others[-1]) > 0.1  # of the normalization
        assert deviation > 0
    assert len(found.rows) == 3


def test_architectures_of_studies_are_what_they_are_called(lab: Lab) -> None:
    """Those with a log K have drivers of the whole, those of constant 1 have raw ones of each layer."""
    for name, model in {**FREE, **NORMALIZED, **RAW}.items():
        config = lab.config({"model": model})
        built = build_model(config).eval()
        weights = follow(built, (1, 8, 8), effective=True)
        expected = "effective" if name in RAW else "free"
        assert {each.role for each in weights} == {expected}, name
        assert len(follow(built, (1, 8, 8))) == len(weights), name
        assert bool(gains(built)) == (name in NORMALIZED)
        with torch.no_grad():
            for each in follow(built, (1, 8, 8)):
                each.parameter.mul_(3)
        norms = [highest(each.lens, each.read())[1].value.item() for each in weights]
        assert (max(norms) < 1 + 1e-5) == (name in RAW), name


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "confirmed"), (1.7, "not confirmed")])
def test_the_ratio_of_variances_decides_of_correlations(ratio: float, verdict: str) -> None:
    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        block = line("driver/variance_block", [math.nan, 1e-4, 3e-4])  # a gain begins at 0
        return [*line("driver/variance", [math.nan, ratio * 1e-4, ratio * 3e-4]), *block]

    found = conclude("cross_layer", oracle)
    assert found.verdict == verdict
    assert all(row[1].startswith(f"{ratio:.3f}") for row in found.rows)


@pytest.mark.parametrize(("first", "verdict"), [(1.0, "confirmed"), (0.1, "not confirmed")])
def test_the_band_that_grows_most_is_found(first: float, verdict: str) -> None:
    def oracle(changes: Mapping[str, Any]) -> list[Record]:
        records = []
        for low, growth in ((0.0, first), (0.25, 0.5)):
            details = {"layer": "conv", "low": low, "high": low + 0.25}
            records += line("ledger/band_log_norm", [0.3, 0.3 + growth], **details)
        return records

    found = conclude("frequencies", oracle, bands=2)
    assert found.verdict == verdict
    assert found.rows == [("conv", f"{first:.3f} ± 0.000", "0.500 ± 0.000")]


def test_formulas_of_derivatives_are_those_of_autograd() -> None:
    found = studies.build("singular_values", lab=Told(lambda _: []), trials=3)
    assert found.verdict == "confirmed"
    assert len(found.rows) == 5


# How a lab trains.


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    torch.set_default_dtype(torch.float32)  # what users have
    return Lab(tmp_path / "study", BASE)


def test_what_was_trained_is_not_trained_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [{"seed": seed, "record.ledger": {"every": 2}} for seed in (0, 1)]
    first = lab.histories(grid)
    assert first[0] != first[1]
    assert [r.step for r in first[0] if r.name == "ledger/log_norm" and not r.details] == [0, 2, 4]
    monkeypatch.setattr(studies.lab, "train", None)
    assert lab.histories(grid) == first


def test_a_run_that_was_interrupted_goes_on(lab: Lab) -> None:
    changes = {"seed": 3}
    path = lab.out / "runs" / "seed=3"
    Run.create(path, lab.config(changes))
    [history] = lab.histories([changes])
    assert (path / "certificate.npz").exists()
    assert history[-1].step == 4


def test_runs_of_another_config_are_left_alone(lab: Lab) -> None:
    lab.histories([{"seed": 0}])
    other = Lab(lab.out, {**BASE, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}})
    with pytest.raises(RunError, match="another config"):
        other.histories([{"seed": 0}])


def test_changes_reach_the_config_and_what_they_do_not_name_stays(lab: Lab) -> None:
    config = lab.config({"optimizer.lr": 0.2, "model": {"name": "plain_mlp_s", "widths": [4, 4]}})
    assert config.to_tree()["optimizer"]["lr"] == 0.2
    assert config.to_tree()["optimizer"]["momentum"] == 0.0
    assert list(config.model.arguments["widths"]) == [4, 4]
    assert BASE["optimizer"]["lr"] == 0.05
    model = {"name": "plain_mlp_s", "widths": [4]}
    dropped = lab.config({"model": model, "model.drop_rate": 0.5})
    assert dropped.model.arguments["drop_rate"] == 0.5
    assert model == {"name": "plain_mlp_s", "widths": [4]}


# The command.


def test_a_study_is_written_as_a_page_with_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIGS / "digits.yaml"
    out = tmp_path / "out"
    arguments = ["singular_values", "trials=2", "--config", str(config), "--out", str(out)]
    assert main(arguments) == 0
    text = (out / "singular_values.md").read_text()
    assert "**Confirmed** at this scale (2 random matrices" in text
    assert "`python -m lipnets.studies singular_values trials=2" in text
    assert (out / "singular_values.png").read_bytes().startswith(b"\x89PNG")
    assert "Confirmed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["singular_values", "trails=2"], "did you mean 'trials'"),
        (["singular_values", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (
            ["moments", "--config", f"{CONFIGS}/fashion_mnist.yaml", "--data-dir", "nowhere"],
            "nowhere",
        ),
    ],
)
def test_mistakes_are_told_in_sentences(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert words in told.replace("\n", " ")


def test_studies_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in studies.names())
    assert "trials=100" in told


@pytest.mark.slow
def test_steps_are_as_predicted_when_they_are_taken_very_often(lab: Lab) -> None:
    torch.set_default_dtype(torch.float32)
    found = studies.build("moments", lab=lab, checkpoints=(1, 4), resamples=4000)
    assert found.verdict == "confirmed"
