"""What each band of frequencies contributes to the right answer: Shapley values, exactly.

Bands are the players of a game whose payoff v(S) is the mean log-probability of the label, of images
that keep the bands in S alone.

References:
    | Interpreting Global Perturbation Robustness of Image Models using Axiomatic Spectral Importance
    | Decomposition (Luo et al., 2024) https://arxiv.org/abs/2408.01139

What differs: bands are rings around frequency 0, the same at a frequency and its opposite, so that
filtered images are real; these are used as they are, not rescaled; what stands for absent bands is
drawn from a seed; raw values are kept, whose sum is checked; and the score has a sign.
"""

__all__ = ["score", "shapley", "shapley_values"]

import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor

from ..data.filters import radial_bands
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs, require
from .subject import Subject

_BETA = 0.75  # of the score
_MOST = 12  # bands: 4096 coalitions

presets("shapley", quick={"bands": 6, "limit": 24}, full={"limit": 1000})


@registry.register
def shapley(
    bands: int = 8,
    baseline: Literal["zero", "noise", "image"] = "zero",
    limit: int | None = 50,
    seed: int = 0,
) -> Probe:
    """Builds the probe of what bands of frequencies contribute, over all 2^M coalitions of M bands.

    Bands are of equal width up to ½ cycle per pixel; the corners of the spectrum belong to the last,
    and the mean of the image to the first.  It yields, for each `band`,

    - `shapley`, the contribution ψ to the mean log-probability of the label, in nats, with its 95 %
      bootstrap interval over images; `begin` and `end` are in cycles per pixel; `share` is
      (ψ − min ψ) / Σ (ψ − min ψ), which keeps the order and loses the sum;

    Images of which some coalition has outputs that are not finite are `left_out`;

    and `shapley_score`: positive if low bands contribute most, 0 if all contribute the same, negative if
    high bands do: see `score`.  It is the published one but for the sign, which that drops.

    Arguments:
        bands: The number M of bands.
        baseline: What stands for absent bands: `"zero"`, nothing; `"noise"`, those of white noise
            of standard deviation ½; `"image"`, those of another image.  Draws depend on the index of the
            image.
        limit: The number of images, evenly spaced; None for all.
        seed: Which draw of the baseline.

    Raises:
        ValueError: If there are less than 2 bands or more than 12, or no such baseline.
    """
    if not 2 <= bands <= _MOST:
        raise ValueError(f"'bands' should be between 2 and {_MOST}, got {bands}.")
    if baseline not in ("zero", "noise", "image"):
        raise ValueError(f"'baseline' should be zero, noise or image, got {baseline!r}.")

    def probe(subject: Subject) -> Iterator[Record]:
        if len(subject.shape) != 3:
            return
        others = subject
        subject = subject.sample(limit)
        height, width = subject.shape[-2:]
        numbers = radial_bands(height, width, bands)
        present = sorted(set(numbers.flatten().tolist()))  # small images have no others
        values = torch.zeros(2**bands, len(subject), dtype=torch.float64)
        clean = torch.fft.fft2(subject.images.double())
        absent = torch.fft.fft2(_baseline(subject, others, baseline, seed))
        pairs = Pairs(subject)
        for coalition in subject.track(range(2 ** len(present)), "coalitions"):
            kept = {band for i, band in enumerate(present) if coalition >> i & 1}
            mask = torch.isin(numbers, torch.tensor(sorted(kept), dtype=torch.int64))
            images = torch.fft.ifft2(torch.where(mask, clean, absent)).real
            logits = subject.run(images)
            pairs.check(images, logits, f"keeping bands {sorted(kept)} of {bands}")
            payoff = logits.log_softmax(dim=1)[torch.arange(len(subject)), subject.labels]
            for index in range(2**bands):  # with bands that no frequency is in, or without
                if {band for band in present if index >> band & 1} == kept:
                    values[index] = payoff
        usable = values.isfinite().all(dim=0)
        if not usable.any():
            says = "outputs are not finite, of all images in some coalition"
            yield subject.record("shapley_skipped", 1.0, "1", says=says)
            return
        values = values[:, usable]
        contributions = shapley_values(values)  # (bands, N)
        closest = _check_efficiency(subject.indices[usable], values, contributions)
        means = contributions.mean(dim=1)
        shares = _shares(means)
        out = int((~usable).sum())
        details = {"baseline": baseline, "seed": seed, "left_out": out, "kind": "measured"}
        for band in range(bands):
            yield subject.mean(
                "shapley",
                contributions[band],
                "nats",
                band=band,
                begin=band / (2 * bands),
                end=(band + 1) / (2 * bands) if band < bands - 1 else 1.0,
                share=float(shares[band]),
                frequencies=int((numbers == band).sum()),
                **details,
            )
        yield subject.record("shapley_score", score(means), "1", bands=bands, **details)
        yield from pairs.records("band-limited")
        yield subject.record(
            "check/shapley",
            closest,
            "1",
            values.shape[1],
            says="contributions of bands sum to the payoff of all less that of none; closest: the "
            "largest error, relatively",
        )

    return probe


