"""Which spatial frequencies of a convolution grow first: the bridge of both perspectives."""

__all__ = ["frequencies"]

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from ..records import Record
from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry, spread_of
from .finding import Finding
from .lab import Lab, series


@registry.register
def frequencies(
    lab: Lab,
    *,
    model: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1000,
    bands: int = 4,
) -> Finding:
    """Follows the norm of each convolution in bands of frequencies, by a ledger for each.

    Arguments:
        lab: Where it trains.
        model: The model; a small plain convolutional network by default.
        seeds: The seeds of initial weights and of the order of images.
        steps: The number of optimization steps.
        bands: The number of bands between 0 and the highest frequency.
    """
    model = model or {"name": "plain_convnet_xs", "norm": None}
    changes = {
        "model": model,
        "schedule.max_steps": steps,
        "record.ledger": {"every": max(1, steps // 100), "bands": bands},
    }
    histories = lab.histories([{**changes, "seed": seed} for seed in seeds])
    growths = [_growth(each) for each in histories]
    lows = sorted({low for _, low in growths[0]})
    layers = list(dict.fromkeys(layer for layer, _ in growths[0]))
    rows = [
        (layer, *(spread_of([each[layer, low] for each in growths]) for low in lows))
        for layer in layers
    ]
    means = [fmean(each[layer, low] for each in growths for layer in layers) for low in lows]
    falling = means[0] == max(means)
    sentence = (
        f"Averaged over layers and seeds, the norm in the lowest band grows by {means[0]:+.3f} in "
        f"logarithm, in the highest by {means[-1]:+.3f}; most in the band from "
        f"{lows[max(range(len(means)), key=means.__getitem__)]:.2f} cycles per pixel."
    )
    return Finding(
        claim="Training makes the gain of convolutions grow at low frequencies first (ours, after the "
        "external perspective of arXiv 2602.04078).",
        verdict="confirmed" if falling else "not confirmed",
        sentence=sentence,
        header=("layer", *(f"from {low:.2f}" for low in lows)),
        rows=rows,
        figure=_draw(histories[0], layers[0]),
        scale=f"{steps} steps, {len(seeds)} seeds, {bands} bands",
    )


def _growth(history: Sequence[Record]) -> dict[tuple[str, float], float]:
    """How much the logarithm of the norm has grown, by layer and the low end of the band."""
    chosen = [record for record in history if record.name == "ledger/band_log_norm"]
    grown: dict[tuple[str, float], list[float]] = {}
    for record in chosen:
        key = (str(record.details["layer"]), float(record.details["low"]))
        grown.setdefault(key, []).append(record.value)
    return {
        key: values[-1] - values[0] for key, values in grown.items() if math.isfinite(values[0])
    }


@styled
def _draw(history: Sequence[Record], layer: str) -> Figure:
    figure, ax = axes()
    lows = sorted(
        {
            float(record.details["low"])
            for record in history
            if record.name == "ledger/band_log_norm" and record.details["layer"] == layer
        }
    )
    for rank, low in enumerate(lows):
        at, values = series(history, "ledger/band_log_norm", layer=layer, low=low)
        shade = 0.3 + 0.7 * (rank + 1) / len(lows)
        ax.plot(at, values, color=COLORS["first"], alpha=shade, label=f"from {low:.2f}")
    frame(ax, "optimization step", f"log norm of {layer}")
    ax.legend(title="cycles per pixel", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
