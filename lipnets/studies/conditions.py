"""What the Lipschitz constant depends on: initial weights, labels, regularizers, and time.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["initialization", "label_noise", "long_training", "regularizers"]

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from ..records import Record
from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry, spread_of
from .finding import Finding
from .lab import Lab, crossed, last, series

_LINES = 200  # of the history of a training


@registry.register
def initialization(
    lab: Lab,
    *,
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 3000,
) -> Finding:
    """Trains from initial weights that are multiplied by several factors.

    Arguments:
        lab: Where it trains.
        scales: The factors.
        seeds: The seeds of initial weights and of the order of images.
        steps: The number of optimization steps.
    """
    conditions = {scale: {"init_scale": scale, **_sizes(steps)} for scale in scales}
    histories = crossed(lab, conditions, [{"seed": seed} for seed in seeds])
    rows, begins, ends = [], [], []
    for scale, here in histories.items():
        first = [series(each, "ledger/log_norm", layer=None)[1][0] for each in here]
        final = [last(each, "ledger/log_norm", layer=None) for each in here]
        begins.append(fmean(first))
        ends.append(fmean(final))
        losses = [last(each, "train/loss") for each in here]
        rows.append((f"{scale:g}", spread_of(first), spread_of(final), spread_of(losses)))
    kept = (max(ends) - min(ends)) / (max(begins) - min(begins))
    small = (ends[1] - ends[0]) / (begins[1] - begins[0])
    sentence = (
        f"Of a difference of {max(begins) - min(begins):.2f} in log K before training, {kept:.0%} is left "
        f"after it; between the two smallest factors {small:.0%} of it."
    )
    verdict = "confirmed" if kept > 0.5 and small > 0.5 else "not confirmed"
    return Finding(
        claim="The scale of initial weights sets that of the Lipschitz constant during training "
        "(arXiv 2506.18588).",
        verdict=verdict,
        sentence=sentence,
        header=("factor", "log K before", "log K after", "training loss after"),
        rows=rows,
        figure=_curves({f"× {scale:g}": here[0] for scale, here in histories.items()}),
        scale=f"{steps} steps, {len(seeds)} seeds",
    )


@registry.register
def label_noise(
    lab: Lab,
    *,
    shares: Sequence[float] = (0.0, 0.2, 0.5, 1.0),
    early: int = 3000,
    late: int = 40000,
    seed: int = 0,
) -> Finding:
    """Trains with a share of labels drawn at random, until these are known by heart.

    Arguments:
        lab: Where it trains.
        shares: The shares of labels, increasing.
        early: The step of the first stage, before wrong labels are known by heart.
        late: The number of optimization steps.
        seed: The seed of all of it.
    """
    grid = [{"data.label_noise": share, "seed": seed, **_sizes(late)} for share in shares]
    histories = lab.histories(grid)
    rows, first, second = [], [], []
    for share, history in zip(shares, histories, strict=True):
        first.append(_at(history, early))
        second.append(last(history, "ledger/log_norm", layer=None))
        fitted = last(history, "train/accuracy")
        loss = last(history, "train/loss")
        rows.append(
            (f"{share:g}", f"{first[-1]:.3f}", f"{second[-1]:.3f}", f"{fitted:.1%}", f"{loss:.4f}")
        )
    suppressed = all(b < a for a, b in itertools.pairwise(first))
    reversed_ = all(b > a for a, b in itertools.pairwise(second))
    sentence = (
        f"After {early} steps log K {'falls' if suppressed else 'does not fall throughout'} with the share "
        f"of wrong labels, from {first[0]:.2f} to {first[-1]:.2f}; after {late} it "
        f"{'rises' if reversed_ else 'does not rise throughout'} with it, from {second[0]:.2f} to "
        f"{second[-1]:.2f}."
    )
    return Finding(
        claim="Label noise keeps the Lipschitz constant low (arXiv 2506.18588); and this is turned "
        "around once the labels are known by heart (ours).",
        verdict="confirmed" if suppressed and reversed_ else "not confirmed",
        sentence=sentence,
        header=("share", f"log K at {early}", f"log K at {late}", "labels fitted", "training loss"),
        rows=rows,
        figure=_curves(
            {f"{share:.0%}": h for share, h in zip(shares, histories, strict=True)}, log=True
        ),
        scale=f"{late} steps, seed {seed}",
    )


@registry.register
def long_training(lab: Lab, *, steps: int = 40000, every: int = 200, seed: int = 0) -> Finding:
    """Trains long past convergence, and asks what still drives the constant.

    Arguments:
        lab: Where it trains.
        steps: The number of optimization steps.
        every: The number of steps between two measurements of κ.
        seed: The seed of all of it.
    """
    changes = {"seed": seed, **_sizes(steps), "record.drivers": {"every": every}}
    [history] = lab.histories([changes])
    at, log_norm = series(history, "ledger/log_norm", layer=None)
    when, kappa = series(history, "driver/noise_curvature", layer=None)
    half = next(i for i, step in enumerate(at) if step >= steps / 5)
    grown = log_norm[-1] - log_norm[half]
    noise = every * sum(k for step, k in zip(when, kappa, strict=True) if step >= steps / 5)
    sentence = (
        f"In the last four fifths of training log K grows by {grown:.3f}, of which noise-curvature gives "
        f"{noise:.4f}, {noise / grown:.0%}; the training loss ends at {last(history, 'train/loss'):.1e}."
    )
    quarters = [int(len(at) * share) - 1 for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    rows = [
        (
            *(str(at[i]), f"{log_norm[i]:.3f}"),
            f"{every * sum(k for s, k in zip(when, kappa, strict=True) if s <= at[i]):.4f}",
        )
        for i in quarters
    ]
    return Finding(
        claim="Long after convergence the Lipschitz constant goes on growing, driven by noise-curvature "
        "(arXiv 2506.18588, as reviews of it report).",
        verdict="confirmed" if noise > 0.5 * grown > 0 else "not confirmed",
        sentence=sentence,
        header=("step", "log K", "∫ κ so far"),
        rows=rows,
        figure=_late(history, every),
        scale=f"{steps} steps, seed {seed}",
    )


@registry.register
def regularizers(
    lab: Lab,
    *,
    model: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 1500,
) -> Finding:
    """Trains with one regularizer at a time: what each does to log K, and through which term.

    Arguments:
        lab: Where it trains.
        model: The model, which takes `norm` and `drop_rate`; a small plain convolutional network
            without normalization by default.
        seeds: The seeds of initial weights and of the order of images.
        steps: The number of optimization steps.
    """
    kinds = {
        "none": {},
        "weight decay 0.01": {"optimizer.weight_decay": 0.01},
        "mixup": {"data.augment": ["mixup"]},
        "batch normalization": {"model.norm": "batch_norm2d"},
        "dropout 0.3": {"model.drop_rate": 0.3},
        "slope penalty 0.02": {"loss.slope_penalty": 0.02},
    }
    model = model or {"name": "plain_convnet_xs", "norm": None}
    conditions = {
        kind: {"model": model, **changes, **_record(steps)} for kind, changes in kinds.items()
    }
    histories = crossed(lab, conditions, [{"seed": seed} for seed in seeds])
    rows, ends = [], {}
    for kind, here in histories.items():
        final = [last(each, "ledger/log_norm", layer=None) for each in here]
        ends[kind] = final
        parts = [
            fmean(last(each, f"ledger/{term}", layer=None) for each in here)
            for term in ("linear", "curvature", "square")
        ]
        accuracy = [last(each, "test/accuracy") for each in here]
        rows.append(
            (kind, spread_of(final), *(f"{v:+.3f}" for v in parts), f"{fmean(accuracy):.1%}")
        )
    lower = [
        kind
        for kind, final in ends.items()
        if fmean(final)
        < fmean(ends["none"]) - 2 * (stdev(final) ** 2 + stdev(ends["none"]) ** 2) ** 0.5
    ]
    others = [kind for kind in kinds if kind not in (*lower, "none")]
    sentence = f"log K ends lower with {', '.join(lower) or 'none of them'}; not with {', '.join(others) or 'none'}."
    return Finding(
        claim="Regularizers keep the Lipschitz constant low while training (arXiv 2506.18588).",
        verdict="confirmed" if not others else "undecided" if lower else "not confirmed",
        sentence=sentence,
        header=("regularizer", "log K", "linear", "curvature", "square", "test accuracy"),
        rows=rows,
        figure=_curves({kind: here[0] for kind, here in histories.items()}),
        scale=f"{steps} steps, {len(seeds)} seeds",
    )


def _record(steps: int) -> dict[str, object]:
    return {"schedule.max_steps": steps, "record.ledger": {"every": max(1, steps // _LINES)}}


def _sizes(steps: int) -> dict[str, object]:
    """As `_record`, of log K alone: all steps between two records are one to the ledger."""
    every = max(1, steps // _LINES)
    return {"schedule.max_steps": steps, "record.ledger": {"every": every, "stride": every}}


def _at(history: Sequence[Record], step: int) -> float:
    """Log K at the first line from a step on."""
    at, values = series(history, "ledger/log_norm", layer=None)
    return next(value for when, value in zip(at, values, strict=True) if when >= step)


@styled
def _curves(histories: dict[str, Sequence[Record]], log: bool = False) -> Figure:
    """Log K over steps, a line each, dark for the last."""
    figure, ax = axes()
    for rank, (name, history) in enumerate(histories.items()):
        at, values = series(history, "ledger/log_norm", layer=None)
        shade = 0.3 + 0.7 * (rank + 1) / len(histories)
        ax.plot(at, values, color=COLORS["first"], alpha=shade, label=name)
    if log:
        ax.set_xscale("symlog", linthresh=100)
        ax.set_xlim(left=0)
    frame(ax, "optimization step", "log K")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def _late(history: Sequence[Record], every: int) -> Figure:
    """Log K over steps, and what noise-curvature has added to it."""
    figure, ax = axes()
    at, values = series(history, "ledger/log_norm", layer=None)
    ax.plot(
        at, [value - values[0] for value in values], color=COLORS["first"], label="log K − log K₀"
    )
    when, kappa = series(history, "driver/noise_curvature", layer=None)
    sums = [every * sum(kappa[: i + 1]) for i in range(len(kappa))]
    ax.plot(when, sums, color=COLORS["second"], label="∫ κ")
    frame(ax, "optimization step", "nats")
    ax.legend(loc="best")
    return figure
