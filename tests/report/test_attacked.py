"""Tests of the sections of attacks and of tightness, on records in which every number is known."""

import re
from typing import Any

import pytest
from matplotlib.figure import Figure

from lipnets.records import Record
from lipnets.report import Facts, figures, page, summary

L2 = {"norm": "l2", "radius": 36 / 255}
LINF = {"norm": "linf", "radius": 2 / 255}
COMMON: dict[str, Any] = {"steps": 30, "spared": 3, "searched": 61.7}


def attacks(certified: bool = True) -> list[Record]:
    """Of ten images nine are right; two break at 36/255, and one is never found."""
    distances = [0.05, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    records = []
    for ball, hits in ((L2, 7), (LINF, 6)):
        ends = {"low": 0.25, "high": 0.75, "hits": hits, **COMMON}
        records.append(Record("attacked_accuracy", hits / 10, "fraction", 10, details=ball | ends))
        for loss, broken, tried in (("margin", 2, 9), ("bisection", 0, 7)):
            own = {"loss": loss, "hits": broken, **ball}
            records.append(Record("attack_success", broken / tried, "fraction", tried, details=own))
        if certified:
            own = {"certified": 0.4, "hits": hits - 4, **ball}
            records.append(Record("certified_gap", hits / 10 - 0.4, "fraction", 10, details=own))
    curve: dict[str, Any] = {"distances": distances, "infinite": 1, "hits": 9}
    if certified:
        curve["certified"] = [0.8 * each for each in distances] + [1.0]
        levels = {"0.05": 0.5, "0.5": 0.8, "0.95": 0.876}
        own = {"quantiles": levels}
        records.append(Record("certified_share", 0.8, "fraction", 8, details=own))
    records.append(Record("attacked_curve", 0.4, "l2 pixels", 10, details=curve))
    return records


def slopes(proved: bool = True) -> list[Record]:
    records = []
    for layer, slope, methods in (
        ("feature map", 0.75, {"power": 0.75}),
        ("network", 1.5, {"jacobian": 1.25, "pairs": 1.5}),
    ):
        details = {"layer": layer, "module": "Linear", "rule": "a theorem", "method": "pairs"}
        if proved:
            records.append(Record("audit/bound", 2.0, "1", details=details))
            records.append(Record("audit/ratio", slope / 2, "1", details=details))
        if proved or layer == "network":
            records.append(Record("audit/slope", slope, "1", details=details))
            for method, value in methods.items():
                own = {"layer": layer, "method": method}
                records.append(Record("attained_slope", value, "1", details=own))
    if proved:
        own = {"classes": [0, 1], "slope": 0.9, "bound": 1.2}
        records.append(Record("attained_margin", 0.75, "1", details=own))
    return records


def words(records: list[Record], facts: Facts, name: str) -> str:
    """The text of a section, and nothing if it is left out."""
    drawn: dict[str, Figure] = {}
    drawn |= figures(records)
    found = re.search(
        f'<section id="{name}">(.*?)</section>', page(records, facts, drawn), re.DOTALL
    )
    text = re.sub(r"<svg.*?</svg>", "", found[1] if found else "", flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_the_section_says_what_survives_and_what_is_open(facts: Facts) -> None:
    text = words(attacks(), facts, "attacked")
    assert "10 test images, with 30 steps an attack" in text
    assert "36/255, ℓ2 70.0 % [25.0, 75.0] 40.0 % 30.0 % 62" in text
    assert "2/255, ℓ∞ 60.0 % [25.0, 75.0] 40.0 % 20.0 % 62" in text
    assert "36/255, ℓ2 the lead of the label over the next class 2 9" in text
    assert "the search of the nearest wrong image 0 7" in text
    assert "Certified radii are 0.80 of the distance" in text
    assert "at least 0.87 for the tightest twentieth" in text  # rounded downwards
    assert "3 of the images certified at the first radius were not attacked" in text


def test_networks_without_a_certificate_have_no_column_of_it(facts: Facts) -> None:
    text = words(attacks(certified=False), facts, "attacked")
    assert "70.0 % [25.0, 75.0] 62" in text
    assert "a better attack would make it fall earlier" in text
    assert "open" not in text.lower()


def test_a_single_class_has_nothing_to_attack(facts: Facts) -> None:
    records = attacks()
    for record in records:
        record.details["vacuous"] = True
    assert words(records, facts, "attacked") == (
        "Attacked images The network knows a single class: there is nothing to attack."
    )


def test_the_figure_draws_both_curves_as_steps() -> None:
    (figure,) = (each for name, each in figures(attacks()).items() if name == "attacked_curve")
    (ax,) = figure.axes
    above, below = ax.lines[0], ax.lines[1]
    heights = dict(
        zip(*(map(float, each) for each in above.get_data()), strict=True)
    )  # last of each
    assert heights[0.0] == pytest.approx(0.9)
    assert heights[0.05] == pytest.approx(0.8)
    assert heights[0.4] == pytest.approx(0.4)
    assert min(heights.values()) == pytest.approx(0.2)  # of one beyond the end, and one never found
    low = dict(zip(*(map(float, each) for each in below.get_data()), strict=True))
    assert low[0.8 * 0.05] == pytest.approx(0.8)
    assert all(low[x] <= heights.get(x / 0.8, 1) + 1e-9 for x in low if x / 0.8 in heights)


def test_slopes_are_told_by_method_and_the_margin_by_its_classes(facts: Facts) -> None:
    text = words(slopes(), facts, "tightness")
    assert "feature map Linear 2.00000 0.75000 0.375 a theorem" in text
    assert "network Linear 2.00000 1.50000 0.750 a theorem" in text
    assert "network singular values of Jacobians 1.25000" in text
    assert "network pairs of near points 1.50000" in text
    assert "cat &amp; dog and &lt;script&gt;" in text
    assert "a slope of 0.90000, where 1.20000 is proved, a ratio of 0.750" in text


def test_without_a_proof_there_is_a_slope_and_no_bound(facts: Facts) -> None:
    text = words(slopes(proved=False), facts, "tightness")
    assert "may be anything above the slope that a search attained: 1.50000" in text
    assert "a theorem" not in text


def test_the_summary_has_a_line_for_each_radius_and_for_the_share() -> None:
    lines = {what: (number, remark) for what, number, remark in summary(attacks())}
    assert lines["survives attacks at 36/255"] == ("70.0\u202f%", "[25.0, 75.0] of 10")
    assert lines["certified over attacked radius"] == ("0.80", "median; 90 % from 0.50 to 0.87")
    assert "survives attacks at 2/255" not in lines
    lines = {what: (number, remark) for what, number, remark in summary(slopes(proved=False))}
    assert lines["attained slope"] == ("1.500", "no bound is proved")
