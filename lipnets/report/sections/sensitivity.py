"""To which spatial frequencies a network is sensitive, and what is proved of that."""

__all__ = ["sensitivity"]

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from .. import frequencies
from ._section import Groups, Line, Section


def _figures(groups: Groups) -> dict[str, Figure]:
    drawn = {}
    for name, label, percent in (
        ("heatmap_error", "wrong, %", True),
        ("heatmap_delta", "mean ‖Δf‖", False),
    ):
        if name in groups:
            drawn[name] = frequencies.heat_maps(groups[name], label, percent)
    if "jacobian_power" in groups:
        bound = next((r.value for r in groups.get("bound/network", ()) if r.epoch is None), None)
        drawn["jacobian_power"] = frequencies.power_spectrum(groups["jacobian_power"], bound)
    if "layer_gain" in groups:
        envelope = next(iter(groups.get("linear_envelope", ())), None)
        drawn["layer_gain"] = frequencies.gain_curves(groups["layer_gain"], envelope)
    if any(record.details["outputs"] == "logits" for record in groups.get("path_power", ())):
        drawn["path_power"] = frequencies.path_spectra(groups["path_power"])
    return drawn


def _view(groups: Groups) -> dict[str, Any]:
    """A row for each band: what is proved of its slope, and what is attained."""
    budgets: dict[tuple[float, float], dict[str, Any]] = {}
    for quantity in ("bound", "slope", "ratio"):
        for record in groups.get(f"band_{quantity}", ()):
            band = (record.details["begin"], record.details["end"])
            budgets.setdefault(band, {"begin": band[0], "end": band[1]})[quantity] = record.value
    whole = budgets.pop((0.0, 1.0), None)
    centers = {
        r.details["of"]: r.value for r in groups.get("jacobian_centroid", ()) if "of" in r.details
    }
    return {"budgets": [*budgets.values(), *([whole] if whole else [])], "centers": centers}


def _summary(groups: Groups) -> Iterator[Line]:
    for record in groups.get("jacobian_centroid", ()):
        if record.details.get("of") == "margin":
            yield "sensitive to, in the mean", f"ρ = {record.value:.1f}", "cycles per image"


sensitivity = Section("sensitivity", "Sensitivity by frequency", _figures, _view, summary=_summary)
