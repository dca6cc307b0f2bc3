"""Which frequencies of a classifier's outputs come right first: along a direction, and by distance.

References:
    | Frequency principle: Fourier analysis sheds light on deep neural networks (Xu et al., 2019)
    | https://arxiv.org/abs/1901.06523: both methods, as reviews of it report them

What differs: images are in [0, 1], and the width of the Gaussian is its standard deviation, ℓ2 in pixels.
"""

__all__ = ["f_principle", "filtered", "measure", "nudft", "principal"]

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..config import parse_config
from ..experiment import build_model, load_data, train
from ..report.drawing import COLORS, frame, styled
from ..training import Step
from ._registry import registry
from .cells import Settings, computed
from .finding import Finding, Verdict
from .lab import Lab
from .learning_order import rank_correlation
from .sines import passage

_MOST = 2000  # images, of which all pairs have a distance
_LOOKS = 40  # at a training, as many in each doubling of steps
_IN_ORDER = 0.8  # rank correlation

_PLAIN = {"model": {"name": "plain_mlp_s", "widths": [64, 64]}}
_LIPSCHITZ = {
    "model": {"name": "lipmlp_s", "widths": [64, 64]},
    "loss": {"name": "cross_entropy", "temperature": 0.1},
}


@registry.register
def f_principle(
    lab: Lab,
    *,
    networks: Mapping[str, Mapping[str, Any]] | None = None,
    frequencies: int = 12,
    widths: Sequence[float] = (0.3, 0.5, 0.7, 1.0),
    threshold: float = 0.2,
    lr: float = 1e-3,
    batch_size: int = 64,
    steps: int = 3000,
    seeds: Sequence[int] = (0, 1),
) -> Finding:
    """Follows the outputs of classifiers over training, along the first principal component and filtered.

    With p the component, x_i the images, y_i the labels as unit vectors and h_i the outputs, probabilities at the
    temperature of the loss: Δ_F = |ĥ − ŷ| / |ŷ| at γ, where ŷ = 1/n Σ y_i exp(−2πi γ x_i·p), a sum at points as
    they are and no FFT.  And e_low, e_high: the relative errors of averages of y over neighbours, with Gaussian
    weights, and of what these leave.

    Arguments:
        lab: Where files are, and the config that is changed.
        networks: Changes of the config, by the name of the network; a plain perceptron and one of
            constant 1, whose loss has a temperature of 0.1, by default.
        frequencies: The number of frequencies γ: multiples of one over the range of x·p.
        widths: The widths δ of the Gaussian, ℓ2 in pixels.
        threshold: The error at which a frequency counts as learned.
        lr: The learning rate of Adam.
        batch_size: The number of images of a batch.
        steps: The number of optimization steps.
        seeds: The seeds of initial weights and of the order of images.
    """
    networks = networks or {"plain": _PLAIN, "constant 1": _LIPSCHITZ}
    common = {
        "optimizer": {"name": "adam", "lr": lr},
        "data.batch_size": batch_size,
        "schedule.max_steps": steps,
    }
    trees = {
        name: lab.config({**changes, **common}).to_tree() for name, changes in networks.items()
    }
    cells = {
        f"f_principle,{name},seed={seed}": {
            "config": {**tree, "seed": seed},
            "frequencies": frequencies,
            "widths": list(widths),
        }
        for name, tree in trees.items()
        for seed in seeds
    }
    found = iter(computed(lab, measure, cells).values())
    trained = {name: [next(found) for _ in seeds] for name in networks}
    rows, along, by_distance = [], {}, {}
    for name, here in trained.items():
        along[name] = [_order(each, threshold) for each in here]
        by_distance[name] = [[_ahead(each, rank) for rank in range(len(widths))] for each in here]
        for rank, width in enumerate(widths):
            low, high = (
                [each[key][rank][-1] for each in here] for key in ("error_low", "error_high")
            )
            first = [
                [passage(each["steps"], each[key][rank], 0.5) for each in here]
                for key in ("error_low", "error_high")
            ]
            rows.append(
                (
                    f"{name}, δ = {width:g}",
                    *(_when(each) for each in first),
                    *(f"{fmean(each):.3f}" for each in (low, high)),
                    f"{fmean(each[rank] for each in by_distance[name]):.0%}",
                )
            )
    return Finding(
        claim="Low frequencies of a classifier come right before high ones: along the first principal component "
        "of images, and by a Gaussian filter (arXiv 1901.06523).",
        verdict=_verdict(along, by_distance),
        sentence=_sentence(along, by_distance, threshold),
        header=(
            *("network and filter", "e_low ≤ ½ after", "e_high ≤ ½ after", "e_low at the end"),
            *("e_high at the end", "looks with e_low < e_high"),
        ),
        rows=rows,
        figure=_draw({name: here[0] for name, here in trained.items()}, list(widths)),
        scale=f"{trained[next(iter(trained))][0]['images']} images of {lab.dataset.name}, {steps} steps of Adam "
        f"at {lr:g}, {len(seeds)} seeds, {frequencies} frequencies up to "
        f"{trained[next(iter(trained))][0]['gammas'][-1]:.1f} cycles per unit of ℓ2",
    )


