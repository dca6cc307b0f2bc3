"""Tests of figures: what is drawn is what was recorded."""

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lipnets.metrics import CertifiedCurve
from lipnets.records import Record
from lipnets.report import figures
from lipnets.report.plots import stairs


def axes(drawn: dict[str, Figure], name: str) -> Axes:
    (ax,) = drawn[name].axes
    return ax


def lines(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [tuple(point) for point in line.get_xydata().tolist()]
        for line in ax.get_lines()
    }


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def longest(ax: Axes) -> list[tuple[float, float]]:
    return max(
        ([tuple(point) for point in line.get_xydata().tolist()] for line in ax.lines), key=len
    )


def test_the_certified_curve_falls_at_every_radius(
    drawn: dict[str, Figure], steps: list[float]
) -> None:
    curve = longest(axes(drawn, "certified_curve"))
    for radius in (0.05, 0.15, 0.25, 0.4, 0.7, 0.95):
        height = [y for x, y in curve if x <= radius][-1]
        assert height == sum(step > radius for step in steps) / 8
    assert sorted(x for x, _ in curve[1:-1]) == pytest.approx(sorted(steps * 2))


def test_the_certified_curve_marks_the_standard_radii(drawn: dict[str, Figure]) -> None:
    texts = words(axes(drawn, "certified_curve"))
    assert [text for text in texts if "/" in text or text == "1"] == [
        "36/255",
        "72/255",
        "108/255",
        "1",
    ]
    assert [text for text in texts if "." in text] == ["62.5", "37.5", "25.0", "0.0"]


