"""The numbers of an evaluation that fit on a screen."""

__all__ = ["grouped", "summary"]

from collections.abc import Iterator, Sequence

from ..records import Record
from .sections import SECTIONS, Line


def summary(records: Sequence[Record]) -> Iterator[Line]:
    """Yields lines: what was measured, the number, and its interval or a remark."""
    groups = grouped(records)
    for section in SECTIONS:
        yield from section.summary(groups)


def grouped(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by name, in the order of their first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.name, []).append(record)
    return groups
