"""Tests of the page: read as a browser reads it."""

import base64
import dataclasses
import io
from html.parser import HTMLParser

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from lipnets.records import Record
from lipnets.report import Facts, data_uri, drawing, figures, page, summary
from lipnets.report.sections import SECTIONS as ALL_SECTIONS

SECTION_NAMES = {section.name for section in ALL_SECTIONS}
VOID = {"meta", "img", "br", "path", "use"}
SECTIONS = {  # their headings, and the beginnings of the names of what they show
    "Certified accuracy": ("certified_curve",),
    "Some of the images": ("example",),
    "Corrupted images": ("corrupted_",),
    "Which spatial frequencies it uses": ("filtered_",),
    "Training": ("bound/", "test/"),
    "How tight the proof is": ("audit/",),
    "Checks that held": ("check/",),
}


class Reader(HTMLParser):
    """Collects the tags, attributes and text of a page, and sees that tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self.open):
            return
        self.words += data.split()
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def document(records: list[Record], facts: Facts, drawn: dict[str, Figure]) -> str:
    return page(records, facts, drawn)


@pytest.fixture(scope="module")
def reader(document: str) -> Reader:
    return Reader(document)


@pytest.fixture
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves figures blank: they take time, and are tested elsewhere."""
    monkeypatch.setattr(drawing, "svg", lambda figure, name: "<svg></svg>")


def test_the_verdict_comes_first(reader: Reader) -> None:
    text = reader.text
    verdict = text.index("This neural network sorts 6 × 6 images into 2 classes")
    assert verdict < text.index("What a certified radius means")
    assert "Of 8 images that it was not trained on, it classifies 87.5 % right" in text
    assert "For 62.5 % there is a proof that no change of the image shorter than 36/255, as" in text
    assert "[50.0, 96.0]" in text
    assert "Lipschitz bound 1.1251" in text  # rounded upwards


def test_a_network_of_several_classes_is_not_called_vacuous(reader: Reader) -> None:
    assert "vacuous" not in reader.text


def test_lengths_are_told_in_values_of_an_image(reader: Reader) -> None:
    # 36/255 = 0.141 of one value; divided by √36, of every one of them.
    assert "one of the 36 values of an image by 14 % of its range" in reader.text
    assert "or of all of them by 2.4 % at once" in reader.text


def test_it_says_in_which_arithmetic_radii_hold(reader: Reader) -> None:
    assert (
        "Radii hold for the program that ran, the exported network in float64: what it rounds is "
        "bounded, and subtracted from each lead."
    ) in reader.text


def test_what_rounding_costs_is_a_row_for_each_arithmetic(reader: Reader) -> None:
    assert "arithmetic median loss 0 36/255" in reader.text
    assert "float64 2.5e-11 87.5 % 73.4 %" in reader.text
    assert "bfloat16 25.0 % 62.5 % 48.4 %" in reader.text


def test_a_page_asks_for_nothing_else(reader: Reader) -> None:
    assert reader.tags.count("script") == 1
    assert not {"link", "iframe", "object", "embed", "base"} & set(reader.tags)
    for name, value in reader.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "action", "data"):
            assert value
            assert value.startswith(("data:image/png;base64,", "#"))
        if name == "style":
            assert "url(" not in (value or "").replace("url(#", "")


