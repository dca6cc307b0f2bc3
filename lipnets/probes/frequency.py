"""Accuracy on images without their high, or their low, spatial frequencies."""

__all__ = ["frequency"]

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.filters import high_pass, low_pass, radial_frequency
from ..metrics import correct
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs, require
from .subject import Subject

presets("frequency", quick={"limit": 40}, full={"limit": None})

_ENERGIES = (0.1, 0.25, 0.5, 0.75, 0.9)


@registry.register
def frequency(limit: int | None = 200, energies: Sequence[float] = _ENERGIES) -> Probe:
    """Builds the probe of the frequencies that a network needs, and of those that suffice.

    For each radius r in cycles per image, from 0 to beyond the corners of the spectrum, it yields
    `filtered_accuracy` with the `filter`

    - `"low_pass"`, which keeps frequencies ρ ≤ r and the mean among them,
    - `"high_pass"`, which keeps ρ > r,
    - `"high_pass_and_mean"`, which keeps the mean as well: a network that has seen images of some
      brightness only is not asked about others.

    Filtered images are not clipped.  Details are the accuracy on `unfiltered` images, the share of the
    most common class, `chance`, and the mean share of the `energy` of an image, apart from its mean,
    that is left.  Of each filter it yields

    - `filter_area`, the area under its curve, as a mean over radii;
    - `half_accuracy_radius`, the least radius of `"low_pass"`, or the largest of the others, at which at
      least half of the accuracy is left; nothing if none is such;
    - `equal_energy_accuracy`, at shares of the energy, interpolated between radii: a few low frequencies
      hold most of the energy of most images, so that equal radii favour low-pass filters.

    Arguments:
        limit: The number of images, evenly spaced; None for all.
        energies: The shares of the energy at which filters are compared.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        images, labels = subject.images.double(), subject.labels
        levels = {
            "unfiltered": float(correct(subject.logits, labels).double().mean()),
            "chance": float(labels.bincount().max()) / len(subject),
        }
        last = math.ceil(radial_frequency(*subject.shape[-2:]).max().item())
        mean = images.mean(dim=(-2, -1), keepdim=True)
        pairs, closest = Pairs(subject), 0.0
        curves: dict[str, list[tuple[float, float]]] = {}
        for radius in subject.track(range(last + 1), "frequencies"):
            low, high = low_pass(images, radius), high_pass(images, radius)
            closest = max(closest, _check_parts(subject, low, high, radius))
            filtered = {"low_pass": low, "high_pass": high, "high_pass_and_mean": high + mean}
            for name, left in filtered.items():
                logits = subject.run(left)
                pairs.check(left, logits, f"a {name} filter at radius {radius}")
                right = correct(logits, labels)
                energy = _energy(high if "high" in name else low - mean, images - mean, name)
                curves.setdefault(name, []).append((energy, float(right.double().mean())))
                yield subject.share(
                    "filtered_accuracy",
                    right,
                    filter=name,
                    radius=radius,
                    energy=energy,
                    kind="measured",
                    **levels,
                )
        for name, curve in curves.items():
            yield from _summaries(subject, name, curve, levels["unfiltered"], energies)
        yield from pairs.records("filtered")
        yield subject.record(
            "check/filters",
            closest,
            "1",
            len(subject) * (last + 1),
            says="the low and high frequencies of an image, and their energies, sum to its own; "
            "closest: the largest error",
        )

    return probe


def _check_parts(subject: Subject, low: Tensor, high: Tensor, radius: int) -> float:
    """By how much parts, or their energies, miss the image: by next to nothing."""
    images = subject.images.double()
    energies = [part.flatten(1).norm(dim=1).square() for part in (low, high, images)]
    lost = (low + high - images).abs().flatten(1).amax(dim=1)
    lost = lost.maximum((energies[0] + energies[1] - energies[2]).abs() / (1 + energies[2]))
    index = int(lost.argmax())
    require(
        bool(lost[index] < 1e-9),
        law="an image is the sum of its low and high frequencies, and so is its energy",
        came=f"test image {int(subject.indices[index])} is off by {lost[index]:.3g} at "
        f"radius {radius}",
    )
    return float(lost[index])


def _energy(left: Tensor, whole: Tensor, name: str) -> float:
    """The mean share of energies that is left; of an image of one grey, all is low."""
    parts, wholes = (each.flatten(1).square().sum(dim=1) for each in (left, whole))
    nothing = torch.full_like(wholes, float(name == "low_pass"))
    flat = wholes <= 1e-20 * left[0].numel()
    return float(torch.where(flat, nothing, parts / wholes.where(~flat, 1.0)).mean())


def _summaries(
    subject: Subject,
    name: str,
    curve: Sequence[tuple[float, float]],
    unfiltered: float,
    energies: Sequence[float],
) -> Iterator[Record]:
    """What a curve of energies and accuracies, one for each radius, comes to."""
    count, details = len(subject), {"filter": name, "kind": "measured"}
    shares = [share for _, share in curve]
    area = float(np.trapezoid(shares)) / (len(shares) - 1) if len(shares) > 1 else shares[0]
    yield subject.record("filter_area", area, "fraction", count, **details)
    good = [radius for radius, share in enumerate(shares) if share >= unfiltered / 2]
    if good:
        radius = float(good[0] if name == "low_pass" else good[-1])
        yield subject.record("half_accuracy_radius", radius, "cycles per image", count, **details)
    if name == "high_pass":
        return  # it loses the mean as well, which no share of the energy tells
    # Energies rise with the radius, or fall; where several radii leave the same, the one that
    # keeps most comes last.
    lefts, rights = zip(*sorted(curve), strict=True)
    for energy in energies:
        value = float(np.interp(energy, lefts, rights))
        yield subject.record(
            "equal_energy_accuracy",
            value,
            "fraction",
            count,
            filter=name,
            energy=energy,
            kind="estimate",
            says="interpolated between radii",
        )
