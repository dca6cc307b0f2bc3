"""How the spread of the Lipschitz constant over the order of batches depends on their size.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["batch_size"]

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import Any

from matplotlib.figure import Figure

from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry
from .finding import Finding
from .lab import Lab, crossed, last, series
from .theory import orders


@registry.register
def batch_size(
    lab: Lab,
    *,
    sizes: Sequence[int] = (4, 16, 64, 256),
    replicas: int = 16,
    steps: int = 1000,
    every: int = 20,
    replacement: bool = True,
) -> Finding:
    """Trains replicas that differ in the order of images alone, with batches of several sizes.

    The measured variance of log K over replicas is set beside the integral of λ² along the path, which
    is what it would be if the drift did not answer to the noise.

    Arguments:
        lab: Where it trains.
        sizes: The numbers of images of a batch.
        replicas: The number of trainings with each.
        steps: The number of optimization steps.
        every: The number of steps between two measurements of λ².
        replacement: Whether each image is drawn from all of them, as theory has it; without, an epoch
            is each image once, and what a batch has the others lack.
    """
    common = {
        "data.replacement": replacement,
        "schedule.max_steps": steps,
        "record.drivers": None,
        "record.ledger": {"every": steps, "stride": steps},
    }
    repeats: list[dict[str, Any]] = orders(range(1, 1 + replicas))
    repeats[0] |= {"record.drivers": {"every": every}}  # λ² is measured along one path
    histories = crossed(lab, {size: {**common, "data.batch_size": size} for size in sizes}, repeats)
    rows, measured, free = [], [], []
    for size, here in histories.items():
        ends = [last(each, "ledger/log_norm", layer=None) for each in here]
        measured.append(variance(ends))
        free.append(every * sum(series(here[0], "driver/variance", layer=None)[1]))
        rows.append(
            (
                *(str(size), f"{fmean(ends):.3f}", f"{measured[-1]:.2e}", f"{free[-1]:.2e}"),
                f"{free[-1] / measured[-1]:.1f}",
            )
        )
    slope, error = _slope([math.log(s) for s in sizes], [math.log(v) for v in measured], replicas)
    lawful = abs(slope + 1) <= 2 * error
    ratio = fmean(f / m for f, m in zip(free, measured, strict=True))
    sentence = (
        f"Var log K falls as B to the power {slope:.2f} ± {error:.2f}; the integral of λ² along the path "
        f"is {ratio:.1f} times as large on average, as the drift answers to the noise."
    )
    return Finding(
        claim="The variance of log K over the order of batches is inversely proportional to their "
        "size B (arXiv 2506.18588).",
        verdict="confirmed" if lawful else "not confirmed",
        sentence=sentence,
        header=("B", "mean log K", "Var log K", "∫ λ²", "ratio"),
        rows=rows,
        figure=_draw(sizes, measured, free),
        scale=f"{steps} steps, {replicas} replicas for each size, images drawn "
        f"{'with' if replacement else 'without'} replacement",
    )


def _slope(x: Sequence[float], y: Sequence[float], replicas: int) -> tuple[float, float]:
    """The slope of a line through logarithms of variances of `replicas` numbers, and its error.

    Of n normal numbers, the logarithm of the variance has the variance 2 / (n − 1), nearly.
    """
    mean = fmean(x)
    total = sum((each - mean) ** 2 for each in x)
    slope = sum((a - mean) * b for a, b in zip(x, y, strict=True)) / total
    return slope, math.sqrt(2 / (replicas - 1) / total)


@styled
def _draw(sizes: Sequence[int], measured: Sequence[float], free: Sequence[float]) -> Figure:
    figure, ax = axes()
    ax.loglog(sizes, measured, "o-", color=COLORS["first"], label="measured over replicas")
    ax.loglog(sizes, free, "o--", color=COLORS["second"], label="∫ λ² along one path")
    law = [measured[0] * sizes[0] / size for size in sizes]
    ax.loglog(sizes, law, color=COLORS["muted"], linewidth=0.8, label="∝ 1/B")
    frame(ax, "images of a batch, B", "Var log K")
    ax.set_xticks(list(sizes), [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend(loc="best")
    return figure
