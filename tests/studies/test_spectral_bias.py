"""Studies of what is learned first: their parts against closed forms, and how they conclude and go on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lipnets import studies
from lipnets.experiment import build_model, load_data
from lipnets.probes import InvariantError
from lipnets.runs import RunError
from lipnets.studies import Lab, cells, curves
from lipnets.studies.curves import Curve
from lipnets.studies.f_principle import filtered, nudft, principal
from lipnets.studies.frequency_noise import levels, radius, response, soft_labels
from lipnets.studies.learning_order import rank_correlation
from lipnets.studies.sines import open_ceiling, spectrum

BASE = {
    "data": {"name": "digits", "batch_size": 16},
    "model": {"name": "plain_mlp_s", "widths": [8]},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.0},
    "schedule": {"name": "constant", "epochs": 1000, "max_steps": 4},
}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    torch.set_default_dtype(torch.float32)  # what users have
    return Lab(tmp_path / "study", BASE)


@dataclass(frozen=True)
class Told:
    """A lab that builds no config: cells are told."""

    out: Path
    jobs: int = 1

    @property
    def dataset(self) -> Any:
        return SimpleNamespace(name="told")

    def config(self, changes: Mapping[str, Any]) -> Any:
        return SimpleNamespace(to_tree=lambda: dict(changes))


# Cells.


def square(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"square": settings["number"] ** 2}


def test_cells_are_computed_once(lab: Lab) -> None:
    asked = {"two, really": {"number": 2}, "three": {"number": 3}}
    first = cells.computed(lab, square, asked)
    assert first == {"two, really": {"square": 4}, "three": {"square": 9}}
    (lab.out / "cells" / "three.json").unlink()

    def only_three(settings: Mapping[str, Any]) -> dict[str, Any]:
        assert settings["number"] == 3
        return square(settings)

    assert cells.computed(lab, only_three, asked) == first
    assert list(cells.computed(lab, only_three, asked)) == list(asked)


def test_cells_of_other_settings_are_left_alone(lab: Lab) -> None:
    cells.computed(lab, square, {"one": {"number": 1}})
    with pytest.raises(RunError, match="other settings"):
        cells.computed(lab, square, {"one": {"number": 2}})


def test_a_file_that_is_no_cell_is_told(lab: Lab) -> None:
    cells.computed(lab, square, {"one": {"number": 1}})
    (lab.out / "cells" / "one.json").write_text('{"settings": ')
    with pytest.raises(RunError, match="not what a study wrote"):
        cells.computed(lab, square, {"one": {"number": 1}})


# Learning order.


def test_a_wrong_phase_is_an_error() -> None:
    """Planted: | |P| − |T| | / |T| would be 0 for a sine that is shifted by half a period."""
    t = torch.arange(40) / 40
    shifts = torch.tensor([0.0, 0.25, 0.5])
    outputs = spectrum((2 * math.pi * (3 * t + shifts[:, None])).sin())
    target = spectrum((2 * math.pi * 3 * t).sin())
    curve = Curve([0, 1, 2], target, outputs, [1.0] * 3, 40)
    assert curve.errors(3) == pytest.approx([0, 2**0.5, 2], abs=1e-6)


def trained_as(speeds: Mapping[int, int], reached: float = 1.0) -> Any:
    """What a cell would hold of a network that has learned frequency k from its look `speeds[k]` on."""

    def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
        target = torch.zeros(21, dtype=torch.complex128)
        outputs = torch.zeros(3, 21, dtype=torch.complex128)
        for k in settings["frequencies"]:
            target[k] = 1
            # Within a budget that is too small for it, no frequency gets higher than its ceiling.
            most = settings["budget"] or math.inf
            top = min(reached, 0.99 * 2 * most / (math.pi**2 * k))
            outputs[speeds[k] :, k] = top
        constants = [settings["budget"] or 1e3] * 3
        return {
            "steps": [0, 10, 20],
            "constants": constants,
            "jumps": [0.0] * 3,
            "outputs": torch.view_as_real(outputs).tolist(),
            "target": torch.view_as_real(target).tolist(),
        }

    return measure


SMALL = {"layers": ("aol_linear",), "points": 40, "frequencies": (1, 2, 3), "seeds": (0,)}


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [({1: 0, 2: 1, 3: 2}, "confirmed"), ({1: 2, 2: 1, 3: 0}, "not confirmed")],
)
def test_the_order_of_passages_decides(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, int], verdict: str
) -> None:
    monkeypatch.setattr(curves, "measure", trained_as(speeds))
    found = studies.build("learning_order", lab=lab, budgets=(100.0, 5.0), **SMALL)
    assert found.verdict == verdict
    rows = {(row[0], row[1]): row for row in found.rows}
    assert rows["plain", "2"][2:4] == ("", "10")
    assert rows["aol_linear, L = 100", "2"][2] == f"{math.pi**2 * 2 / 200:.2f}"
    assert rows["aol_linear, L = 5", "1"][3] == str(10 * speeds[1])  # below its ceiling of 1.01
    assert rows["aol_linear, L = 5", "3"][3] == "never"  # above that of 0.34
    assert "Of 2 cases of a frequency above its ceiling, 0 were learned" in found.sentence


def test_an_amplitude_above_its_ceiling_is_a_broken_invariant(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
        result = trained_as({1: 0, 2: 0, 3: 0})(settings)
        return {**result, "constants": [1.0] * 3}  # planted: a constant that is too low

    monkeypatch.setattr(curves, "measure", measure)
    with pytest.raises(InvariantError, match=r"curve,linear,L=None,seed=0 has \d.* frequency 3"):
        studies.build("learning_order", lab=lab, budgets=(100.0,), **SMALL)


def test_networks_are_checked_at_every_look_and_keep_their_spectra(lab: Lab) -> None:
    settings = {"points": 20, "widths": [8], "lr": 1e-2, "steps": 3, "seed": 0}
    target = {"frequencies": [1, 2], "amplitudes": [1.0, 1.0]}
    for linear, budget in (("linear", None), ("cayley_linear", 7.0)):
        result = curves.measure({**settings, **target, "linear": linear, "budget": budget})
        assert result["steps"] == [0, 1, 2, 3]
        if budget is not None:
            assert result["constants"] == pytest.approx([7.0] * 4, rel=1e-5)
        outputs = torch.view_as_complex(torch.tensor(result["outputs"], dtype=torch.float64))
        for k in range(1, 11):
            bound = open_ceiling(max(result["constants"]), k, 20)
            assert outputs[:, k].abs().max() <= bound


def test_frequencies_and_amplitudes_are_as_many(lab: Lab) -> None:
    with pytest.raises(ValueError, match="an amplitude for each of 3"):
        studies.build("learning_order", lab=lab, amplitudes=(1.0,), **SMALL)


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [({1: 1, 2: 1, 3: 2}, "confirmed"), ({1: 2, 2: 2, 3: 1}, "not confirmed")],
)
def test_the_error_split_is_above_0_where_low_frequencies_are_learned_first(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, int], verdict: str
) -> None:
    monkeypatch.setattr(curves, "measure", trained_as(speeds, reached=0.95))
    found = studies.build("error_split", lab=lab, budgets=(100.0,), **SMALL)
    assert found.verdict == verdict


def test_ranks_decide_and_ties_count_half() -> None:
    assert rank_correlation([1, 2, 3], [5, 7, math.inf]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [9, 7, 1]) == pytest.approx(-1)
    # By the formula of Pearson of the ranks 1, 2, 3 and 1, 2.5, 2.5.
    tied = rank_correlation([1, 2, 3], [0, 4, 4])
    assert tied == pytest.approx(math.sqrt(3) / 2)
    some, others = [1, 2, 3, 4, 5], [0, 4, 4, 4, 3]
    assert rank_correlation(some, others) == pytest.approx(spearmanr(some, others).statistic)
    assert math.isnan(rank_correlation([1, 2], [3, 3]))


# The frequency principle.


def test_the_non_uniform_transform_is_an_explicit_sum() -> None:
    places, values = torch.randn(7), torch.randn(7, 2)
    gammas = torch.tensor([0.0, 0.3, 1.7])
    turns = 2 * math.pi * gammas[:, None, None] * places[:, None]
    cosine, sine = (values * turns.cos()).mean(1), (values * turns.sin()).mean(1)
    assert torch.allclose(nudft(places, values, gammas), torch.complex(cosine, -sine))


def test_the_non_uniform_transform_finds_a_wave_where_an_fft_by_index_would_not() -> None:
    places = torch.rand(4000) * 3
    wave = (2 * math.pi * 2 * places).cos()[:, None]
    found = nudft(places, wave, torch.tensor([1.0, 2.0, 3.0])).abs()[:, 0]
    assert found[1] == pytest.approx(0.5, abs=0.03)
    assert found[[0, 2]].max() < 0.05
    assert torch.fft.rfft(wave[:, 0], norm="forward")[1:].abs().max() < 0.1  # planted


def test_a_narrow_filter_leaves_values_and_a_wide_one_their_mean() -> None:
    places, values = torch.randn(6, 3), torch.randn(6, 2)
    distances = torch.cdist(places, places)
    assert torch.allclose(filtered(distances, values, 1e-3), values)
    assert torch.allclose(filtered(distances, values, 1e6), values.mean(0).expand(6, -1))
    one = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    weight = math.exp(-2)  # at a distance of two widths
    expected = torch.tensor([[weight], [1.0]]) / (1 + weight)
    assert torch.allclose(filtered(one, torch.tensor([[0.0], [1.0]]), 1.0), expected)


def test_the_principal_component_is_the_direction_that_images_vary_in() -> None:
    along = torch.tensor([3.0, -1.0, 0.5, 2.0])
    images = 0.5 + torch.tensor([0.6, 0.8]) * along[:, None]
    found = principal(images.view(4, 1, 1, 2))
    assert torch.allclose(found - found.mean(), along - along.mean())


@pytest.mark.parametrize(
    ("low", "late", "verdict"),
    [(0.1, True, "confirmed"), (0.9, True, "undecided"), (0.9, False, "not confirmed")],
)
def test_both_methods_decide_of_the_principle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float, late: bool, verdict: str
) -> None:
    def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
        count = settings["frequencies"]
        learned = [rank if late else count - rank for rank in range(count)]
        return {
            "steps": list(range(count + 2)),
            "images": 9,
            "gammas": [rank + 1.0 for rank in range(count)],
            "missed": [[1.0 if step <= at else 0.0 for step in range(count + 2)] for at in learned],
            "error_low": [[low] * (count + 2) for _ in settings["widths"]],
            "error_high": [[0.5] * (count + 2) for _ in settings["widths"]],
        }

    monkeypatch.setattr(import_module("lipnets.studies.f_principle"), "measure", measure)
    found = studies.build("f_principle", lab=Told(tmp_path), frequencies=3, seeds=(0,))
    assert found.verdict == verdict


def test_outputs_are_followed_while_a_classifier_trains(lab: Lab) -> None:
    config = lab.config({"schedule.max_steps": 3}).to_tree()
    settings = {"config": config, "frequencies": 2, "widths": [0.5, 1e6]}
    result = import_module("lipnets.studies.f_principle").measure(settings)
    assert result["steps"] == [0, 1, 2, 3]
    assert result["gammas"][1] == pytest.approx(2 * result["gammas"][0])
    assert [len(result[key]) for key in ("missed", "error_low", "error_high")] == [2, 2, 2]
    # A filter that is wide enough leaves means: of untrained outputs, and of balanced classes.
    assert result["error_low"][1][0] < 0.5 < result["error_low"][0][0]


def test_what_is_missed_before_training_are_explicit_sums_phases_and_all(lab: Lab) -> None:
    config = lab.config({"schedule.max_steps": 1})
    settings = {"config": config.to_tree(), "frequencies": 3, "widths": [1.0]}
    result = import_module("lipnets.studies.f_principle").measure(settings)
    split = load_data(config).train
    every = math.ceil(len(split) / result["images"])
    images, labels = split.images[::every], split.labels[::every]
    assert len(images) == result["images"]
    with torch.no_grad():
        said = build_model(config).eval()(images).double().softmax(dim=1).numpy()
    flat = images.flatten(1).double().numpy()
    centred = flat - flat.mean(axis=0)
    places = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]  # its sign makes conjugates
    for k in range(3):
        wave = np.exp(-2j * np.pi * (k + 1) * places / np.ptp(places))
        wanted, found = wave @ np.eye(10)[labels.numpy()], wave @ said
        expected = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert result["missed"][k][0] == pytest.approx(expected, rel=1e-6)


# Noise of a frequency.


def test_noise_is_in_0_to_1_and_soft_labels_sum_to_1() -> None:
    images = torch.randn(500, 1, 6, 6)
    labels = torch.randint(4, (500,))
    for direction in (None, (1, 2)):
        noise = levels(images, 1.3, 0.5, direction)
        assert noise.min() >= 0
        assert noise.max() <= 1
        assert noise.max() - noise.min() > 0.9  # it waves
        soft = soft_labels(labels, noise, 4)
        assert torch.allclose(soft.sum(1), torch.ones(500))
        assert (soft >= 0).all()
        assert (soft.argmax(1) == labels)[noise < 0.9].all()


@pytest.mark.parametrize("amount", [-0.1, 0.51])
def test_more_noise_than_half_is_refused(amount: float) -> None:
    """Planted: at 0.51 s would be 1.02, and the true class have a negative share."""
    with pytest.raises(ValueError, match=r"in \[0, 0.5\]"):
        levels(torch.randn(3, 1, 2, 2), 1.0, amount)


def test_the_radial_wave_is_one_of_the_norm_alone() -> None:
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 2] = radius(9) + 0.25 / 2.0  # a quarter of a period of f = 2 further out
    assert levels(image, 2.0, 0.3) == pytest.approx(0.6)
    assert levels(image.flip(2, 3).transpose(2, 3), 2.0, 0.3) == pytest.approx(0.6)
    assert levels(image, 0.0, 0.3) == pytest.approx(0.3)


def test_the_radius_is_the_mean_norm_of_gaussian_noise() -> None:
    assert radius(1) == pytest.approx(math.sqrt(2 / math.pi))
    assert radius(2) == pytest.approx(math.sqrt(math.pi / 2))


def test_the_wave_along_a_direction_has_the_period_that_it_is_said_to_have() -> None:
    """Along u, from 0, s is a (1 + sin 2πft); across it, it does not change."""
    rows = torch.arange(4)[:, None].expand(4, 6) / 4
    unit = (2 * math.pi * rows + math.pi / 4).cos()
    unit = unit / unit.norm()
    across = torch.zeros(4, 6)
    across[0, 0], across[0, 1] = 1.0, -1.0  # the wave is the same along a row
    for t in (0.0, 0.1, 0.7):
        image = (t * unit + 5 * across).view(1, 1, 4, 6)
        expected = 0.5 * (1 + math.sin(2 * math.pi * 0.9 * t))
        assert levels(image, 0.9, 0.5, (1, 0)) == pytest.approx(expected)


def test_the_response_is_the_share_of_the_noise_that_outputs_have() -> None:
    labels, noise = torch.randint(5, (40,)), torch.rand(40)
    for share in (0.0, 0.3, 1.0):
        said = 0.2 + share * noise
        assert response(soft_labels(labels, said, 5), labels, noise) == pytest.approx(share)
    assert response(soft_labels(labels, 1 - noise, 5), labels, noise) == pytest.approx(-1)
    for count in (40, 7):  # of which the mean of as many equal numbers is rounded
        even = torch.full((count,), 0.4)
        assert math.isnan(response(soft_labels(labels, noise, 5)[:count], labels[:count], even))


@pytest.mark.parametrize(
    ("bandwidth", "plain", "verdict"),
    [
        (0.5, 0.9, "confirmed"),
        (
            0.05,
            0.9,
            "undecided",
        ),  # a budget that has room for no noise tells nothing of frequencies
        (1e9, 0.9, "not confirmed"),
        (0.5, 1.1, "undecided"),  # without a budget, high frequencies are fitted best
    ],
)
def test_a_budget_between_low_and_high_frequencies_confirms_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwidth: float, plain: float, verdict: str
) -> None:
    def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
        frequency, free = settings["frequency"], settings["budget"] == 1.0
        fitted = plain**frequency if free else float(frequency < bandwidth) - 0.01 * frequency
        if bandwidth > 1 and not free:
            fitted = 0.9 + 0.01 * frequency
        even = frequency == 0
        return {
            "steps": [0, 5, 10],
            "loss": [2.0, 0.5, 0.5 + settings["amount"] * max(fitted, 0.0)],
            "response": [0.0, 0.0, math.nan if even else fitted],
            "beyond": [0.0, 0.0, math.nan if even else fitted],
            "mean_noise": settings["amount"],
        }

    monkeypatch.setattr(import_module("lipnets.studies.frequency_noise"), "measure", measure)
    found = studies.build(
        "frequency_noise",
        lab=Told(tmp_path),
        frequencies=(0.1, 1.0),
        budgets=(3.0,),
        seeds=(0,),
    )
    assert found.verdict == verdict
    if verdict == "confirmed":
        # Clean labels lose as little at step 5: noisy ones are ahead nowhere, and rise by 0.4 after it.
        [row] = [row for row in found.rows if row[:2] == ("L = 3, radial", "0.1")]
        assert row == ("L = 3, radial", "0.1", "0.40", "1.00", "1.00", "0.000", "0.400", "5")


def test_networks_are_trained_with_soft_labels(lab: Lab) -> None:
    model = {"name": "plain_mlp_s", "widths": [16]}
    config = lab.config({"model": model, "schedule.max_steps": 30, "optimizer.lr": 0.3})
    settings = {"config": config.to_tree(), "budget": 1.0, "frequency": 0.0, "direction": None}
    run = import_module("lipnets.studies.frequency_noise").measure
    clean, even = (run({**settings, "amount": amount}) for amount in (0.0, 0.5))
    assert clean["steps"] == list(range(31))
    assert clean["loss"][0] == even["loss"][0]
    assert clean["loss"][-1] < even["loss"][-1]  # who learns to be half sure is never surer
    assert even["mean_noise"] == pytest.approx(0.5)
