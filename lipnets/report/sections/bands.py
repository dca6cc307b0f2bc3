"""What is proved against perturbations of some frequencies only."""

__all__ = ["bands"]

from matplotlib.figure import Figure

from .. import plots
from ._section import Groups, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    cells = groups.get("band_certified_accuracy")
    return {"band_certified_accuracy": plots.band_map(cells)} if cells else {}


bands = Section("bands", "Perturbations of some frequencies only", _figures)
