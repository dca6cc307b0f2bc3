"""Whether frequencies explain what corruptions do."""

__all__ = ["response"]

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from .. import frequencies
from ._section import Groups, Line, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    cells = groups.get("response")
    if not cells:
        return {}
    return {
        "response_change": frequencies.responses(cells, "change"),
        "response_drop": frequencies.responses(cells, "drop"),
    }


def _view(groups: Groups) -> dict[str, Any]:
    return {"ranks": {r.details["of"]: r.value for r in groups.get("response_correlation", ())}}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("response_correlation", ()):
        if record.details["of"] == "drop":
            count = record.details["corruptions"]
            yield (
                "drop predicted by spectra",
                f"{record.value:+.2f}",
                f"rank correlation, {count} cases",
            )


response = Section(
    "response", "Do frequencies explain corruptions?", _figures, _view, summary=_summary
)
