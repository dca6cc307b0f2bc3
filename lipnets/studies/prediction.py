"""Whether the stochastic theory predicts what is observed, and what its assumptions cost.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["compensation", "cross_layer", "martingale"]

import math
from collections.abc import Mapping, Sequence
from statistics import correlation, fmean, stdev, variance
from typing import Any

from matplotlib.figure import Figure

from ..records import Record
from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry, spread_of
from .finding import Finding
from .lab import Lab, series

_TERMS = ("drift", "noise_curvature", "ito", "deterministic")
_ALL = 10**9  # examples: all there are


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
    histories = lab.histories([_every_step(seed, steps) for seed in seeds])
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
def compensation(lab: Lab, *, replicas: int = 12, steps: int = 600) -> Finding:
    """Asks whether the drift answers to the noise: if so, replicas spread less than their noise.

    Arguments:
        lab: Where it trains, by plain stochastic gradient descent.
        replicas: The number of trainings that differ in the order of images alone.
        steps: The number of optimization steps.
    """
    histories = lab.histories([_every_step(1 + replica, steps) for replica in range(replicas)])
    drifts, noises, ends = [], [], []
    for history in histories:
        at, values = series(history, "ledger/log_norm", layer=None)
        terms = {
            term: [
                v
                for s, v in zip(*series(history, f"driver/{term}", layer=None), strict=True)
                if s < at[-1]
            ]
            for term in _TERMS
        }
        drifts.append(sum(terms["drift"]))
        ends.append(values[-1])
        noises.append(values[-1] - values[0] - sum(map(sum, terms.values())))
    together = correlation(noises, drifts)
    rows = [
        ("log K at the end", f"{fmean(ends):.4f}", f"{stdev(ends):.4f}"),
        ("∫ drift", f"{fmean(drifts):.4f}", f"{stdev(drifts):.4f}"),
        ("martingale", f"{fmean(noises):+.4f}", f"{stdev(noises):.4f}"),
    ]
    sentence = (
        f"Over {replicas} replicas log K ends with the deviation {stdev(ends):.4f}, its martingale has "
        f"{stdev(noises):.4f}, and the integral of the drift {stdev(drifts):.4f}, with the correlation "
        f"{together:+.2f}."
    )
    answers = together < -0.5 and stdev(ends) < 0.7 * stdev(noises)
    return Finding(
        claim="The closed form Var K, which takes the drift to be independent of the noise, "
        "overestimates: the drift answers to the noise (ours).",
        verdict="confirmed" if answers else "not confirmed",
        sentence=sentence,
        header=("", "mean", "deviation over replicas"),
        rows=rows,
        figure=_scatter(noises, drifts),
        scale=f"{steps} steps, {replicas} replicas",
    )


@registry.register
def cross_layer(
    lab: Lab,
    *,
    models: Mapping[str, Any] | None = None,
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
    models = models or {
        "perceptron, 2 hidden": {"name": "plain_mlp_s", "widths": [48, 32]},
        "perceptron, 4 hidden": {"name": "plain_mlp_s", "widths": [48, 48, 48, 32]},
        "perceptron, MaxMin": {"name": "plain_mlp_s", "widths": [48, 32], "act": "maxmin"},
        "convolutions": {"name": "plain_convnet_xs", "norm": None},
    }
    grid = [
        {
            "model": model,
            "seed": seed,
            "schedule.max_steps": steps,
            "record.drivers": {"every": every, "examples": 512},
        }
        for model in models.values()
        for seed in seeds
    ]
    histories = lab.histories(grid)
    rows, means = [], []
    for index, name in enumerate(models):
        here = histories[index * len(seeds) : (index + 1) * len(seeds)]
        ratios = []
        for history in here:
            full = series(history, "driver/variance", layer=None)[1]
            block = series(history, "driver/variance_block", layer=None)[1]
            ratios.append(sum(full) / sum(block))
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


def _every_step(seed: int, steps: int) -> dict[str, Any]:
    return {
        "data.order_seed": seed,
        "data.replacement": True,  # as theory has it: batches that know nothing of each other
        "schedule.max_steps": steps,
        "record.ledger": {"every": 1},
        "record.drivers": {"every": 1, "examples": _ALL},
    }


@styled
def _path(history: Sequence[Record]) -> Figure:
    """Log K as observed, and as the sum of its predicted steps."""
    figure, ax = axes()
    at, values = series(history, "ledger/log_norm", layer=None)
    ax.plot(at, [value - values[0] for value in values], color=COLORS["first"], label="observed")
    sums = [0.0] * len(at)
    for term in _TERMS:
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
def _scatter(noises: Sequence[float], drifts: Sequence[float]) -> Figure:
    figure, ax = axes()
    middle, mean = fmean(drifts), fmean(noises)
    x = [noise - mean for noise in noises]
    ax.plot(x, [drift - middle for drift in drifts], "o", color=COLORS["first"])
    reach = max(map(abs, x))
    ax.plot(
        [-reach, reach], [reach, -reach], color=COLORS["muted"], linewidth=0.8, label="full answer"
    )
    frame(ax, "martingale of a replica, minus the mean", "∫ drift, minus the mean")
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