def principal(images: Tensor) -> Tensor:
    """Coordinates along the first principal component of images, with shape (N,), in their units."""
    flat = images.flatten(1).double()
    centred = flat - flat.mean(dim=0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return flat @ (direction * direction.sum().sign())  # a direction has no sign of its own


def nudft(places: Tensor, values: Tensor, gammas: Tensor) -> Tensor:
    """The sums 1/n Σ y_i exp(−2πi γ x_i) at points that are spaced as they are.

    Arguments:
        places: The points x_i, with shape (n,).
        values: The values y_i, with shape (n, K).
        gammas: The frequencies γ, in cycles per unit, with shape (G,).

    Returns:
        The sums, complex, with shape (G, K).
    """
    turns = -2j * math.pi * gammas[:, None] * places  # (G, n)
    return turns.exp() @ values.to(turns.dtype) / len(places)


def filtered(distances: Tensor, values: Tensor, width: float) -> Tensor:
    """Averages of values over neighbours, with Gaussian weights exp(−d²/2δ²), each with itself.

    Arguments:
        distances: The distances d of all pairs, with shape (n, n).
        values: The values, with shape (n, K).
        width: The width δ, in units of the distances: near 0 values stay, and for a large one all have
            the mean.

    Returns:
        The averages, with shape (n, K).
    """
    weights = (-0.5 * (distances / width).square()).exp()
    return weights @ values / weights.sum(dim=1, keepdim=True)


def measure(settings: Settings) -> dict[str, Any]:
    """Trains one network, and keeps how far its outputs are off over time: see `f_principle`."""
    config = parse_config(settings["config"])
    dataset = load_data(config)
    model = build_model(config)
    every = -(-len(dataset.train) // _MOST)  # evenly spaced images
    images = dataset.train.images[::every]
    labels = torch.nn.functional.one_hot(
        dataset.train.labels[::every], dataset.num_classes
    ).double()
    temperature = config.loss.arguments.get("temperature") or 1.0
    places = principal(images)
    reach = (places.max() - places.min()).item()
    gammas = torch.arange(1, settings["frequencies"] + 1, dtype=torch.float64) / reach
    flat = images.flatten(1).double()
    distances = torch.cdist(flat, flat)
    wanted = nudft(places, labels, gammas)
    low = {width: filtered(distances, labels, width) for width in settings["widths"]}

    def look(model: torch.nn.Module) -> tuple[list[float], list[float], list[float]]:
        with torch.no_grad():
            outputs = (model.eval()(images).double() / temperature).softmax(dim=1)
        model.train()
        missed = (nudft(places, outputs, gammas) - wanted).norm(dim=1) / wanted.norm(dim=1)
        lows, highs = [], []
        for width, target in low.items():
            near = filtered(distances, outputs, width)
            lows.append(_relative(near, target))
            highs.append(_relative(outputs - near, labels - target))
        return missed.tolist(), lows, highs

    total = config.schedule.max_steps or 0
    looks = {round(total ** (rank / _LOOKS)) for rank in range(_LOOKS + 1)}
    kept = {}
    untrained = Step(0, 0.0, model, tuple(images.shape[1:]))
    for step, _ in train(None, config, dataset, untrained):
        if step.index == 0 or step.index in looks:
            kept[step.index] = look(step.model)
    missed, lows, highs = (
        torch.tensor(each).T.tolist() for each in zip(*kept.values(), strict=True)
    )
    return {
        "steps": list(kept),
        "images": len(images),
        "gammas": gammas.tolist(),
        "missed": missed,  # by frequency, then time
        "error_low": lows,  # by width, then time
        "error_high": highs,
    }


def _relative(values: Tensor, target: Tensor) -> float:
    """‖h − y‖ / ‖y‖; nan where y is 0."""
    return ((values - target).norm() / target.norm()).item()


def _order(result: Mapping[str, Any], threshold: float) -> float:
    """The rank correlation of γ with the step at which it is learned."""
    passages = [passage(result["steps"], errors, threshold) for errors in result["missed"]]
    return rank_correlation(result["gammas"], passages)


def _ahead(result: Mapping[str, Any], rank: int) -> float:
    """The share of looks after the first at which e_low is below e_high."""
    pairs = zip(result["error_low"][rank][1:], result["error_high"][rank][1:], strict=True)
    ahead = [low < high for low, high in pairs]
    return sum(ahead) / len(ahead)


def _when(passages: Sequence[float]) -> str:
    done = [each for each in passages if math.isfinite(each)]
    if not done:
        return "never"
    return f"{fmean(done):.0f}" + (
        "" if len(done) == len(passages) else f" ({len(done)} of {len(passages)})"
    )


def _verdict(
    along: Mapping[str, Sequence[float]], by_distance: Mapping[str, Sequence[Sequence[float]]]
) -> Verdict:
    first = all(each >= _IN_ORDER for here in along.values() for each in here)
    second = all(
        each >= _IN_ORDER for here in by_distance.values() for shares in here for each in shares
    )
    return "confirmed" if first and second else "undecided" if first or second else "not confirmed"


def _sentence(
    along: Mapping[str, Sequence[float]],
    by_distance: Mapping[str, Sequence[Sequence[float]]],
    threshold: float,
) -> str:
    orders = "; ".join(
        f"{name}: {', '.join('none learned, or all at once' if math.isnan(v) else f'{v:.2f}' for v in here)}"
        for name, here in along.items()
    )
    ahead = "; ".join(
        f"{name}: {min(min(shares) for shares in here):.0%}" for name, here in by_distance.items()
    )
    return (
        f"Along the component, rank correlations of γ with the step at which Δ_F falls to {threshold:g}, for each "
        f"seed: {orders}. Filtered, e_low is below e_high at least in these shares of looks, over all δ and seeds: "
        f"{ahead}."
    )


@styled
def _draw(trained: Mapping[str, Mapping[str, Any]], widths: Sequence[float]) -> Figure:
    """A row for each network: Δ_F over frequency and time, and both errors of the middle width."""
    figure = Figure(figsize=(6.8, 2.2 * len(trained)))
    panels = figure.subplots(len(trained), 2, squeeze=False)
    middle = len(widths) // 2
    for (left, right), (name, result) in zip(panels, trained.items(), strict=True):
        steps = result["steps"][1:]
        times = torch.tensor([errors[1:] for errors in result["missed"]])
        mesh = left.pcolormesh(
            steps,
            result["gammas"],
            times.clamp(max=1),
            cmap="Blues_r",
            vmin=0,
            vmax=1,
            rasterized=True,
        )
        left.set_xscale("log")
        frame(left, "optimization step", "γ, cycles per ℓ2")
        left.set_title(f"{name}: Δ_F")
        figure.colorbar(mesh, ax=left).outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        for key, color in (("error_low", "first"), ("error_high", "second")):
            right.plot(
                steps, result[key][middle][1:], color=COLORS[color], label=key.replace("error", "e")
            )
        right.set_xscale("log")
        right.set_ylim(bottom=0)
        frame(right, "optimization step", "relative error")
        right.set_title(f"{name}: δ = {widths[middle]:g}")
        right.legend(loc="best")
    return figure
