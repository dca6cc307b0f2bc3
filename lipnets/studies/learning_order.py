"""Which frequencies of a curve a network learns first, plain or within a Lipschitz budget.

References:
    | On the spectral bias of neural networks (Rahaman et al., 2019) https://arxiv.org/abs/1806.08734
"""

__all__ = ["learning_order", "rank_correlation"]

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

import torch
from matplotlib.figure import Figure

from ..report.drawing import COLORS, frame, styled
from ._registry import registry
from .curves import Curve, curves, kinds, scale
from .finding import Finding, Verdict
from .lab import Lab
from .sines import ceiling, open_ceiling, passage

_LEARNED = 0.05  # error of a frequency
_IN_ORDER = 0.8  # rank correlation


@registry.register
def learning_order(
    lab: Lab,
    *,
    layers: Sequence[str] = ("aol_linear", "cayley_linear"),
    budgets: Sequence[float] = (200.0, 10.0),
    frequencies: Sequence[int] = (1, 2, 3, 4, 5),
    amplitudes: Sequence[float] | None = None,
    points: int = 200,
    widths: Sequence[int] = (64, 64, 64, 64),
    lr: float = 3e-3,
    steps: int = 4000,
    seeds: Sequence[int] = (0, 1, 2),
) -> Finding:
    """Learns a sum of sines, and asks when each frequency is known, and whether it can be.

    A 1-periodic function of constant L has amplitudes up to 2L/(π²k): a frequency of the target above that says
    what the network can, and nothing of the order in which it learns.  The paper has
    `"frequencies=[5,10,15,20,25,30,35,40,45,50]" "widths=[256,256,256,256,256]" lr=3e-4 steps=60000`.

    Arguments:
        lab: Where files are; its config is not needed.
        layers: The dense layers of constrained networks, by name.
        budgets: Their Lipschitz budgets L.
        frequencies: The frequencies of the target.
        amplitudes: Their amplitudes, 1 each by default.
        points: The number of samples of the curve, all of which each step sees.
        widths: The number of outputs of each hidden layer.
        lr: The learning rate of Adam.
        steps: The number of optimization steps.
        seeds: The seeds of initial weights and of phases.
    """
    networks = kinds(layers, budgets)
    given = list(amplitudes or [1.0] * len(frequencies))
    learned = curves(
        lab,
        networks,
        frequencies=frequencies,
        amplitudes=amplitudes,
        seeds=seeds,
        points=points,
        widths=list(widths),
        lr=lr,
        steps=steps,
    )
    rows, orders, above = [], {}, []
    for name, here in learned.items():
        budget = networks[name][1]
        passages = {
            k: [passage(each.steps, each.errors(k), _LEARNED) for each in here] for k in frequencies
        }
        shares = [
            math.nan if budget is None else amplitude / ceiling(budget, k)
            for k, amplitude in zip(frequencies, given, strict=True)
        ]
        if not any(share > 1 for share in shares):
            orders[name] = [
                rank_correlation(frequencies, [passages[k][run] for k in frequencies])
                for run in range(len(seeds))
            ]
        for k, amplitude, share in zip(frequencies, given, shares, strict=True):
            if share > 1:
                above += passages[k]
            rows.append(_row(name, here, k, amplitude, share, passages[k]))
    return Finding(
        claim="Networks learn low frequencies first (arXiv 1806.08734), Lipschitz-constrained ones as well "
        "where the target is below the ceiling 2L/(π²k) of all its frequencies; and a frequency above its "
        "ceiling is not learned (ours).",
        verdict=_verdict(orders, above),
        sentence=_sentence(orders, above),
        header=(
            *("network", "k", "target / ceiling", "learned after", "amplitude at the end"),
            "of what is proved possible",
        ),
        rows=rows,
        figure=_draw_errors({name: here[0] for name, here in learned.items()}, frequencies),
        scale=scale(frequencies, points, widths, steps, lr, seeds),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation of ranks, ties at their mean rank; nan if one is constant.

    Example:
        >>> round(rank_correlation([1, 2, 3], [10, 20, float("inf")]), 12)
        1.0
    """
    ranks = [torch.tensor(_ranks(values), dtype=torch.float64) for values in (first, second)]
    a, b = (each - each.mean() for each in ranks)
    return ((a @ b) / (a.norm() * b.norm())).item()


def _ranks(values: Sequence[float]) -> list[float]:
    """How many are less, and half of how many are the same."""
    return [
        sum(v < value for v in values) + sum(v == value for v in values) / 2 for value in values
    ]


def _row(
    name: str,
    here: Sequence[Curve],
    k: int,
    amplitude: float,
    share: float,
    passages: Sequence[float],
) -> tuple[str, ...]:
    ends = [each.outputs[-1, k].abs().item() for each in here]
    possible = [
        end / open_ceiling(each.constants[-1], k, each.points)
        for end, each in zip(ends, here, strict=True)
    ]
    done = [each for each in passages if math.isfinite(each)]
    when = f"{median(done):.0f}" if done else "never"
    if 0 < len(done) < len(passages):
        when += f" ({len(done)} of {len(passages)})"
    return (
        *(name, str(k), "" if math.isnan(share) else f"{share:.2f}", when),
        *(f"{fmean(ends) / amplitude:.2f}", f"{fmean(possible):.1%}"),
    )


def _verdict(orders: Mapping[str, Sequence[float]], above: Sequence[float]) -> Verdict:
    good = [all(each >= _IN_ORDER for each in here) for here in orders.values()]
    if any(math.isfinite(each) for each in above) or not any(good):
        return "not confirmed"
    return "confirmed" if all(good) else "undecided"


def _sentence(orders: Mapping[str, Sequence[float]], above: Sequence[float]) -> str:
    told = [f"{name}: {', '.join(f'{each:.2f}' for each in here)}" for name, here in orders.items()]
    count = sum(math.isfinite(each) for each in above)
    return (
        "Rank correlations of k with the step at which its error falls to "
        f"{_LEARNED:g}, for each seed, where all of the target is below its ceiling: {'; '.join(told)}. "
        f"Of {len(above)} cases of a frequency above its ceiling, {count} were learned. At no step was an "
        "amplitude above the ceiling of the constant proved there."
    )


@styled
def _draw_errors(learned: Mapping[str, Curve], frequencies: Sequence[int]) -> Figure:
    """A panel for each network: the error of each frequency over time, dark for high ones."""
    columns = min(2, len(learned))
    lines = math.ceil(len(learned) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.0 * lines))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for ax, (name, curve) in zip(panels, learned.items(), strict=False):
        for rank, k in enumerate(frequencies):
            shade = 0.25 + 0.75 * (rank + 1) / len(frequencies)
            errors = [max(each, 1e-3) for each in curve.errors(k)[1:]]
            ax.plot(
                curve.steps[1:], errors, color=COLORS["first"], alpha=shade, lw=1.2, label=str(k)
            )
        ax.axhline(_LEARNED, color=COLORS["muted"], lw=0.8, ls=":")
        frame(ax, "optimization step", "error |P − T| / |T|")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(1e-2, 3)
        ax.set_title(name)
        ax.label_outer()
    for ax in panels[len(learned) :]:
        ax.set_axis_off()
    for ax in panels[max(0, len(learned) - columns) : len(learned)]:  # with nothing below
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("optimization step")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="k", loc="outside right center")
    return figure
