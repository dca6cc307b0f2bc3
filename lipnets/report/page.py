"""The page of a report: what was measured, in the words of someone who was not there."""

__all__ = ["Facts", "figures", "page"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.figure import Figure

from ..records import Record
from . import drawing
from .sections import SECTIONS
from .summary import grouped
from .templates import environment, read
from .verdict import RADIUS, at_radius, tiles


@dataclass(frozen=True)
class Facts:
    """What a page says of a run besides its records.

    Arguments:
        model: The name of the model.
        data: The name of the data set.
        classes: The names of classes, in the order of labels.
        shape: The shape of an image, (C, H, W).
        parameters: The number of parameters of the network.
        config: The config of the run, as YAML.
        checksums: SHA-256 sums by what they are of.
        versions: Versions by package.
        pictures: Images as data URIs, by their index in the data set.
    """

    model: str
    data: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    parameters: int
    config: str
    checksums: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)

    def name(self, index: int) -> str:
        """The name of a class; of one that only the network has, its number."""
        return self.classes[index] if index < len(self.classes) else f"class {index}"


def figures(records: Sequence[Record]) -> dict[str, Figure]:
    """Draws every figure that the records allow, by name."""
    groups = grouped(records)
    drawn: dict[str, Figure] = {}
    for section in SECTIONS:
        drawn |= section.figures(groups)
    return drawn


def page(records: Sequence[Record], facts: Facts, drawn: Mapping[str, Figure]) -> str:
    """Writes the page: one HTML document that asks for nothing else.

    Arguments:
        records: What was measured; sections of what was not are left out.
        facts: What else there is to say of the run.
        drawn: The figures of these records.

    Returns:
        The document.
    """
    groups, templates = grouped(records), environment()
    context = {
        "facts": facts,
        "first": {name: group[0] for name, group in groups.items()},
        "all": groups,
        "figures": {name: Markup(drawing.svg(each, name)) for name, each in drawn.items()},
    }
    sections = []
    for section in SECTIONS:
        template = templates.get_template(f"sections/{section.name}.html")
        body = template.render(**context, **section.view(groups))
        if body.strip():
            sections.append({"name": section.name, "title": section.title, "body": Markup(body)})
    return templates.get_template("page.html").render(
        **context,
        css=Markup(read("page.css")),
        sections=sections,
        script=Markup(read("page.js")),
        tiles=list(tiles(groups)),
        verdict=at_radius(groups, "certified_accuracy"),
        verdict_radius=RADIUS,
        values=math.prod(facts.shape),
    )
