"""Label noise that waves over the space of images: up to which frequency is it learned?

References:
    | On the spectral bias of neural networks (Rahaman et al., 2019)
    | https://arxiv.org/abs/1806.08734: noise of a frequency in ‖x‖, and the dip of the validation loss
    | Spectral bias in practice (Fridovich-Keil, Gontijo-Lopes & Roelofs, 2022)
    | https://arxiv.org/abs/2110.02424: noise of classifiers, radial and along a direction

What differs: the amount is not divided by its mean in each batch, so s ≤ 1 is certain for a ≤ ½; noise of
frequency 0, which smooths all labels alike, is the control; and what of the noise is in the outputs is measured
itself, not by the loss alone.
"""

__all__ = ["frequency_noise", "levels", "measure", "radius", "response", "soft_labels"]

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import optim
from ..config import parse_config
from ..experiment import build_model, build_optimizer, load_data
from ..report.drawing import COLORS, frame, styled
from ..seeds import derived_seed
from ..training import fit
from ._registry import registry
from .cells import Settings, computed
from .finding import Finding, Verdict
from .lab import Lab

_LOOKS = 60  # at a training
_FITTED = 0.5  # of the noise on the images to train on

_PLAIN = {"name": "plain_mlp_s", "widths": [64, 64]}
_LIPSCHITZ = {"name": "lipmlp_s", "widths": [64, 64]}


@registry.register
def frequency_noise(
    lab: Lab,
    *,
    frequencies: Sequence[float] = (0.1, 0.2, 0.4, 0.8, 1.6),
    budgets: Sequence[float] = (0.3, 1.0, 3.0),
    amount: float = 0.4,
    direction: Sequence[int] = (0, 1),
    lr: float = 2e-3,
    batch_size: int = 128,
    steps: int = 3000,
    seeds: Sequence[int] = (0, 1),
) -> Finding:
    """Trains with soft labels whose noise is a wave of ‖x‖, or along a Fourier direction, of each frequency.

    Noise is s = a (1 + sin 2πf(r − φ)), y′ = y (1 − s) + s/K, where r is the norm of the standardized image x and
    φ what it would be of Gaussian noise; or r = ⟨x, u⟩ with a unit wave u over the image, and φ = 0.

    Arguments:
        lab: Where files are, and the config that is changed.
        frequencies: The frequencies f, in cycles per unit of r.
        budgets: What logits of the network of constant 1 are multiplied with.
        amount: The mean noise a, at most ½.
        direction: The cycles per image, down and across, of u.
        lr: The learning rate of Adam.
        batch_size: The number of images of a batch.
        steps: The number of optimization steps.
        seeds: The seeds of initial weights and of the order of images.
    """
    networks = {
        "plain": (_PLAIN, 1.0),
        **{f"L = {budget:g}": (_LIPSCHITZ, budget) for budget in budgets},
    }
    waves: dict[str, Sequence[int] | None] = {"radial": None, "direction": list(direction)}
    cells = {}
    for name, (model, budget) in networks.items():
        changes = {
            "model": model,
            "optimizer": {"name": "adam", "lr": lr},
            "data.batch_size": batch_size,
            "schedule.max_steps": steps,
        }
        tree = lab.config(changes).to_tree()
        for seed in seeds:
            base = {"config": {**tree, "seed": seed}, "budget": budget}
            of = f"noise,{name},seed={seed}"
            cells[of, "clean", 0.0] = {**base, "frequency": 0.0, "amount": 0.0, "direction": None}
            cells[of, "even", 0.0] = {**base, "frequency": 0.0, "amount": amount, "direction": None}
            for wave, along in waves.items():
                for f in frequencies:
                    noise = {"frequency": f, "amount": amount, "direction": along}
                    cells[of, wave, f] = {**base, **noise}
    names = {key: f"{key[0]},{key[1]},f={key[2]:g}" for key in cells}
    found = computed(lab, measure, {names[key]: cell for key, cell in cells.items()})
    rows, fits, dips = [], {}, {}
    for name in networks:
        for wave in ("even", *waves):
            for f in (0.0,) if wave == "even" else frequencies:
                here = [found[names[f"noise,{name},seed={seed}", wave, f]] for seed in seeds]
                clean = [found[names[f"noise,{name},seed={seed}", "clean", 0.0]] for seed in seeds]
                fits[name, wave, f] = [each["response"][-1] for each in here]
                dips[name, wave, f] = [_dip(each)[0] for each in here]
                rows.append(_row(name, wave, f, here, clean))
    parts = (fits, dips, list(networks), list(waves), frequencies)
    return Finding(
        claim="Noise of low frequency is learned first and best (arXiv 1806.08734, 2110.02424); of a network with a "
        "Lipschitz budget, noise whose slope f·a is beyond it is not learned, and the validation loss has no dip, or less than half of that without "
        "a budget (ours).",
        verdict=_verdict(*parts),
        sentence=_sentence(*parts),
        header=(
            *("network and noise", "f", "mean s", "noise fitted", "of test images"),
            *("noisy − clean loss", "dip", "its step"),
        ),
        rows=rows,
        figure=_draw(fits, list(networks), list(waves), frequencies),
        scale=f"{lab.dataset.name}, a = {amount:g}, {steps} steps of Adam at {lr:g}, batches of {batch_size}, "
        f"{len(seeds)} seeds, u with {direction[0]} and {direction[1]} cycles per image",
    )


