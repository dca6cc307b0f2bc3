"""Accuracy on images without their high, or their low, spatial frequencies."""

__all__ = ["frequency"]

import math
from collections.abc import Iterator

from ..data.filters import high_pass, low_pass, radial_frequency
from ..metrics import correct
from ..records import Record
from ._registry import Probe, registry
from .invariants import Pairs, require
from .subject import Subject


@registry.register
def frequency(limit: int | None = 1000) -> Probe:
    """Builds the probe of the frequencies that a network needs, and of those that suffice.

    For each radius r in cycles per image, from 0 to beyond the corners of the spectrum, it yields
    `filtered_accuracy` with the `filter` `"low_pass"`, which keeps frequencies ρ ≤ r and the mean
    among them, and `"high_pass"`, which keeps ρ > r.  Filtered images are not clipped.  Details are
    the accuracy on `unfiltered` images and the share of the most common class, `chance`.

    Arguments:
        limit: The number of images, evenly spaced; None for all.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        images, labels = subject.images.double(), subject.labels
        levels = {
            "unfiltered": float(correct(subject.logits, labels).double().mean()),
            "chance": float(labels.bincount().max()) / len(subject),
        }
        last = math.ceil(radial_frequency(*subject.shape[-2:]).max().item())
        pairs, closest = Pairs(subject), 0.0
        for radius in subject.track(range(last + 1), "frequencies"):
            low, high = low_pass(images, radius), high_pass(images, radius)
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
            closest = max(closest, float(lost[index]))
            for name, filtered in (("low_pass", low), ("high_pass", high)):
                logits = subject.run(filtered)
                pairs.check(filtered, logits, f"a {name} filter at radius {radius}")
                yield subject.share(
                    "filtered_accuracy",
                    correct(logits, labels),
                    filter=name,
                    radius=radius,
                    kind="measured",
                    **levels,
                )
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