def test_radii_beyond_the_curve_are_not_marked(records: list[Record]) -> None:
    near = [
        Record("certified_curve", 0.1, "l2 pixels", 8, details={"steps": [0.1, 0.2]})
        if record.name == "certified_curve"
        else record
        for record in records
        if record.name in ("accuracy", "certified_curve")
    ]
    assert "1" not in words(axes(figures(near), "certified_curve"))
    assert axes(figures(near), "certified_curve").get_xlim()[1] < 0.5


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_many_steps_are_drawn_as_a_thousand_and_never_too_high(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    radii = torch.rand(count, generator=generator).sort().values
    curve = CertifiedCurve(tuple(radii.tolist()), count + 10)
    x, y = stairs(curve, 1.1)
    assert (x[0], x[-1]) == (0.0, 1.1)
    assert len(x) <= 2 * 1000 + 2
    corners = list(zip(x[1:-1:2], y[2:-1:2], strict=True))  # heights right of each step
    for at, height in corners:
        assert curve(at) - 1e-3 <= height <= curve(at) + 1e-12
    if count <= 1000:
        assert [at for at, _ in corners] == list(curve.steps)


def test_a_network_without_certified_images_has_a_flat_curve(records: list[Record]) -> None:
    none = [
        Record("certified_curve", 0.0, "l2 pixels", 8, details={"steps": []})
        if record.name == "certified_curve"
        else record
        for record in records
        if record.name in ("accuracy", "certified_curve")
    ]
    ax = axes(figures(none), "certified_curve")
    flat = [line.get_xdata() for line in ax.lines if set(line.get_ydata()) == {0.0}]
    assert max(flat, key=len).tolist() == [0, pytest.approx(1.04 * 108 / 255)]


def test_corruptions_are_a_table_from_mild_to_hard(drawn: dict[str, Figure]) -> None:
    ax = axes(drawn, "corrupted_accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["heavy fog", "blur"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3", "4", "5"]
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    rows = {y: [cells[at] for at in sorted(cells) if at[1] == y] for _, y in cells}
    assert rows[min(rows)] == ["80.0", "70.0", "60.0", "50.0", "40.0"]
    assert rows[max(rows)] == ["50.0", "40.0", "30.0", "20.0", "10.0"]


def test_darker_cells_are_better(drawn: dict[str, Figure]) -> None:
    ax = axes(drawn, "corrupted_accuracy")
    shares = {text.get_position(): float(text.get_text()) for text in ax.texts}
    tints = {
        (patch.get_x() + 0.48, patch.get_y() + 0.48): patch.get_alpha()
        for patch in ax.patches
        if isinstance(patch, Rectangle)
    }
    order = sorted(shares, key=lambda at: shares[at])
    drawn_tints = [
        round(tints[at], 9) for at in order
    ]  # shares that print alike differ by rounding
    assert drawn_tints == sorted(drawn_tints)


def test_bands_are_rows_and_radii_columns_and_all_frequencies_come_last(
    drawn: dict[str, Figure],
) -> None:
    ax = axes(drawn, "band_certified_accuracy")
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["0 to 0.25", "0.25 and above", "all frequencies"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "36/255"]
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    cells = [[texts[column + 0.48, row + 0.48] for column in range(2)] for row in range(3)]
    assert cells == [["60.0", "45.9"], ["90.0", "75.9"], ["60.0", "45.9"]]


def test_filters_are_two_curves_over_every_radius(drawn: dict[str, Figure]) -> None:
    drawn = lines(axes(drawn, "filtered_accuracy"))
    assert drawn["low-pass: keeps ρ ≤ r"] == [(0, 0.25), (1, 0.5), (2, 0.75), (3, 0.875)]
    assert drawn["high-pass: keeps ρ > r"] == [(0, 0.75), (1, 0.5), (2, 0.25), (3, 0.25)]


def test_the_bound_of_the_network_is_drawn_over_epochs(drawn: dict[str, Figure]) -> None:
    ax = axes(drawn, "bound_network")
    assert list(lines(ax).values()) == [[(0, 4.5), (1, 3.0), (2, 1.5)]]
    assert words(ax) == ["4.500", "1.500"]


def test_layers_that_are_always_one_are_left_out(drawn: dict[str, Figure]) -> None:
    ax = axes(drawn, "bound_layer")
    assert list(lines(ax).values()) == [
        [(0, 2.25), (1, 1.5), (2, 0.75)],
        [(0, 4.5), (1, 3.0), (2, 1.5)],
    ]
    assert words(ax) == ["backbone.0  0.7500", "head  1.5000"]


def test_of_many_layers_the_outermost_are_named() -> None:
    history = [
        Record("bound/layer", 2 + i + epoch, "1", epoch=epoch, details={"layer": f"layer {i}"})
        for i in range(30)
        for epoch in (0.0, 1.0)
    ]
    names = [text.split("  ")[0] for text in words(axes(figures(history), "bound_layer"))]
    assert names[0] == "layer 0"
    assert names[-1] == "layer 29"
    assert len(names) == len(set(names)) == 9


@pytest.mark.parametrize(("factor", "scale"), [(2.0, "linear"), (100.0, "log")])
def test_bounds_of_several_magnitudes_are_on_a_logarithmic_axis(factor: float, scale: str) -> None:
    history = [Record("bound/network", factor**e, "1", epoch=float(e)) for e in (0, 1)]
    assert axes(figures(history), "bound_network").get_yscale() == scale


def test_bounds_that_hardly_move_are_not_magnified() -> None:
    history = [Record("bound/network", 1 + 1e-6 * e, "1", epoch=float(e)) for e in (0, 1)]
    low, high = axes(figures(history), "bound_network").get_ylim()
    assert high - low == pytest.approx(0.1, rel=1e-3)


def test_bounds_that_are_zero_are_drawn() -> None:
    history = [Record("bound/network", float(e), "1", epoch=float(e)) for e in (0, 1)]
    assert axes(figures(history), "bound_network").get_yscale() == "linear"


def test_held_out_accuracy_is_drawn_over_epochs(drawn: dict[str, Figure]) -> None:
    drawn = lines(axes(drawn, "learning_curves"))
    assert drawn["right"] == [(0, 0), (1, 0.4), (2, 0.8)]
    assert drawn["certified at 36/255"] == [(0, 0), (1, 0.3), (2, 0.6)]


def test_a_single_epoch_has_no_evolution(records: list[Record]) -> None:
    once = [record for record in records if record.epoch in (None, 0.0)]
    assert not {"bound_network", "bound_layer"} & figures(once).keys()


def test_nothing_is_drawn_of_nothing() -> None:
    assert figures([]) == {}
