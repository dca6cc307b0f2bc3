"""Tests of how figures are drawn and written."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from lipnets.records import Record
from lipnets.report import figures
from lipnets.report.drawing import COLORS, png, spread, svg


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), st.floats(0.01, 3))
def test_labels_keep_their_distance_their_order_and_their_centre(
    heights: list[float], gap: float
) -> None:
    placed = spread(heights, gap)
    order = sorted(range(len(heights)), key=lambda i: (placed[i], heights[i]))
    assert [heights[i] for i in order] == sorted(heights)
    ranked = sorted(placed)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(ranked))
    assert sum(placed) == pytest.approx(sum(heights), abs=1e-8)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12, unique=True))
def test_labels_that_do_not_touch_stay_where_they_are(heights: list[float]) -> None:
    ranked = sorted(heights)
    gap = min((b - a for a, b in pairwise(ranked)), default=1.0)
    assert spread(heights, 0.99 * gap) == pytest.approx(heights, abs=1e-9)


def test_figures_are_well_formed_and_ask_for_nothing(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        text = svg(figure, name)
        tree = ElementTree.fromstring(text)
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert all(each.startswith(f"{name}-") for each in ids)
        for target in re.findall(r'href="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text):
            assert target[0] == "#"
            assert target[1:] in ids
        assert "http" not in text


def test_figures_take_the_colours_of_the_page(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        text = svg(figure, name)
        assert not re.findall(r"#[0-9a-f]{6}\b", text.replace("url(#", "").replace('href="#', ""))
        used = set(re.findall(r"var\(--(\w+)\)", text))
        assert used <= COLORS.keys()
        assert {"ink", "muted"} & used


def test_text_stays_text(drawn: dict[str, Figure]) -> None:
    text = svg(drawn["corrupted_accuracy"], "x")
    words = {element.text for element in ElementTree.fromstring(text).iter("text")}
    assert {"heavy fog", "blur", "80.0", "severity"} <= words


def test_the_same_records_give_the_same_files(
    records: list[Record], drawn: dict[str, Figure]
) -> None:
    first, second = drawn, figures(records)
    assert first.keys() == second.keys()
    for name in first:
        assert svg(first[name], name) == svg(second[name], name)
    assert png(first["bound_layer"]) == png(second["bound_layer"])


def test_figures_are_written_as_png_on_white_paper(drawn: dict[str, Figure]) -> None:
    content = png(drawn["certified_curve"])
    assert content.startswith(b"\x89PNG\r\n\x1a\n")


def test_the_style_of_others_is_left_alone(drawn: dict[str, Figure]) -> None:
    before = dict(mpl.rcParams)
    for name, figure in drawn.items():
        svg(figure, name)
    assert dict(mpl.rcParams) == before
