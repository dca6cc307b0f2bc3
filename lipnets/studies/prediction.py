"""Whether the stochastic theory predicts what is observed, and what its assumptions cost.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["cross_layer", "martingale"]

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from statistics import fmean, variance

from matplotlib.figure import Figure

from ..records import Record
from ..report.drawing import COLORS, axes, frame, styled
from . import architectures
from ._registry import registry, spread_of
from .architectures import Models
from .finding import Finding
from .lab import Lab, crossed, series
from .theory import TERMS, every_step, orders


@registry.register
def martingale(lab: Lab, *, seeds: Sequence[int] = tuple(range(8)), steps: int = 600) -> Finding:
    """Compares every step of training with its predicted mean and variance.

    If the prediction holds, zₜ = (Δ log K − predicted) / standard deviation has mean 0 and variance 1,
    and its sum over steps is a martingale.

    Arguments:
        lab: Where it trains, by plain stochastic gradient descent.
        seeds: The seeds of the order of images.
        steps: The number of optimization steps.
    """
    histories = crossed(lab, {"all": every_step(steps)}, orders(seeds))["all"]
    scores = [series(each, "driver/z", layer=None)[1] for each in histories]
    means = [fmean(each) * math.sqrt(len(each)) for each in scores]  # standard normal if it holds
    variances = [variance(each) for each in scores]
    pooled = [z for each in scores for z in each]
    mean, error = fmean(pooled), 1 / math.sqrt(len(pooled))
    spread, doubt = variance(pooled), math.sqrt(2 / len(pooled))
    rows = [
        (str(seed), f"{fmean(z):+.3f}", f"{v:.3f}", f"{sum(abs(s) > 3 for s in z) / len(z):.2%}")
        for seed, z, v in zip(seeds, scores, variances, strict=True)
    ]
    holds = abs(mean) <= 3 * error and abs(spread - 1) <= max(3 * doubt, 0.1)
    sentence = (
        f"Over {len(pooled)} steps z has the mean {mean:+.4f} ± {error:.4f} and the variance {spread:.3f} ± "
        f"{doubt:.3f}; of the means of single trainings the largest is {max(map(abs, means)):.1f} standard "
        "errors from zero."
    )
    return Finding(
        claim="The stochastic differential equation of log K, with the second-order term of the steps "
        "themselves, predicts the mean and the variance of each step (arXiv 2506.18588; the term is ours).",
        verdict="confirmed" if holds else "not confirmed",
        sentence=sentence,
        header=("seed", "mean of z", "variance of z", "beyond 3"),
        rows=rows,
        figure=_path(histories[0]),
        scale=f"{steps} steps, {len(seeds)} seeds",
    )


@registry.register
def cross_layer(
    lab: Lab,
    *,
    models: Models | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 400,
    every: int = 20,
) -> Finding:
    """Tests the assumption that gradient noise of different layers is uncorrelated, per architecture.

    Arguments:
        lab: Where it trains.
        models: The models by what they are called; several small ones by default.
        seeds: The seeds of initial weights and of the order of images.
        steps: The number of optimization steps.
        every: The number of steps between two measurements.
    """
    models = models or {**architectures.FREE, **architectures.NORMALIZED}
    common = {
        "schedule.max_steps": steps,
        "record.drivers": {"every": every, "examples": 512},
    }
    conditions = {name: {"model": model, **common} for name, model in models.items()}
    histories = crossed(lab, conditions, [{"seed": seed} for seed in seeds])
    rows, means = [], []
    for name, here in histories.items():
        ratios = []
        for history in here:
            full = series(history, "driver/variance", layer=None)[1]
            block = series(history, "driver/variance_block", layer=None)[1]
            there = [math.isfinite(each) for each in block]  # not where a gain is 0: log K is −∞
            ratios.append(sum(compress(full, there)) / sum(compress(block, there)))
        means.append(fmean(ratios))
        rows.append((name, spread_of(ratios)))
    sentence = (
        f"The variance with correlations between layers is {min(means):.2f} to {max(means):.2f} times that "
        "without."
    )
    return Finding(
        claim="Gradient noise of different layers may be taken as uncorrelated (assumption 3 of "
        "arXiv 2506.18588): the ratio of variances is 1.",
        verdict="confirmed" if all(0.9 < mean < 1.1 for mean in means) else "not confirmed",
        sentence=sentence,
        header=("architecture", "λ² full / λ² block"),
        rows=rows,
        figure=_bars(dict(zip(models, means, strict=True))),
        scale=f"{steps} steps, measured every {every}, {len(seeds)} seeds",
    )


@styled
def _path(history: Sequence[Record]) -> Figure:
    """Log K as observed, and as the sum of its predicted steps."""
    figure, ax = axes()
    at, values = series(history, "ledger/log_norm", layer=None)
    ax.plot(at, [value - values[0] for value in values], color=COLORS["first"], label="observed")
    sums = [0.0] * len(at)
    for term in TERMS:
        total, terms = 0.0, [0.0]
        for value in series(history, f"driver/{term}", layer=None)[1][: len(at) - 1]:
            total += value
            terms.append(total)
        sums = [a + b for a, b in zip(sums, terms, strict=True)]
    ax.plot(at, sums, "--", color=COLORS["second"], label="sum of predicted means")
    frame(ax, "optimization step", "log K − log K₀")
    ax.legend(loc="best")
    return figure


@styled
def _bars(ratios: Mapping[str, float]) -> Figure:
    figure, ax = axes(height=0.8 + 0.3 * len(ratios))
    ax.barh(list(ratios), list(ratios.values()), color=COLORS["first"], height=0.6)
    ax.axvline(1, color=COLORS["ink"], linewidth=0.8)
    ax.invert_yaxis()
    frame(ax, "λ² full / λ² block", "")
    ax.grid(visible=False, axis="y")
    return figure
