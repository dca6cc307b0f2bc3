"""What noise, blur and the like do to accuracy."""

__all__ = ["corruptions"]

from collections.abc import Iterator

from matplotlib.figure import Figure

from .. import numbers, plots
from ._section import Groups, Line, Section

_NAMES = {
    "corrupted_accuracy": "right when corrupted",
    "corrupted_certified_accuracy": "certified when corrupted",
}


def _figures(groups: Groups) -> dict[str, Figure]:
    return {name: plots.corruption_map(groups[name]) for name in _NAMES if name in groups}


def _summary(groups: Groups) -> Iterator[Line]:
    for name, what in _NAMES.items():
        cells = groups.get(name, ())
        if cells:
            worst = min(cells, key=lambda record: record.value)
            remark = (
                f"mean; least {numbers.percent(worst.value)} for {worst.details['corruption']} "
                f"{worst.details['severity']}"
            )
            mean = sum(record.value for record in cells) / len(cells)
            yield what, numbers.percent(mean), remark


corruptions = Section("corruptions", "Corrupted images", _figures, summary=_summary)
