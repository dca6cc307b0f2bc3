"""Tests of effective robustness, against lines that are known."""

import dataclasses

import numpy as np
import pytest

from lipnets.probes.effective import EffectiveRobustness, effective_robustness
from lipnets.records import Record

ON = np.linspace(0.82, 0.97, 12)
OFF = 1 / (1 + np.exp(0.47 - 0.84 * np.log(ON / (1 - ON))))


def _evaluation(clean: float, usps: float, corrupted: float, weights: str) -> list[Record]:
    origin = {
        "data": "mnist",
        "sha256": "d",
        "images": "all",
        "weights": weights,
        "dtype": "float64",
    }
    ends = {"low": -0.1, "high": 0.1}
    shift = {"shift": "usps", "of_shift": "all", "clean": clean}
    shift |= {"low": usps - 0.1, "high": usps + 0.1}
    main = {"corruptions": ["fog"], "severities": [1], "clean": clean, **ends}
    return [
        Record("accuracy", clean, "fraction", 100, details=origin),
        Record("shifted_accuracy", usps, "fraction", 200, details={**shift, **origin}),
        Record(
            "corruption_mean", 0.1, "fraction", 100, details={"family": "noise", **main, **origin}
        ),
        Record(
            "corruption_mean",
            corrupted,
            "fraction",
            100,
            details={"family": "all", **main, **origin},
        ),
    ]


STANDARD = [
    _evaluation(float(on), float(off), float(on), f"model {place}")
    for place, (on, off) in enumerate(zip(ON, OFF, strict=True))
]


def test_it_is_the_height_above_a_line_of_logits() -> None:
    line = EffectiveRobustness.fit(list(zip(ON.tolist(), OFF.tolist(), strict=True)))
    assert (line.slope, line.intercept) == (pytest.approx(0.84), pytest.approx(-0.47))
    assert line.r2 == pytest.approx(1)
    assert line(0.9, line.predicted(0.9) + 0.03) == pytest.approx(0.03)
    assert line.extrapolates(0.75)
    assert not line.extrapolates(0.9)
    with pytest.raises(ValueError, match="at least 10 standard models, got 9"):
        EffectiveRobustness.fit([(0.5, 0.5)] * 9)


def test_lines_are_those_of_least_squares() -> None:
    generator = np.random.default_rng(0)
    on, off = generator.uniform(0.1, 0.9, (2, 14))
    line = EffectiveRobustness.fit(list(zip(on.tolist(), off.tolist(), strict=True)))
    x, y = np.log(on / (1 - on)), np.log(off / (1 - off))
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_each_shift_and_the_mean_over_corruptions_have_their_line() -> None:
    own = _evaluation(0.7, 0.65, 0.66, "ours")
    usps, corruptions = effective_robustness(own, STANDARD)
    expected = 1 / (1 + np.exp(0.47) * (0.3 / 0.7) ** 0.84)
    assert (usps.name, usps.details["shift"]) == ("effective_robustness", "usps")
    assert usps.value == pytest.approx(0.65 - expected)
    assert usps.details["predicted"] == pytest.approx(expected)
    assert (usps.details["low"], usps.details["high"]) == (
        pytest.approx(usps.value - 0.1),
        pytest.approx(usps.value + 0.1),
    )
    assert (usps.count, usps.details["standard"]) == (200, 12)
    assert (usps.details["from"], usps.details["to"]) == (0.82, 0.97)
    assert usps.details["extrapolated"]
    assert usps.details["weights"] == "ours"
    assert corruptions.details["shift"] == "corruptions"
    assert corruptions.value == pytest.approx(0.66 - 0.7)  # the line through (p, p)


def test_a_network_is_not_among_those_it_is_compared_with() -> None:
    for record in effective_robustness(STANDARD[3], STANDARD):
        assert record.details["standard"] == 11
        assert record.value == pytest.approx(0)
        assert not record.details["extrapolated"]
    with pytest.raises(ValueError, match="at least 10 standard models, got 9"):
        effective_robustness(STANDARD[3], STANDARD[:10])
    with pytest.raises(ValueError, match="at least 10 standard models, got 1"):
        effective_robustness(STANDARD[0], [STANDARD[1]] * 12)  # copies are one model


def test_other_images_and_missing_shifts_are_refused() -> None:
    own = _evaluation(0.7, 0.65, 0.66, "ours")
    for change in ({"images": "9 of 100"}, {"sha256": "e"}, {"of_shift": "5 of 9"}):
        others = [
            dataclasses.replace(record, details={**record.details, **change})
            for record in STANDARD[4]
        ]
        with pytest.raises(ValueError, match="images of 'usps', and number 5 was not"):
            effective_robustness(own, [*STANDARD[:4], others, *STANDARD[5:]])
    with pytest.raises(ValueError, match="images of 'usps', and number 12 was not"):
        effective_robustness(own, [*STANDARD[:11], STANDARD[11][:1]])
    assert effective_robustness(own[:1], STANDARD) == []


def test_accuracies_without_a_logit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"should be in \(0, 1\)"):
        effective_robustness(_evaluation(1.0, 0.65, 0.66, "ours"), STANDARD)
    perfect = _evaluation(1.0, 0.9, 0.9, "perfect")
    with pytest.raises(ValueError, match=r"should be in \(0, 1\)"):
        effective_robustness(_evaluation(0.7, 0.65, 0.66, "ours"), [*STANDARD, perfect])
