"""Which frequencies of a curve a network learns first, plain or within a Lipschitz budget.

References:
    | On the spectral bias of neural networks (Rahaman et al., 2019) https://arxiv.org/abs/1806.08734
    | A computable definition of the spectral bias (Kiessling & Thor, 2022): the error split
"""

__all__ = ["error_split", "learning_order", "rank_correlation"]

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

import torch
from matplotlib.figure import Figure

from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry, spread_of
from .curves import Curve, curves
from .finding import Finding, Verdict
from .lab import Lab
from .sines import ceiling, energies, open_ceiling, passage, split

_LEARNED = 0.05  # error of a frequency
_IN_ORDER = 0.8  # rank correlation
_FITTED = 0.01  # of the energy of the target, left in the error

Networks = Mapping[str, tuple[str, float | None]]


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
    networks = _networks(layers, budgets)
    given = list(amplitudes or [1.0] * len(frequencies))
    learned = curves(
        *(lab, networks),
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
        scale=f"{len(frequencies)} frequencies up to {max(frequencies)}, {points} points, widths "
        f"{'-'.join(map(str, widths))}, {steps} steps of Adam at {lr:g}, {len(seeds)} seeds",
    )


@registry.register
def error_split(
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
    """Splits the error of the same trainings at the frequency that halves the energy of the target.

    Arguments are those of `learning_order`: with the same `--out`, nothing is trained twice.
    """
    networks = _networks(layers, budgets)
    learned = curves(
        *(lab, networks),
        frequencies=frequencies,
        amplitudes=amplitudes,
        seeds=seeds,
        points=points,
        widths=list(widths),
        lr=lr,
        steps=steps,
    )
    rows, means, base, lines = [], {}, {}, {}
    for name, here in learned.items():
        splits = [split(each.residuals, each.target, points) for each in here]
        left = [_left(each) for each in here]
        open_ = [
            [value for value, rest in zip(sb.tolist(), parts, strict=True) if rest > _FITTED]
            for (*_, sb), parts in zip(splits, left, strict=True)
        ]
        means[name] = [fmean(values) for values in open_]
        base[name] = [even for _, even, _ in splits]
        more = [
            sum(value > even for value in values) / len(values)
            for even, values in zip(base[name], open_, strict=True)
        ]
        rows.append(
            (
                name,
                str(splits[0][0]),
                f"{fmean(base[name]):+.2f}",
                spread_of([sb[0].item() for *_, sb in splits]),
                spread_of(means[name]),
                f"{fmean(more):.0%}",
                f"{fmean(parts[-1] for parts in left):.1%}",
            )
        )
        masked = [
            [value if rest > _FITTED else math.nan for value, rest in zip(sb, parts, strict=True)]
            for (*_, sb), parts in zip(splits, left, strict=True)
        ]
        lines[name] = (here[0].steps, torch.tensor(masked).nanmean(dim=0).tolist())
    high = [
        name
        for name, values in means.items()
        if all(value > even for value, even in zip(values, base[name], strict=True))
    ]
    sentence = (
        f"Until {_FITTED:.0%} of the energy of the target is left, SB is on average above that of the target in every seed of "
        f"{', '.join(high) or 'no network'}"
        + (
            "."
            if len(high) == len(means)
            else f"; not of {', '.join(name for name in means if name not in high)}."
        )
    )
    return Finding(
        claim="While a network learns, more of its error is at high frequencies than at low ones, and more "
        "than of the target: SB > 0 (Kiessling & Thor, 2022).",
        verdict="confirmed"
        if len(high) == len(means)
        else "undecided"
        if high
        else "not confirmed",
        sentence=sentence,
        header=(
            *("network", "ω₀", "SB of the target", "at the start", "mean until fitted"),
            *("looks above the target", "energy left"),
        ),
        rows=rows,
        figure=_draw_split(lines),
        scale=f"{len(frequencies)} frequencies up to {max(frequencies)}, {points} points, widths "
        f"{'-'.join(map(str, widths))}, {steps} steps of Adam at {lr:g}, {len(seeds)} seeds",
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


def _networks(layers: Sequence[str], budgets: Sequence[float]) -> Networks:
    constrained = {
        f"{each}, L = {budget:g}": (each, budget) for budget in budgets for each in layers
    }
    return {"plain": ("linear", None), **constrained}


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


def _left(curve: Curve) -> list[float]:
    """The energy of the error over time, as a share of that of the target."""
    error = energies(curve.residuals, curve.points).sum(dim=1)
    return (error / energies(curve.target, curve.points).sum()).tolist()


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


@styled
def _draw_split(lines: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Figure:
    """SB over time, the mean of seeds whose target is not fitted yet."""
    figure, ax = axes(width=6.0)
    budgets = list(dict.fromkeys(_budget(name) for name in lines if "L =" in name))
    kinds = list(dict.fromkeys(name.split(",")[0] for name in lines if "L =" in name))
    for name, (steps, values) in lines.items():
        plain = _budget(name) not in budgets
        color = COLORS["second"] if plain else COLORS["first"]
        shade = 1.0 if plain else 1 - 0.6 * budgets.index(_budget(name)) / len(budgets)
        dashes = "-" if plain else ("-", "--", ":", "-.")[kinds.index(name.split(",")[0]) % 4]
        ax.plot(steps[1:], values[1:], dashes, color=color, alpha=shade, lw=1.2, label=name)
    ax.axhline(0, color=COLORS["muted"], lw=0.8, ls=":")
    frame(ax, "optimization step", "SB: high − low, of all error")
    ax.set_xscale("log")
    ax.set_ylim(-1, 1)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _budget(name: str) -> str:
    return name.rpartition(", ")[2]
