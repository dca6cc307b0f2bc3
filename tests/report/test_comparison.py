"""Tests of the page of a comparison, and of sections that have records of their own."""

import re
from xml.etree import ElementTree

import pytest

from lipnets.metrics import RADII
from lipnets.records import Record
from lipnets.report import Facts, figures, page, summary
from lipnets.report.comparison import comparison_figures, comparison_page
from lipnets.report.drawing import COLORS, svg


def evaluation(steps: list[float], right: int) -> list[Record]:
    ends = {"low": 0.1, "high": 0.9, "hits": right}
    return [
        Record("accuracy", right / 8, "fraction", 8, details=ends),
        Record("certified_curve", sum(steps) / 8, "l2 pixels", 8, details={"steps": steps}),
        Record("bound/network", 1.25, "1"),
    ]


def difference(run: str, value: float, p: float, radius: float | None = None) -> Record:
    name = "accuracy" if radius is None else "certified_accuracy"
    details = {
        "run": run,
        "baseline": "first & best",
        "data": "patterns",
        "first": 0.5,
        "second": 0.5 + value,
        "low": value - 0.03,
        "high": value + 0.02,
        "p": p,
        "only_first": 3,
        "only_second": 7,
    }
    details |= {} if radius is None else {"radius": radius}
    return Record(f"difference/{name}", value, "fraction", 8, details=details)


RUNS = {
    "first & best": evaluation([0.1, 0.2, 0.4], 5),
    "<b>": evaluation([0.3, 0.3], 6),
    "plain": evaluation([], 7)[:1],
}
COMPARED = [
    difference("<b>", 0.125, 0.2),
    difference("<b>", -0.25, 1e-7, 36 / 255),
    difference("plain", 0.0, 1.0),
]


@pytest.fixture(scope="module")
def text() -> str:
    document = comparison_page(list(RUNS), RUNS, COMPARED)
    assert "<h1>first &amp; best, &lt;b&gt;, plain</h1>" in document
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", document, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_it_says_first_who_is_better_and_whether_that_may_be_chance(text: str) -> None:
    assert (
        "&lt;b&gt; has 12.5 of 100 images more right than first &amp; best ; chance in the choice of"
        in text
    )
    assert "images may well explain it (p = 0.2000)" in text
    assert "plain has as many images right as first &amp; best" in text


def test_every_difference_has_a_row(text: str) -> None:
    assert "&lt;b&gt; right 50.0 % 62.5 % +12.5 [+9.5, +14.5] 3 : 7 0.2000" in text
    assert "certified at 36/255 50.0 % 25.0 % −25.0 [−28.0, −23.0] 3 : 7 &lt; 0.0001" in text


def test_numbers_of_all_runs_stand_side_by_side(text: str) -> None:
    assert "classified right 62.5 % 75.0 % 87.5 %" in text
    assert "Lipschitz bound 1.2500 1.2500 " in text


def test_a_page_asks_for_nothing_else() -> None:
    document = comparison_page(list(RUNS), RUNS, COMPARED)
    assert "http" not in document
    assert document == comparison_page(list(RUNS), RUNS, COMPARED)
    ids = re.findall(r' id="([^"]*)"', document)
    assert len(ids) == len(set(ids))
    assert "<!doctype html>" in document[:60]


def test_curves_are_overlaid_in_colours_of_the_page() -> None:
    drawn = comparison_figures(RUNS, COMPARED)
    (ax,) = drawn["certified_curves"].axes
    lines = {str(line.get_label()): line for line in ax.get_lines()}
    assert {"first & best", "<b>"} <= set(lines)
    assert "plain" not in lines  # of which nothing is proved
    for name, steps in (("first & best", [0.1, 0.2, 0.4]), ("<b>", [0.3, 0.3])):
        points = lines[name].get_xydata().tolist()
        for radius in (0.05, 0.15, 0.25, 0.35, 0.41):
            height = [y for x, y in points if x <= radius][-1]
            assert height == sum(step > radius for step in steps) / 8
    assert lines["first & best"].get_color() == COLORS["first"]
    assert lines["<b>"].get_color() == COLORS["second"]
    for name, figure in drawn.items():
        content = svg(figure, name)
        ElementTree.fromstring(content)
        assert set(re.findall(r"var\(--(\w+)\)", content)) <= COLORS.keys()


