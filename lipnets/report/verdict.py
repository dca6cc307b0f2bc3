"""The verdict of a report: the few numbers that come first."""

__all__ = ["RADIUS", "Tile", "at_radius", "tiles"]

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..records import Record
from . import numbers
from .sections import Groups

RADIUS = 36 / 255  # at which the field compares networks


class Tile(NamedTuple):
    """One number of the verdict.

    Arguments:
        label: What it is.
        number: The number.
        remark: Its interval or unit.
    """

    label: str
    number: str
    remark: str


def tiles(groups: Groups) -> Iterator[Tile]:
    """Yields accuracy, what is certified, attacked and corrupted, what frequencies do, and the bound."""
    for record in groups.get("accuracy", ())[:1]:
        yield Tile("Classified right", numbers.percent(record.value), _interval(record))
    name = numbers.radius_name(RADIUS)
    for source, label in (
        ("certified_accuracy", f"Certified at {name}"),
        ("attacked_accuracy", f"Not broken by attacks at {name}"),
    ):
        record = at_radius(groups, source)
        if record:
            yield Tile(label, numbers.percent(record.value), _interval(record))
    for record in groups.get("corruption_mean", ()):
        if record.details.get("family") in (None, "all"):
            yield Tile("Corrupted, mean", numbers.percent(record.value), _clean(record))
            break
    yield from _frequencies(groups)
    for record in groups.get("mean_radius", ())[:1]:
        ends = (
            f"[{numbers.radius(record.details['low'])}, {numbers.radius(record.details['high'])}]"
        )
        yield Tile("Mean certified radius", numbers.radius(record.value), ends)
    for record in groups.get("bound/network", ()):
        if record.epoch is None:
            yield Tile("Lipschitz bound", numbers.bound(record.value, 4), "logits per pixel, ℓ2")


def at_radius(groups: Groups, name: str, radius: float = RADIUS) -> Record | None:
    """The record of a share at an ℓ2 radius, if there is one."""
    for record in groups.get(name, ()):
        if record.details.get("norm", "l2") == "l2" and math.isclose(
            record.details["radius"], radius
        ):
            return record
    return None


def _frequencies(groups: Groups) -> Iterator[Tile]:
    good = [
        record.details["radius"]
        for record in groups.get("filtered_accuracy", ())
        if record.details["filter"] == "low_pass"
        and record.value >= record.details["unfiltered"] / 2
    ]
    if good:
        yield Tile("Half of it from frequencies", f"ρ ≤ {min(good)}", "cycles per image")


def _interval(record: Record) -> str:
    return numbers.interval(record.details["low"], record.details["high"])


def _clean(record: Record) -> str:
    clean = record.details.get("clean")
    return "" if clean is None else f"of the same images, clean: {numbers.percent(clean)}"