def test_styles_ask_for_nothing_else(document: str) -> None:
    style = document[document.index("<style>") : document.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "prefers-color-scheme: dark" in style
    assert "http" not in document


def test_ids_are_unique_and_captions_are_where_figures_look_for_them(reader: Reader) -> None:
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    labels = [value for name, value in reader.attributes if name == "aria-labelledby"]
    assert len(labels) == reader.tags.count("svg") == 12
    assert set(labels) <= set(ids)


def test_names_are_shown_as_they_are(reader: Reader) -> None:
    assert "lipmlp_<b> on patterns" in reader.text
    assert "cat & dog, <script>alert(1)</script>" in reader.text
    assert "model: {name: <i>}" in reader.text
    assert reader.tags.count("script") == 1  # that of the page


def test_every_radius_has_a_row(reader: Reader) -> None:
    for row in ("0 75.0 %", "36/255 62.5 %", "108/255 25.0 %", "1 0.0 %"):
        assert f"{row} [50.0, 96.0]" in reader.text
    assert "5 of 8" in reader.text


def test_images_are_shown_with_class_and_radius(reader: Reader) -> None:
    assert reader.tags.count("img") == 3
    assert "cat & dog safe within 0.900" in reader.text
    assert "<script>alert(1)</script> safe within 0.300" in reader.text
    assert "<script>alert(1)</script> taken for cat & dog" in reader.text


def test_the_audit_has_a_row_for_every_layer(reader: Reader) -> None:
    assert "backbone.0 Linear 0.75000 0.37500 0.500 theorem of backbone.0" in reader.text
    assert "network Linear 1.12500 0.56250 0.500 theorem of network" in reader.text


def test_captions_say_how_to_read_a_figure(reader: Reader) -> None:
    assert reader.tags.count("figcaption") == reader.tags.count("svg")
    assert "The height at ε is the share of images" in reader.text
    assert "by corruption and severity" in reader.text


def test_the_contents_lead_to_every_section(reader: Reader) -> None:
    ids = [value for name, value in reader.attributes if name == "id"]
    links = [value for name, value in reader.attributes if name == "href" and value]
    contents = [link.removeprefix("#") for link in links if link.removeprefix("#") in SECTION_NAMES]
    assert set(contents) == {name for name in ids if name in SECTION_NAMES}
    assert len(contents) == len(set(contents)) > 5


@pytest.mark.usefixtures("_without_figures")
def test_a_network_without_a_certificate_is_said_to_have_none(facts: Facts) -> None:
    ends = {"low": 0.5, "high": 0.96}
    records = [
        Record("accuracy", 7 / 8, "fraction", 8, details={"hits": 7, **ends}),
        Record("uncertified", 1.0, "1", details={"says": "No rule covers <Mystery>."}),
    ]
    text = Reader(page(records, facts, {})).text
    assert "Nothing is proved of this network: No rule covers <Mystery>." in text
    assert "What a certified radius means" not in text
    assert "there is a proof" not in text


@pytest.mark.usefixtures("_without_figures")
@pytest.mark.parametrize("heading", SECTIONS)
def test_sections_of_what_was_not_measured_are_left_out(
    records: list[Record], facts: Facts, reader: Reader, heading: str
) -> None:
    whole = reader.headings
    rest = [record for record in records if not record.name.startswith(SECTIONS[heading])]
    assert heading in whole
    assert Reader(page(rest, facts, figures(rest))).headings == [
        each for each in whole if each != heading
    ]


def test_nothing_measured_is_a_page_still(facts: Facts) -> None:
    reader = Reader(page([], facts, {}))
    assert "nothing is said here of its accuracy" in reader.text
    assert reader.headings == ["What a certified radius means", "The run"]
    assert "nav" not in reader.tags


@pytest.mark.usefixtures("_without_figures")
def test_a_single_class_is_called_vacuous(
    records: list[Record], facts: Facts, drawn: dict[str, Figure]
) -> None:
    accuracy = dataclasses.replace(records[0], details={**records[0].details, "vacuous": True})
    reader = Reader(page([accuracy, *records[1:]], facts, drawn))
    assert "every number below is vacuous" in reader.text


@pytest.mark.usefixtures("_without_figures")
def test_outputs_that_are_not_finite_have_no_class(
    records: list[Record], facts: Facts, drawn: dict[str, Figure]
) -> None:
    lost = Record(
        "example", 0.0, "l2 pixels", 1, details={"index": 0, "label": 0, "prediction": -1}
    )
    assert "no class: outputs are not finite" in Reader(page([*records, lost], facts, drawn)).text


def test_the_same_records_give_the_same_page(
    records: list[Record], facts: Facts, document: str
) -> None:
    assert page(records, facts, figures(records)) == document


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_hold_the_pixels_of_images(channels: int) -> None:
    image = torch.rand(channels, 3, 5)
    head, content = data_uri(image).split(",")
    assert head == "data:image/png;base64"
    pixels = torch.from_numpy(imread(io.BytesIO(base64.b64decode(content)), format="png"))
    shown = image if channels == 3 else image.mean(dim=0).expand(3, 3, 5)
    torch.testing.assert_close(
        pixels[..., :3].permute(2, 0, 1).double(), shown, rtol=0, atol=0.5 / 255 + 1e-6
    )


def test_the_summary_is_what_fits_on_a_screen(records: list[Record]) -> None:
    lines = {what: (number, remark) for what, number, remark in summary(records)}
    assert lines["classified right"] == ("87.5\u202f%", "[50.0, 96.0]")
    assert lines["certified at 36/255"] == ("62.5\u202f%", "[50.0, 96.0]")
    assert lines["mean certified radius"] == ("0.275", "[0.200, 0.349]")
    assert lines["Lipschitz bound"] == ("1.1251", "")
    assert lines["attained slope over bound"] == ("0.500", "")
    assert lines["right when corrupted"] == (
        "45.0\u202f%",
        "mean; least 10.0\u202f% for blur 5",
    )
    assert lines["low frequencies"] == ("ρ ≤ 1", "suffice for half the accuracy")
    assert lines["high frequencies"] == ("ρ > 1", "suffice for half the accuracy")