def test_intervals_are_drawn_where_they_are() -> None:
    (ax,) = comparison_figures(RUNS, COMPARED)["differences"].axes
    ends = sorted(tuple(path.vertices[:, 0]) for c in ax.collections for path in c.get_paths())
    expected = [(100 * (v - 0.03), 100 * (v + 0.02)) for v in (-0.25, 0.0, 0.125)]
    assert ends == [pytest.approx(pair) for pair in expected]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["right", "certified at 36/255"]


def test_more_runs_than_colours_are_told_apart_by_dashes() -> None:
    many = {f"run {i}": evaluation([0.1 + 0.01 * i], 4) for i in range(8)}
    (ax,) = comparison_figures(many, [])["certified_curves"].axes
    looks = {
        (line.get_color(), str(line.get_linestyle()))
        for line in ax.get_lines()
        if str(line.get_label()).startswith("run")
    }
    assert len(looks) == 8


def own_records() -> list[Record]:
    """A few of each of the sections that this issue adds."""
    shares = [
        Record(
            "certified_accuracy_by", 0.5, "fraction", 8, details={"certificate": kind, "radius": r}
        )
        for kind in ("joint", "pairwise")
        for r in RADII[:2]
    ]
    means = [
        Record("mean_radius_by", m, "l2 pixels", 8, details={"certificate": kind})
        for kind, m in (("pairwise", 0.375), ("joint", 0.25))
    ]
    tops = [
        Record(
            "certified_accuracy_top",
            0.75,
            "fraction",
            8,
            details={"top": 2, "keeps": k, "radius": 0.0},
        )
        for k in ("label", "set")
    ]
    linf = [Record("certified_accuracy_linf", 0.25, "fraction", 8, details={"radius": 2 / 255})]
    about = {"sigma": 0.25, "alpha": 0.001, "n": 1000, "n0": 100, "forwards": 1100, "own": 0.9}
    about |= {"abstained": 0.125, "largest": 0.625}
    smooth = [
        Record("smoothed_accuracy", 0.7, "fraction", 8, details=about),
        Record("smoothed_certified_accuracy", 0.6, "fraction", 8, details={**about, "radius": 0.0}),
        Record("smoothed_mean_radius", 0.375, "l2 pixels", 8, details={**about, "own": 0.4375}),
    ]
    where = {"against": "heavy_noise", "family": "noise", "unknown": 8, "images": "all"}
    detect = [
        Record(
            f"detection/{name}",
            value,
            "fraction",
            8,
            details={**where, "score": s, "low": 0.1, "high": 0.2},
        )
        for s, value in (("msp", 0.81), ("radius", 0.72))
        for name, value in (("auroc", value), ("fpr95", 1 - value))
    ]
    details = {**where, "score": "radius", "radius": 36 / 255}
    detect.append(Record("detection/certified_auroc", 0.617, "fraction", 8, details=details))
    bars = {"known": [1, 3, 4], "other": [6, 2, 0], "end": 1.5, "score": "radius"}
    detect.append(Record("detection/histogram", 0.1, "l2 pixels", 8, details={**where, **bars}))
    calibrate = [
        Record(
            f"calibration/{name}",
            value * t,
            "fraction",
            4,
            details={"part": p, "temperature": t, "bins": 15, "left_out": 2},
        )
        for p, t in (("all", 1.0), ("half", 1.0), ("half", 0.25))
        for name, value in (("ece", 0.2), ("adaptive_ece", 0.16), ("nll", 0.8), ("brier", 0.4))
    ]
    bins = {"confidence": [0.3, 0.9], "accuracy": [0.5, 0.8], "held": [1, 3]}
    calibrate += [
        Record(
            "calibration/curve",
            0.5,
            "fraction",
            4,
            details={"part": "half", "temperature": t, **bins},
        )
        for t in (1.0, 0.25)
    ]
    here = {"machine": "abacus", "threads": 1, "device": "cpu", "timing": True}
    costs = [
        Record("cost/parameters", 12345.0, "1", details={"form": "stored"}),
        Record("cost/parameters", 2345.0, "1", details={"form": "exported"}),
        Record("cost/operations", 1e6, "1"),
        Record(
            "cost/latency",
            0.0125,
            "seconds",
            5,
            details={"arithmetic": "float32", "low": 0.01, "high": 2.0, **here},
        ),
        Record(
            "cost/throughput",
            4321.0,
            "images per second",
            5,
            details={"arithmetic": "float32", "batch_size": 64, **here},
        ),
        Record("cost/certification", 3.0, "seconds", 1, details=here),
    ]
    return [*shares, *means, *tops, *linf, *smooth, *detect, *calibrate, *costs]