def radius(pixels: int) -> float:
    """The mean of ‖x‖ of standard Gaussian noise in so many dimensions.

    Example:
        >>> round(radius(3072), 4)
        55.4211
    """
    return math.sqrt(2) * math.exp(math.lgamma((pixels + 1) / 2) - math.lgamma(pixels / 2))


def levels(
    images: Tensor, frequency: float, amount: float, direction: Sequence[int] | None = None
) -> Tensor:
    """The noise s of each label, in [0, 1], with shape (N,).

    Arguments:
        images: The images, standardized, with shape (N, C, H, W).
        frequency: The frequency f, in cycles per unit of ℓ2.
        amount: The mean a of the wave.
        direction: The cycles per image, down and across, of the unit image along which it waves; over
            the norm of images, if there is none.

    Raises:
        ValueError: If `amount` is not in [0, ½]: s would leave [0, 1].
    """
    if not 0 <= amount <= 0.5:
        raise ValueError(f"'amount' should be in [0, 0.5], so that s is in [0, 1], got {amount}.")
    flat = images.double().flatten(1)
    if direction is None:
        place = flat.norm(dim=1) - radius(flat.shape[1])
    else:
        place = flat @ _wave(images.shape[1:], direction).flatten()
    return amount * (1 + torch.sin(2 * math.pi * frequency * place))


def soft_labels(labels: Tensor, noise: Tensor, num_classes: int) -> Tensor:
    """The labels y (1 − s) + s/K, with shape (N, K), of which each row sums to 1."""
    sure = nn.functional.one_hot(labels, num_classes).double()
    return sure * (1 - noise[:, None]) + noise[:, None] / num_classes


def response(probabilities: Tensor, labels: Tensor, noise: Tensor) -> float:
    """How much of the noise is in the outputs of a network: 1 for all of it, 0 for none; nan of even noise.

    A network that says y (1 − s) + s/K exactly has (1 − p_y) K/(K − 1) = s: what is returned is the slope of the
    least-squares line through these over s.

    Arguments:
        probabilities: The outputs, with shape (N, K).
        labels: The true classes, with shape (N,).
        noise: The noise s, with shape (N,).
    """
    classes = probabilities.shape[1]
    sure = probabilities.gather(1, labels[:, None])[:, 0]
    said = (1 - sure) * classes / (classes - 1)
    wave = noise - noise.mean()
    if wave.norm() < 1e-9:
        return math.nan
    return ((said @ wave) / wave.square().sum()).item()


