"""One step of training, taken very often: the moments that theory predicts, and those that are seen.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588
"""

__all__ = ["moments"]

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..dynamics import follow, highest
from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry
from .finding import Finding
from .lab import Lab, series

_CHUNK = 500  # batches whose gradients are in memory at once


@registry.register
def moments(
    lab: Lab,
    *,
    checkpoints: Sequence[int] = (1, 50, 200, 500, 1000),
    resamples: int = 20000,
    lr: float = 0.02,
    batch_size: int = 16,
) -> Finding:
    """Takes one step from a checkpoint with many batches, and compares mean and variance of Δ log K.

    Arguments:
        lab: Where it trains, by plain stochastic gradient descent, a network without batch statistics.
        checkpoints: The numbers of steps before.
        resamples: The number of batches, drawn without replacement each.
        lr: The learning rate.
        batch_size: The number of images of a batch.
    """
    grid = [
        {
            "schedule.max_steps": step,
            "optimizer.lr": lr,
            "data.batch_size": batch_size,
            "record.drivers": {"every": step, "examples": 10**9},
        }
        for step in checkpoints
    ]
    runs = lab.trained(grid)
    split = lab.dataset.train
    rows, seen, predicted, misses = [], [], [], []
    for step, run in zip(checkpoints, runs, strict=True):
        history = run.history()
        terms = [
            dict(zip(*series(history, f"driver/{term}", layer=None), strict=True))[step]
            for term in ("drift", "noise_curvature", "ito", "deterministic", "variance")
        ]
        mean, spread = sum(terms[:4]), terms[4]
        block = dict(zip(*series(history, "driver/variance_block", layer=None), strict=True))[step]
        changes = _changes(
            *(run.load_model().double(), split.images.double(), split.labels),
            *(lr, batch_size, resamples),
        )
        error = changes.std().item() / math.sqrt(resamples)
        misses.append(abs(changes.mean().item() - mean) / error)
        seen.append(changes.mean().item())
        predicted.append(mean)
        rows.append(
            (
                *(str(step), f"{1e4 * seen[-1]:.3f} ± {1e4 * error:.3f}", f"{1e4 * mean:.3f}"),
                *(f"{1e8 * changes.var().item():.3f}", f"{1e8 * spread:.3f}", f"{1e8 * block:.3f}"),
            )
        )
    close = sum(miss <= 3 for miss in misses)
    sentence = (
        f"{close} of {len(misses)} means are within 3 standard errors of the prediction; the farthest is "
        f"{max(misses):.1f}."
    )
    return Finding(
        claim="Drift, noise-curvature, Itô's term and the second-order term of the step itself give the "
        "mean of Δ log K of one step, and λ² with correlations between layers its variance "
        "(arXiv 2506.18588; the last term and the correlations are ours).",
        verdict="confirmed" if close >= len(misses) - 1 else "not confirmed",
        sentence=sentence,
        header=("step", "mean, 1e-4", "predicted", "variance, 1e-8", "predicted", "block-diagonal"),
        rows=rows,
        figure=_draw(checkpoints, seen, predicted),
        scale=f"{resamples} batches of {batch_size} at each of {len(checkpoints)} checkpoints, lr {lr:g}",
    )


def _changes(
    model: nn.Module, images: Tensor, labels: Tensor, lr: float, batch_size: int, resamples: int
) -> Tensor:
    """Δ log K of one step with each of many batches, with shape (resamples,)."""
    followed = [each for each in follow(model, tuple(images.shape[1:])) if each.role == "free"]
    names = [f"{each.name}.weight" for each in followed]
    state = {name: value.detach() for name, value in model.named_parameters()}
    weights = {name: state[name] for name in names}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**state, **weights}, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=64)(weights, images, labels)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(resamples, dtype=torch.float64)
    for name, layer in zip(names, followed, strict=True):
        place, now = highest(layer.lens, state[name])
        at = torch.tensor([place])
        gradients = each[name].flatten(1)  # (N, P)
        generator.manual_seed(0)  # the same batches for all layers
        for begin in range(0, resamples, _CHUNK):
            count = min(_CHUNK, resamples - begin)
            order = torch.rand(count, len(images), generator=generator).argsort(dim=1)
            share = torch.zeros(count, len(images), dtype=torch.float64).scatter_(
                1, order[:, :batch_size], 1 / batch_size
            )
            moved = state[name] - lr * (share @ gradients).view(count, *state[name].shape)
            matrices = torch.cat([layer.lens.matrices(weight, at) for weight in moved])
            norms = torch.linalg.matrix_norm(matrices, ord=2)
            total[begin : begin + count] += norms.log() - now.value.log()
    return total


@styled
def _draw(steps: Sequence[int], seen: Sequence[float], predicted: Sequence[float]) -> Figure:
    figure, ax = axes()
    places = range(len(steps))
    ax.plot(
        places,
        [1e4 * v for v in predicted],
        "_",
        color=COLORS["second"],
        markersize=16,
        label="predicted",
    )
    ax.plot(places, [1e4 * v for v in seen], "o", color=COLORS["first"], markersize=4, label="seen")
    ax.set_xticks(list(places), [str(step) for step in steps])
    frame(ax, "steps before", "mean of Δ log K, 1e-4")
    ax.legend(loc="best")
    return figure
