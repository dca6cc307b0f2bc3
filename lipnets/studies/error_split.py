"""Whether the error of a network is at high frequencies while it learns, or at low ones.

References:
    | A computable definition of the spectral bias (Kiessling & Thor, 2022)
"""

__all__ = ["error_split"]

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

import torch
from matplotlib.figure import Figure

from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry, spread_of
from .curves import Curve, curves, kinds, scale
from .finding import Finding, Verdict
from .lab import Lab
from .sines import energies, split

_FITTED = 0.01  # of the energy of the target, left in the error


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
    learned = curves(
        lab,
        kinds(layers, budgets),
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
    return Finding(
        claim="While a network learns, more of its error is at high frequencies than at low ones, and more "
        "than of the target: SB > 0 (Kiessling & Thor, 2022).",
        verdict=_verdict(high, means),
        sentence=_sentence(high, means),
        header=(
            *("network", "ω₀", "SB of the target", "at the start", "mean until fitted"),
            *("looks above the target", "energy left"),
        ),
        rows=rows,
        figure=_draw_split(lines),
        scale=scale(frequencies, points, widths, steps, lr, seeds),
    )


def _verdict(high: Collection[str], names: Collection[str]) -> Verdict:
    if len(high) == len(names):
        return "confirmed"
    return "undecided" if high else "not confirmed"


def _sentence(high: Collection[str], names: Collection[str]) -> str:
    said = (
        f"Until {_FITTED:.0%} of the energy of the target is left, SB is on average above that of the "
        f"target in every seed of {', '.join(high) or 'no network'}"
    )
    rest = [name for name in names if name not in high]
    return said + (f"; not of {', '.join(rest)}." if rest else ".")


def _left(curve: Curve) -> list[float]:
    """The energy of the error over time, as a share of that of the target."""
    error = energies(curve.residuals, curve.points).sum(dim=1)
    return (error / energies(curve.target, curve.points).sum()).tolist()


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
