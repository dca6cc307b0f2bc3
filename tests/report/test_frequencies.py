"""Tests of the figures and sections of frequencies: what is drawn and said is what was recorded."""

import math
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from lipnets.records import Record
from lipnets.report import Facts, figures, page, summary
from lipnets.report.frequencies import gain_curves, heat_maps, power_spectrum
from lipnets.report.summary import grouped


def record(name: str, value: float, unit: str = "1", **details: Any) -> Record:
    return Record(name, value, unit, 8 if unit != "1" else None, details=details)


def heat(name: str, table: list[list[float]], norm: float, limit: float | None) -> Record:
    return record(
        name,
        0.25,
        "fraction",
        map=table,
        rows=[-1, 0, 1],
        columns=[-2, -1, 0, 1],
        norm=norm,
        limit=limit,
        unperturbed=0.125,
    )


@pytest.fixture(scope="module")
def measured() -> list[Record]:
    table = [[0.0, 0.1, 0.2, 0.1], [0.3, 0.4, 1.0, 0.4], [0.0, 0.1, 0.2, 0.1]]
    found = [heat("heatmap_error", table, norm, norm / 4) for norm in (1.0, 2.0)]
    found.append(heat("heatmap_delta", table, 1.0, 3.0))
    for of, scale in (("logits", 4.0), ("margin", 1.0)):
        power = [scale, scale / 4, 0.0]
        found.append(
            record(
                "jacobian_power",
                6 * scale,
                of=of,
                power=power,
                counts=[1, 8, 0],
                limit=48.0,
                examples=8,
            )
        )
        found.append(record("jacobian_centroid", 1.5 * scale, "cycles per image", of=of))
    for band, value in enumerate((0.5, -0.25)):
        found.append(
            record(
                "shapley", value, "nats", band=band, begin=band / 4, end=1.0, baseline="zero",
                low=value - 0.1, high=value + 0.1,
            )
        )  # fmt: skip
    found.append(record("shapley_score", -0.125))
    for name, shares in (("low_pass", (0.25, 0.5)), ("high_pass_and_mean", (0.3, 0.7))):
        for energy, share in zip((0.25, 0.75), shares, strict=True):
            details = {"filter": name, "energy": energy}
            found.append(record("equal_energy_accuracy", share, "fraction", **details))
    details = {"filter": "low_pass", "radius": 0, "unfiltered": 0.75, "chance": 0.25}
    found.append(record("filtered_accuracy", 0.25, "fraction", **details))
    for layer, largest in (("backbone.0", [1.0, 0.5]), ("backbone.2", [2.0, 0.25])):
        found.append(
            record(
                "layer_gain", largest[0], layer=layer, frequencies=[0.0, 0.5], largest=largest,
                mean=[0.5, 0.25], least=[0.0, 0.0], kind="estimate",
            )
        )  # fmt: skip
    envelope = {"frequencies": [0.0, 0.5], "largest": [2.0, 0.125]}
    found.append(record("linear_envelope", 2.0, **envelope))
    for kind in ("within", "between"):
        for outputs in ("logits", "probabilities"):
            found.append(
                record(
                    "path_power", 1.0, lines=kind, outputs=outputs, frequencies=[0.5, 1.0],
                    power=[1.0, 0.25], pairs=4,
                )
            )  # fmt: skip
    for (low, high), bound in (((0.0, 0.25), 1.5), ((0.25, 1.0), 0.5), ((0.0, 1.0), 2.0)):
        for name, value in (("bound", bound), ("slope", bound / 2), ("ratio", 0.5)):
            found.append(record(f"band_{name}", value, begin=low, end=high))
    for severity in (1, 2, 3):
        found.append(
            record(
                "response", 4.0 * severity, corruption="heavy_fog", severity=severity,
                predicted=1.0 * severity, drop=0.1 * severity, examples=8,
            )
        )  # fmt: skip
    for of, value in (("change", 1.0), ("drop", 0.875)):
        found.append(record("response_correlation", value, of=of, corruptions=3))
    return found


@pytest.fixture(scope="module")
def drawn(measured: list[Record]) -> dict[str, Figure]:
    return figures(measured)


@pytest.fixture(scope="module")
def text(measured: list[Record], drawn: dict[str, Figure], facts: Facts) -> str:
    return page(measured, facts, drawn)


def lines(ax: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): line.get_xydata().tolist() for line in ax.get_lines()}