def measure(settings: Settings) -> dict[str, Any]:
    """Trains one network, and keeps losses and its response to the noise: see `frequency_noise`."""
    config = parse_config(settings["config"])
    dataset = load_data(config)
    model = build_model(config)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (dataset.mean, dataset.std))
    wave = settings["frequency"], settings["amount"], settings["direction"]
    noise = [levels((part.images - mean) / std, *wave) for part in (dataset.train, dataset.test)]
    soft = soft_labels(dataset.train.labels, noise[0], dataset.num_classes).float()
    budget, steps = settings["budget"], config.schedule.max_steps or 0

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        images, size = dataset.train.images, config.data.batch_size
        for epoch in range(-(-steps * size // len(images)) + 1):
            draws = torch.Generator().manual_seed(derived_seed(config.seed, "epoch", epoch))
            for part in torch.randperm(len(images), generator=draws).split(size):
                yield images[part], soft[part]

    def scaled(logits: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(budget * logits, wanted)

    # No loss of the registry, which take classes: to `fit` any function of logits and targets will do.
    soft_loss: Any = scaled

    def look() -> tuple[float, float, float]:
        with torch.no_grad():
            both = [
                (budget * model.eval()(part.images)).double().log_softmax(dim=1)
                for part in (dataset.train, dataset.test)
            ]
        model.train()
        fitted, beyond = (
            response(logs.exp(), part.labels, s)
            for logs, part, s in zip(both, (dataset.train, dataset.test), noise, strict=True)
        )
        return float(nn.functional.nll_loss(both[1], dataset.test.labels)), fitted, beyond

    optimizer = build_optimizer(model, config)
    scheduler = optim.create_scheduler(optimizer, steps, name="constant")
    kept = {0: look()}
    every = max(1, steps // _LOOKS)
    per_epoch = -(-len(dataset.train) // config.data.batch_size)
    for step in fit(model, batches(), soft_loss, optimizer, scheduler, steps_per_epoch=per_epoch):
        if step.index % every == 0:
            kept[step.index] = look()
        if step.index == steps:
            break
    losses, fitted, beyond = (list(each) for each in zip(*kept.values(), strict=True))
    return {
        "steps": list(kept),
        "loss": losses,
        "response": fitted,
        "beyond": beyond,
        "mean_noise": noise[0].mean().item(),
    }


def _wave(shape: Sequence[int], direction: Sequence[int]) -> Tensor:
    """A wave over the image of so many cycles down and across, the same in all channels, of norm 1."""
    channels, height, width = shape
    down = torch.arange(height, dtype=torch.float64)[:, None] * direction[0] / height
    across = torch.arange(width, dtype=torch.float64) * direction[1] / width
    wave = torch.cos(2 * math.pi * (down + across) + math.pi / 4).expand(channels, -1, -1)
    return wave / wave.norm()


def _dip(result: Mapping[str, Any]) -> tuple[float, int]:
    """How far the validation loss rises after its minimum, to the end, and the step of that."""
    lowest = min(range(len(result["loss"])), key=result["loss"].__getitem__)
    return result["loss"][-1] - result["loss"][lowest], result["steps"][lowest]


def _row(
    name: str,
    wave: str,
    f: float,
    here: Sequence[Mapping[str, Any]],
    clean: Sequence[Mapping[str, Any]],
) -> tuple[str, ...]:
    dips = [_dip(each) for each in here]
    apart = [
        min(a - b for a, b in zip(noisy["loss"][1:], plain["loss"][1:], strict=True))
        for noisy, plain in zip(here, clean, strict=True)
    ]
    fitted = [fmean(each[key][-1] for each in here) for key in ("response", "beyond")]
    return (
        *(f"{name}, {wave}", f"{f:g}", f"{fmean(each['mean_noise'] for each in here):.2f}"),
        *("" if math.isnan(value) else f"{value:.2f}" for value in fitted),
        *(f"{fmean(apart):.3f}", f"{fmean(depth for depth, _ in dips):.3f}"),
        f"{fmean(step for _, step in dips):.0f}",
    )


Found = Mapping[
    tuple[str, str, float], Sequence[float]
]  # by network, wave and frequency, for each seed


def _verdict(
    fits: Found,
    dips: Found,
    networks: Sequence[str],
    waves: Sequence[str],
    frequencies: Sequence[float],
) -> Verdict:
    """Whether each fits the lowest frequency better than the highest, and some budget tells both apart."""
    low, high = min(frequencies), max(frequencies)
    falls = all(
        fmean(fits[name, wave, low]) > fmean(fits[name, wave, high])
        for name in networks
        for wave in waves
    )
    shallow = all(
        any(
            fmean(dips[name, wave, high]) < fmean(dips["plain", wave, high]) / 2
            for name in _telling(fits, networks, wave, low, high)
        )
        for wave in waves
    )
    # Without a budget that tells both apart, `shallow` is false: the claim is of such budgets.
    return (
        "confirmed" if falls and shallow else "undecided" if falls or shallow else "not confirmed"
    )


def _telling(fits: Found, networks: Sequence[str], wave: str, low: float, high: float) -> list[str]:
    """The constrained networks that have room for the lowest frequency, and not for the highest.

    One that fits neither says nothing of frequencies: its budget is too small for any noise.
    """
    return [
        name
        for name in networks
        if name != "plain"
        and fmean(fits[name, wave, low]) >= _FITTED > fmean(fits[name, wave, high])
    ]


def _sentence(
    fits: Found,
    dips: Found,
    networks: Sequence[str],
    waves: Sequence[str],
    frequencies: Sequence[float],
) -> str:
    low, high = min(frequencies), max(frequencies)
    parts = [
        f"{name}, {wave}: {fmean(fits[name, wave, low]):.2f} and {fmean(fits[name, wave, high]):.2f}"
        for name in networks
        for wave in waves
    ]
    rises = [
        f"{name}, {wave}: {fmean(dips[name, wave, high]):.3f}"
        for name in networks
        for wave in waves
    ]
    telling = [
        f"{wave}: {', '.join(_telling(fits, networks, wave, low, high)) or 'none'}"
        for wave in waves
    ]
    return (
        f"Of the noise on the images to train on, networks have learned these shares at f = {low:g} and at {high:g}: "
        f"{'; '.join(parts)}. Budgets with room for most of the first and for less than half of the other: "
        f"{'; '.join(telling)}. At {high:g}, the validation loss ends above its minimum by these: {'; '.join(rises)}."
    )


@styled
def _draw(
    fits: Found, networks: Sequence[str], waves: Sequence[str], frequencies: Sequence[float]
) -> Figure:
    """A panel for each kind of noise: the share that is learned over its frequency."""
    figure = Figure(figsize=(6.4, 2.7))
    panels = figure.subplots(1, len(waves), sharey=True)
    for ax, wave in zip(panels, waves, strict=True):
        for rank, name in enumerate(networks):
            color = COLORS["second"] if rank == 0 else COLORS["first"]
            values = [fmean(fits[name, wave, f]) for f in frequencies]
            shade = 1.0 if rank == 0 else 0.4 + 0.6 * rank / len(networks)
            ax.plot(frequencies, values, "o-", ms=3, color=color, alpha=shade, label=name)
        ax.set_xscale("log")
        ax.set_xticks(list(frequencies), [f"{f:g}" for f in frequencies])
        ax.minorticks_off()
        frame(ax, "frequency of the noise, cycles per ℓ2", "share of the noise that is fitted")
        ax.set_title(wave)
        ax.label_outer()
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