def shapley_values(values: Tensor) -> Tensor:
    """Shapley values of a game whose payoffs are known for all coalitions.

    Arguments:
        values: The payoffs; player i is in the coalition of index c if bit i of c is 1, with shape
            (2^M, N).

    Returns:
        The values, with shape (M, N).

    Example:
        >>> shapley_values(torch.tensor([[0.0], [1.0], [3.0], [6.0]])).flatten().tolist()
        [2.0, 4.0]
    """
    count = (len(values) - 1).bit_length()
    coalitions = torch.arange(len(values))
    sizes = sum((coalitions >> i & 1 for i in range(count)), torch.zeros_like(coalitions))
    weights = torch.tensor(
        [1 / (count * math.comb(count - 1, size)) for size in range(count)], dtype=values.dtype
    )
    found = []
    for player in range(count):
        without = coalitions[(coalitions >> player & 1) == 0]
        gains = values[without + 2**player] - values[without]
        found.append((weights[sizes[without], None] * gains).sum(dim=0))
    return torch.stack(found)


def score(means: Tensor, beta: float = _BETA) -> float:
    """How much more low bands contribute than high ones: 0 if all contribute the same.

    (Σ β^i ψ̄_i / ‖β‖₂ − D) / (1 − D) with the shares ψ̄ and D = ‖β‖₁ / (M ‖β‖₂), which it is of equal
    shares.  With 8 bands it is between −0.30, if the highest does all, and 0.52, if the lowest does.

    Arguments:
        means: The contributions ψ, with shape (M,).
        beta: The weight of a band over that of the one below.

    Example:
        >>> lowest = torch.eye(8)[0]
        >>> [round(score(each), 2) for each in (lowest, lowest.flip(0), torch.ones(8))]
        [0.52, -0.3, 0.0]
    """
    weights = beta ** torch.arange(len(means), dtype=torch.float64)
    norm = weights.norm()
    level = weights.mean() / norm
    raw = (weights * _shares(means.double())).sum() / norm
    return float((raw - level) / (1 - level))


def _shares(means: Tensor) -> Tensor:
    """(ψ − min ψ) / Σ (ψ − min ψ); equal shares if all are equal."""
    above = means.double() - means.min()
    total = above.sum()
    return above / total if total > 0 else torch.full_like(above, 1 / len(above))


def _check_efficiency(indices: Tensor, values: Tensor, contributions: Tensor) -> float:
    """By how much the sum of contributions misses v(all) − v(none), relatively."""
    whole = values[-1] - values[0]
    lost = (contributions.sum(dim=0) - whole).abs() / (1 + values.abs().amax(dim=0))
    worst = int(lost.argmax())
    require(
        float(lost[worst]) <= 1e-9,
        law="contributions of bands sum to the payoff of all less that of none",
        came=f"of test image {int(indices[worst])} they are off by {lost[worst]:.3g}",
    )
    return float(lost[worst])


def _baseline(
    subject: Subject, others: Subject, kind: Literal["zero", "noise", "image"], seed: int
) -> Tensor:
    """What stands for absent bands, an image for each: the same in any batch and any order."""
    images = subject.images.double()
    if kind == "zero":
        return torch.zeros_like(images)
    drawn = []
    order = others.indices.argsort(stable=True)
    for index in subject.indices.tolist():
        key = f"{seed}|shapley|{index}".encode()
        number = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        generator = torch.Generator().manual_seed(number)
        if kind == "noise":
            noise = torch.randn(subject.shape, generator=generator, dtype=torch.float64)
            drawn.append(noise / 2)
            continue
        choices = order[others.indices[order] != index]
        if not len(choices):
            drawn.append(torch.zeros(subject.shape, dtype=torch.float64))
            continue
        at = choices[int(torch.randint(len(choices), (), generator=generator))]
        drawn.append(others.images[at].double())
    return torch.stack(drawn)