def test_maps_are_tinted_by_their_numbers_on_one_scale(measured: list[Record]) -> None:
    records = grouped(measured)["heatmap_error"]
    *panels, scale = heat_maps(records, "wrong, %", True).axes
    assert scale.get_ylim() == (0, 1)
    assert [ax.get_title() for ax in panels] == ["v = 1", "v = 2"]
    table = records[0].details["map"]
    for ax in panels:
        shapes = [patch for patch in ax.patches if isinstance(patch, PathPatch)]
        for i, row in enumerate((-1, 0, 1)):
            for j, column in enumerate((-2, -1, 0, 1)):
                inside = [s for s in shapes if s.get_path().contains_point((column, row))]
                alphas = [float(shape.get_alpha() or 0) for shape in inside]
                assert sum(alphas) == pytest.approx(table[i][j], abs=0.5 / 24)


def test_gains_are_roots_of_powers_of_rings_that_exist(
    measured: list[Record], drawn: dict[str, Figure]
) -> None:
    (ax,) = drawn["jacobian_power"].axes
    assert lines(ax)["all logits"] == [[0, 2], [1, 1]]
    assert lines(ax)["lead of the winner"] == [[0, 1], [1, 0.5]]
    assert "bound L" not in [text.get_text() for text in ax.texts]
    (ax,) = power_spectrum(grouped(measured)["jacobian_power"], 2.5).axes
    assert "bound L" in [text.get_text() for text in ax.texts]


def test_bars_are_contributions(drawn: dict[str, Figure]) -> None:
    (ax,) = drawn["shapley"].axes
    bars = [patch for patch in ax.patches if hasattr(patch, "get_height")]
    assert [bar.get_height() for bar in bars] == [0.5, -0.25]  # pyright: ignore
    low, high = ax.get_ylim()
    assert low < -0.35
    assert high > 0.6


def test_filters_are_drawn_over_energies(drawn: dict[str, Figure]) -> None:
    found = lines(drawn["equal_energy"].axes[0])
    assert found["its lowest frequencies"] == [[25, 0.25], [75, 0.5]]
    assert found["its highest, and the mean"] == [[25, 0.3], [75, 0.7]]


def test_every_convolution_has_a_panel_and_the_product_one(
    measured: list[Record], drawn: dict[str, Figure]
) -> None:
    panels = [ax for ax in drawn["layer_gain"].axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == ["backbone.0", "backbone.2", "product"]
    many = [
        record(
            "layer_gain", 1.0, **(grouped(measured)["layer_gain"][0].details | {"layer": str(i)})
        )
        for i in range(20)
    ]
    titles = [ax.get_title(loc="left") for ax in gain_curves(many, None).axes]
    assert [title for title in titles if title] == ["0", "3", "6", "10", "13", "16", "19"]


def test_dots_are_roots_of_means_of_squares(drawn: dict[str, Figure]) -> None:
    dots = next(iter(drawn["response_change"].axes[0].get_lines())).get_xydata().tolist()
    assert dots == [
        [pytest.approx(math.sqrt(s)), pytest.approx(2 * math.sqrt(s))] for s in (1, 2, 3)
    ]
    dots = next(iter(drawn["response_drop"].axes[0].get_lines())).get_xydata().tolist()
    assert [y for _, y in dots] == pytest.approx([10, 20, 30])


def test_the_page_says_what_was_recorded(text: str) -> None:
    said = " ".join(text.split())
    for words in (
        "Which spatial frequencies it uses",
        "Sensitivity by frequency",
        "Do frequencies explain corruptions?",
        "Without any wave 12.5 % of these 8 images are wrong",
        "25.0 % at v = 1, 50.0 % at v = 2.",
        "have 50 % of the squared gain",
        "Mean frequency: 6.0 cycles per image, of the lead of the winner 1.5.",
        "Score: -0.12;",
        "0.25 and above",
        "Rank correlation: +0.88",
    ):
        assert words in said, words


def test_a_network_without_a_proof_is_told_no_limits(facts: Facts) -> None:
    table = [[0.1, 0.1, 0.1, 0.1]] * 3
    bare = [heat(name, table, 1.0, None) for name in ("heatmap_error", "heatmap_delta")]
    text = page(bare, facts, figures(bare))
    assert "Wrong, %, with a wave" in text
    assert "Proved to be at most" not in text
    assert "The Lipschitz bound allows" not in text


def test_lines_of_the_summary(measured: list[Record]) -> None:
    found = {what: (number, remark) for what, number, remark in summary(measured)}
    assert found["sensitive to, in the mean"] == ("ρ = 1.5", "cycles per image")
    assert found["drop predicted by spectra"] == ("+0.88", "rank correlation, 3 cases")


def test_colours_of_maps_turn_with_the_page(text: str) -> None:
    assert "#1f5fae" not in text.split("</style>", 1)[1]
    assert "data:image/png" not in text.split('id="sensitivity"', 1)[1].split("</section>", 1)[0]
