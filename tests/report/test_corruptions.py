"""Tests of the sections of corruptions and of natural shifts: read as a reader reads them."""

import base64
import re

import pytest

from lipnets.records import Record
from lipnets.report import Facts, figures, page, summary

SHARES = {"fog": 0.9, "impulse_noise": 0.5, "frost_proc": 0.3}
FAMILIES = {"fog": "weather", "impulse_noise": "noise", "frost_proc": "stand-in"}
ENDS = {"low": 0.25, "high": 0.75}


@pytest.fixture(scope="module")
def corrupted() -> list[Record]:
    records = []
    for name, share in SHARES.items():
        for severity in (1, 3, 5):
            details = {
                "corruption": name,
                "family": FAMILIES[name],
                "severity": severity,
                "clean": 0.95,
                "distance": 1.25,
                "source": "computed",
                "radius": 36 / 255,
            }
            right = share - 0.05 * severity
            records.append(Record("corrupted_accuracy", right, "fraction", 8, details=details))
            safe = Record("corrupted_certified_accuracy", right / 2, "fraction", 8, details=details)
            records.append(safe)
        pixels = base64.b64encode(bytes(range(64))).decode()
        details = {"corruption": name, "severity": 3, "shape": [1, 8, 8], "pixels": pixels}
        records.append(Record("corruption_example", 1.0, "l2 pixels", 1, details=details))
    for group, names in (("all", ["impulse_noise", "fog"]), ("frost_proc", ["frost_proc"])):
        details = {
            "family": group,
            "corruptions": names,
            "missing": ["frost"],
            "severities": [1, 3, 5],
        }
        share = 0.55 if group == "all" else 0.15
        for name, value in (("corruption_mean", share), ("corruption_certified_mean", 0.275)):
            mean = Record(name, value, "fraction", 8, details={**details, **ENDS, "clean": 0.95})
            records.append(mean)
    details = {"baseline": "runs/plain", "undefined": ["fog"], "missing": []}
    records.append(Record("mce", 0.875, "1", details=details))
    details = {"shift": "usps", "source": "a file", **ENDS}
    records.append(Record("shifted_accuracy", 0.5, "fraction", 300, details=details))
    details = {"shift": "usps", "low": 0.31, "high": 0.59}
    records.append(Record("shift_gap", 0.45, "fraction", 300, details=details))
    return records


def _text(records: list[Record], facts: Facts) -> str:
    document = page(records, facts, figures(records))
    return " ".join(
        re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]*>", " ", document, flags=re.DOTALL).split()
    )


def test_the_mean_comes_first_and_says_what_it_is_over(
    corrupted: list[Record], facts: Facts
) -> None:
    text = _text(corrupted, facts)
    assert "Over 2 corruptions and 3 severities, 45.0\u202f% of images".replace(
        "\u202f", " "
    ) in text.replace("\u202f", " ")
    assert "mean error of CIFAR-10-C, without frost." in text
    assert "another corruption, and in no mean but its own" in text
    assert text.index("Over 2 corruptions") < text.index("Each corruption, over all severities")
    assert "is 87.5, where 100 is the same error" in text
    assert "Left out, since the baseline loses nothing: fog." in text


def test_corruptions_are_rows_from_mild_to_hard(corrupted: list[Record], facts: Facts) -> None:
    text = _text(corrupted, facts).replace("\u202f", " ")
    assert "fog weather 75.0 % 65.0 % 37.5 % 1.25 computed" in text
    rows = [text.index(f"{name.replace('_', ' ')} {FAMILIES[name]}") for name in SHARES]
    assert rows == sorted(rows)


def test_families_are_lines_and_stand_ins_are_not(corrupted: list[Record]) -> None:
    (ax,) = figures(corrupted)["corruption_severities"].axes
    curves = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata()) == 3]
    assert curves == [
        [[s, pytest.approx(share - 0.05 * s)] for s in (1, 3, 5)] for share in (0.5, 0.9)
    ]
    assert [text.get_text() for text in ax.texts] == ["without corruption", "noise", "weather"]


def test_images_are_shown_as_they_are(corrupted: list[Record]) -> None:
    shown = [ax for ax in figures(corrupted)["corruption_examples"].axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["fog", "impulse\nnoise", "frost proc"]
    array = shown[0].images[0].get_array()
    assert array is not None
    assert array[:, :, 1].ravel().tolist() == list(range(64))


def test_shifts_have_their_gap_and_interval(corrupted: list[Record], facts: Facts) -> None:
    text = _text(corrupted, facts).replace("\u202f", " ")
    assert "usps 300 50.0 % [25.0, 75.0] +45.0 [31.0, 59.0]" in text
    lines = {what: number for what, number, _ in summary(corrupted)}
    assert lines["right on usps"].replace("\u202f", " ") == "50.0 %"
    assert lines["wrong when corrupted"].replace("\u202f", " ") == "45.0 %"
    assert lines["mCE"] == "87.5"


def test_effective_robustness_says_what_was_expected_and_where_lines_are_prolonged(
    corrupted: list[Record], facts: Facts
) -> None:
    details = {"shift": "usps", "clean": 0.7, "accuracy": 0.62, "predicted": 0.65, "low": -0.05}
    details |= {"high": -0.01, "r2": 0.978, "standard": 12, "from": 0.82, "to": 0.97}
    record = Record("effective_robustness", -0.03, "fraction", 300, details=details)
    assert "Effective robustness" not in _text(corrupted, facts)
    for extrapolated in (True, False):
        record.details["extrapolated"] = extrapolated
        text = _text([*corrupted, record], facts).replace("\u202f", " ")
        assert "a line through 12 standard models" in text
        assert "usps 62.0 % 65.0 % -3.0 [-5.0, -1.0] 0.98" in text
        assert "accuracies from 82.0 % to 97.0 % on the test split" in text
        assert ("This network has 70.0 %, which is outside" in text) == extrapolated
    lines = {what: (number, remark) for what, number, remark in summary([*corrupted, record])}
    assert lines["effective robustness, usps"][0] == "−3.0"
