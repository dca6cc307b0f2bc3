"""Tests of figures of the dynamics: what is drawn is what was recorded."""

import math

import pytest
from matplotlib.collections import FillBetweenPolyCollection, QuadMesh
from matplotlib.figure import Figure

from lipnets.records import Record
from lipnets.report import Facts, figures, page


def test_the_ledger_stacks_its_terms_up_to_log_k(drawn: dict[str, Figure]) -> None:
    (ax,) = drawn["ledger"].axes
    heights = [
        path.get_paths()[0].vertices[:, 1]
        for path in ax.collections
        if isinstance(path, FillBetweenPolyCollection)
    ]
    highest, lowest = max(h.max() for h in heights), min(h.min() for h in heights)
    assert highest == pytest.approx(0.9 + 0.25 + 0.3)  # gradient, which is linear less decay
    assert lowest == pytest.approx(-0.25 - 0.05)
    line = ax.lines[0].get_xydata().tolist()
    assert line == [[0, 0], [10, pytest.approx(0.68)], [20, pytest.approx(1.152)]]
    texts = [text.get_text() for text in ax.texts]
    assert sorted(texts) == sorted(
        [
            *("log K  +1.152", "gradient  +1.150", "weight decay  -0.250"),
            *("curvature  +0.300", "square  -0.050"),
        ]
    )


def test_drivers_are_drawn_with_the_deviation_on_both_sides(drawn: dict[str, Figure]) -> None:
    (ax,) = drawn["drivers"].axes
    found = {str(line.get_label()): list(line.get_ydata()) for line in ax.lines}
    assert found["drift"] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert found["noise-curvature"] == pytest.approx([1e-4, 2e-4, 3e-4])
    assert found["± deviation"] == pytest.approx([1e-3] * 3)
    assert any(list(line.get_ydata()) == pytest.approx([-1e-3] * 3) for line in ax.lines)


def test_scores_are_points(drawn: dict[str, Figure]) -> None:
    (ax,) = drawn["scores"].axes
    points = max((line.get_xydata().tolist() for line in ax.lines), key=len)
    assert points == [[0, -1.25], [10, -0.25], [20, 0.75]]


def test_bands_are_rows_and_epochs_columns(drawn: dict[str, Figure]) -> None:
    ax = drawn["frequencies"].axes[0]
    assert ax.get_title(loc="left") == "backbone.conv  1 to 6"
    [mesh] = [each for each in ax.collections if isinstance(each, QuadMesh)]
    expected = [[1.0 + band + at for at in range(3)] for band in range(4)]
    assert mesh.get_array().reshape(4, 3).tolist() == expected
    assert mesh.get_coordinates()[:, 0, 1].tolist() == [0, 0.125, 0.25, 0.375, 0.5]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-0.5, 0.5, 1.5, 2.5]


def test_the_page_tells_what_is_left_and_how_scores_are_spread(
    records: list[Record], facts: Facts, drawn: dict[str, Figure]
) -> None:
    text = " ".join(page(records, facts, drawn).split())
    assert "leaves 2.0e-03 of +1.152 unexplained" in text
    assert "those of 3 steps have -0.25 and 1.00" in text


@pytest.mark.parametrize("missing", ["ledger/", "driver/", "gain/"])
def test_what_was_not_recorded_is_left_out(
    records: list[Record], facts: Facts, missing: str
) -> None:
    kept = [record for record in records if not record.name.startswith(missing)]
    drawn = figures(kept)
    assert ("ledger" in drawn) == (missing != "ledger/")
    assert ("drivers" in drawn) == (missing != "driver/")
    assert ("frequencies" in drawn) == (missing != "gain/")
    assert page(kept, facts, drawn)


def test_one_band_of_one_epoch_is_a_map_still() -> None:
    details = {"layer": "conv", "low": 0.0, "high": 0.5}
    record = Record("gain/band", 2.0, "1", step=0, epoch=0.0, details=details)
    ax = figures([record])["frequencies"].axes[0]
    assert ax.get_xlim() == (-0.5, 0.5)
    assert math.isclose(ax.get_ylim()[1], 0.5)
