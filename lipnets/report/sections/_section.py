"""A section of a report: the figures and the words for what one probe measured."""

__all__ = ["Groups", "Line", "Section", "no_figures", "nothing"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ...records import Record

Groups = Mapping[str, Sequence[Record]]  # records by name; a name without any is not in it
Line = tuple[str, str, str]  # what was measured, the number, and its interval or a remark


def no_figures(groups: Groups) -> dict[str, Figure]:
    """No figure."""
    return {}


def nothing(groups: Groups) -> dict[str, Any]:
    """No more than the records themselves."""
    return {}


def no_lines(groups: Groups) -> Iterable[Line]:
    """Nothing for the summary."""
    return ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Its template is `sections/NAME.html`; where that comes out blank, the section is left out.  A
    template sees `first` and `all`, the first record and all records by name; `figures`, by name;
    `facts`; and what `view` adds.

    Arguments:
        name: Its name, unique, of its template and its anchor.
        title: Its heading.
        figures: Draws the figures that the records allow, by names that are unique on the page.
        view: What else its template needs.
        summary: The lines of it that fit on a screen.
    """

    name: str
    title: str
    figures: Callable[[Groups], dict[str, Figure]] = no_figures
    view: Callable[[Groups], dict[str, Any]] = nothing
    summary: Callable[[Groups], Iterable[Line]] = no_lines
