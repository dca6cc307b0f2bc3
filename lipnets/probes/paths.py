"""How the outputs of a network vary along straight lines from image to image, frequency by frequency.

Here a frequency is one of the function, not of images: how often the outputs go up and down for
each unit of distance, whatever the images look like.

References:
    | Spectral Bias in Practice: The Role of Function Frequency in Generalization
    | (Fridovich-Keil, Gontijo-Lopes & Roelofs, 2022) https://arxiv.org/abs/2110.02424

What differs: frequencies are cycles for each unit of ℓ2 distance, so that lines of different
lengths can be averaged.
"""

__all__ = ["paths"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs, require
from .subject import Subject

_IMAGES = 1000  # that lines may join, evenly spaced

presets("paths", quick={"lines": 32, "points": 48}, full={"lines": 1000, "points": 256})


@registry.register
def paths(lines: int = 200, points: int = 64, seed: int = 0) -> Probe:
    """Builds the probe of outputs along straight lines between images.

    Half of the lines join images `"within"` a class, half `"between"` two.  Of the outputs p(s) at the
    distance s from the first image, once the `"logits"` and once the `"probabilities"`, the function
    g(s) = ‖p(s) − p(0)‖ is sampled at even steps, less its mean, and weighted with a Hann window.  For
    each kind of line and of output it yields

    - `path_power`, the mean of the spectra of g: the detail `power` is a density at the `frequencies`, in
      cycles per ℓ2 pixel; its value is the area below it, about the variance of g;
    - `path_centroid`, the mean frequency, weighted with the power: the shape, whatever the scale;
    - `path_slope`, the largest ‖p(s′) − p(s)‖ / (s′ − s) of neighbours, attained, with its `limit` if
      one is proved: L for logits, and L/2 for probabilities.

    Lines with outputs that are not finite are left out.

    Arguments:
        lines: The number of lines.
        points: The number of points on each, at least 4, both ends among them.
        seed: Which pairs of images are joined.

    Raises:
        ValueError: If there are fewer than 4 points.
    """
    if points < 4:
        raise ValueError(f"'points' should be at least 4, got {points}.")

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(_IMAGES).finite()
        kinds = _pairs(subject, lines, seed)
        lengths = {
            kind: (subject.images[b].double() - subject.images[a].double()).flatten(1).norm(dim=1)
            for kind, (a, b) in kinds.items()
        }
        if not lengths:
            return
        longest = max(float(each.max()) for each in lengths.values())
        # Up to half of the sampling rate of the longest line, at half of its resolution.
        frequencies = torch.arange(1, points - 1).double() / (2 * longest)
        closest, checked = 0.0, 0
        for kind, (a, b) in kinds.items():
            start = subject.at(a)
            pairs = Pairs(start)
            logits = _outputs(start, subject.images[b].double(), points, pairs, kind)
            whole = logits.isfinite().all(dim=2).all(dim=0)  # lines that no output is lost on
            if not whole.any():
                continue
            a, start, logits = a[whole], start.at(whole.nonzero().flatten()), logits[:, whole]
            lengths[kind] = lengths[kind][whole]
            for name, outputs in (
                ("logits", logits),
                ("probabilities", logits.softmax(dim=2)),
            ):
                limit = None
                if subject.proved:  # the Jacobian of softmax, diag(p) − ppᵀ, has norm ½ at most
                    factor = 1.0 if name == "logits" else 0.5
                    limit = factor * subject.certificate.lipschitz
                slope = _slope(start, outputs, lengths[kind], limit, kind)
                if limit:
                    closest, checked = max(closest, slope / limit), checked + outputs.shape[0] - 1
                details = {"outputs": name, "lines": kind, "seed": seed, "points": points}
                count = len(a)
                yield subject.record(
                    "path_slope", slope, "1", kind="attained", limit=limit, pairs=count, **details
                )
                power = _power(outputs, lengths[kind], frequencies)
                area = float(power.sum() / (2 * longest))
                yield subject.record(
                    "path_power",
                    area,
                    "1",
                    kind="measured",
                    frequencies=frequencies.tolist(),
                    power=power.tolist(),
                    pairs=count,
                    **details,
                )
                total = float(power.sum())
                center = float((frequencies * power).sum()) / total if total > 0 else 0.0
                unit = "cycles per l2 pixel"
                yield subject.record("path_centroid", center, unit, count, **details)
            yield from pairs.records(f"path ({kind} a class)")
        if subject.proved:
            yield subject.record(
                "check/paths",
                closest,
                "1",
                checked,
                says="along straight lines, logits change by at most L for each unit of distance, "
                "and probabilities by half of it; closest: the largest share of that limit",
            )

    return probe


def _pairs(subject: Subject, lines: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Positions of the images that are joined; the same whatever the order of images."""
    generator = torch.Generator().manual_seed(seed)
    order = subject.indices.argsort(stable=True)
    labels = subject.labels[order]
    alike = labels[:, None] == labels
    found = {}
    for kind, chosen in (("within", alike), ("between", ~alike)):
        candidates = chosen.triu(1).nonzero()  # (pairs, 2)
        if not len(candidates):
            continue
        count = min((lines + 1) // 2, len(candidates))
        some = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
        a, b = order[some[:, 0]], order[some[:, 1]]
        apart = (subject.images[a] != subject.images[b]).flatten(1).any(dim=1)
        if apart.any():
            found[kind] = (a[apart], b[apart])
    return found


def _outputs(start: Subject, ends: Tensor, points: int, pairs: Pairs, kind: str) -> Tensor:
    """The logits at even steps from images to others, with shape (points, N, K)."""
    first, found = start.images.double(), [start.logits]
    for i in start.track(range(1, points), f"lines {kind} a class"):
        images = first.lerp(ends, i / (points - 1))
        logits = start.run(images)
        pairs.check(images, logits, f"{i}/{points - 1} of the way to an image {kind} its class")
        found.append(logits)
    return torch.stack(found)


def _slope(
    start: Subject, outputs: Tensor, lengths: Tensor, limit: float | None, kind: str
) -> float:
    """The largest slope between neighbours on a line, which is not above its limit."""
    step = lengths / (len(outputs) - 1)
    slopes = ((outputs[1:] - outputs[:-1]).norm(dim=2) / step).amax(dim=0)
    worst = int(slopes.argmax())
    if limit is not None:
        size = float(outputs.norm(dim=2).max()) / float(step[worst])  # of what is rounded
        require(
            float(slopes[worst]) <= limit * (1 + 1e-9) + 1e-12 * size,
            law="outputs change by at most L for each unit of distance",
            came=f"they change by {slopes[worst]:.9g} on a line {kind} a class from test image "
            f"{int(start.indices[worst])}, above {limit:.9g}",
        )
    return float(slopes[worst])


def _power(outputs: Tensor, lengths: Tensor, frequencies: Tensor) -> Tensor:
    """The mean over lines of the one-sided power density of ‖p(s) − p(0)‖, at each frequency.

    With samples g_n at s_n, the window w and Δ = s_1 − s_0 it is 2Δ |Σ w_n (g_n − ḡ) e^{−2πi f s_n}|² / Σ w_n²:
    its integral is the mean of w²(g − ḡ)² over that of w².
    """
    count = len(outputs)
    values = (outputs - outputs[0]).norm(dim=2)  # (points, N)
    places = torch.arange(count).double() / (count - 1)
    window = torch.hann_window(count, periodic=False, dtype=torch.float64)
    weighted = window[:, None] * (values - values.mean(dim=0))
    total = torch.zeros_like(frequencies)
    for line, length in zip(weighted.mT, lengths.tolist(), strict=True):
        angles = 2 * math.pi * length * frequencies[:, None] * places
        square = (angles.cos() @ line).square() + (angles.sin() @ line).square()
        total += 2 * length / (count - 1) * square / window.square().sum()
    return total / len(lengths)