@pytest.fixture(scope="module")
def sections(facts: Facts) -> str:
    records = own_records()
    document = page(records, facts, figures(records))
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", document, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_sections_show_their_numbers(sections: str) -> None:
    for row in (
        "joint 8 0.250 50.0 % 50.0 % pairwise 8 0.375 50.0 %",
        "the class among the first 2 75.0 %",
        "the set of the first 2 75.0 %",
        "25.0 % at 2/255",
        "this network, proved 90.0 % 0.437 90.0 %",
        "smoothed, σ = 0.25 70.0 % 12.5 % 0.375 60.0 %",
        "No radius can be above 0.625 for σ = 0.25",
        "heavy noise 81.0 72.0 28.0 % 61.7",
        "0.25 4 5.00 % 4.00 % 0.2000 0.1000",
        "2 images were left out",
        "parameters in training 12 345",
        "float32 12.5 ms 10 ms to 2 s 4 321",
        "Times are of the exported network on abacus (cpu, 1 thread)",
    ):
        assert row in sections


def test_kinds_that_take_time_are_explained_where_they_were_asked_for(sections: str) -> None:
    assert "looks at what the network does around" not in sections


def test_figures_of_sections_show_what_was_recorded() -> None:
    drawn = figures(own_records())
    (ax,) = drawn["detection_histograms"].axes
    heights = [patch.get_data().values.tolist() for patch in ax.patches]
    assert [each / 4 for each in (1, 3, 4)] in heights
    assert [each / 6 for each in (6, 2, 0)] in heights
    (ax,) = drawn["reliability"].axes
    labels = [str(line.get_label()) for line in ax.get_lines()]
    assert labels[1:] == ["temperature 1", "temperature 0.25"]
    assert ax.get_lines()[1].get_xydata().tolist() == [[0.3, 0.5], [0.9, 0.8]]


def test_the_summary_has_a_line_for_each_section() -> None:
    lines = {(what, remark): number for what, number, remark in summary(own_records())}
    assert lines["mean radius when smoothed", "σ = 0.25, 1100 forwards an image"] == "0.375"
    assert lines["calibration error", "at temperature 1"] == "20.0\u202f%"
    assert lines["time for an image", "abacus"] == "12.5\u202fms"
    (remark,) = [r for what, r in lines if what == "unknown images by certified radius"]
    assert remark == "mean AUROC; least 72.0\u202f% for heavy noise"


def test_means_of_shares_are_in_percent_and_have_no_p_value() -> None:
    details = difference("<b>", -0.04, 0.5).details
    details = {
        key: details[key] for key in details if key not in ("p", "only_first", "only_second")
    }
    record = Record("difference/corrupted_accuracy", -0.04, "fraction", 8, details=details)
    document = comparison_page(list(RUNS), RUNS, [*COMPARED, record])
    said = " ".join(re.sub(r"<[^>]*>", " ", document).split()).replace("\u202f", " ")
    assert "right, main corruptions 50.0 % 46.0 % −4.0 [−7.0, −2.0]" in said
