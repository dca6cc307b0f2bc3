"""What is proved against perturbations of each band of spatial frequencies."""

__all__ = ["bands"]

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..metrics import RADII
from ..records import Record
from ._registry import Probe, registry
from .invariants import require
from .subject import Subject


@registry.register
def bands(edges: Sequence[float] = (0.125, 0.25, 0.375), radii: Sequence[float] = RADII) -> Probe:
    """Builds the probe of certificates by bands of frequencies: see `lipnets.bands`.

    For each band, and for all frequencies at once, it yields `band_certified_accuracy` at each
    radius, and `band_mean_radius`, the mean of certified radii where wrong ones count as 0.  Details
    are `begin` and `end`, in cycles per pixel: the lower one is in the band, the upper one not.

    Images that are too large for their waves to be written down, or not images, yield nothing.

    Arguments:
        edges: The frequencies between bands, in cycles per pixel, ascending.
        radii: The radii, ℓ2 in pixels of [0, 1].

    Raises:
        ValueError: If edges do not ascend from above 0.
    """
    if any(low >= high for low, high in pairwise([0.0, *edges])):
        raise ValueError(f"'edges' should ascend from above 0, got {tuple(edges)}.")

    def probe(subject: Subject) -> Iterator[Record]:
        # The corners of the spectrum lie at √½; a band that ends above them is open.
        ends = [0.0, *(edge for edge in edges if edge < math.sqrt(0.5)), 1.0]
        whole = subject.radii
        certificate = subject.proved
        if not certificate or len(subject.shape) != 3 or math.prod(subject.shape) > 4096:
            return
        diameter = math.sqrt(math.prod(subject.shape))
        chosen = [*pairwise(ends), (0.0, 1.0)]
        for low, high in subject.track(chosen, "bands"):
            found = whole
            if (low, high) != (0.0, 1.0):
                confined = certificate.confined_to((low, high))
                found = confined.radii_of(subject.logits, subject.labels)
            behind = (whole.clamp(min=0) - found.clamp(min=0)).max().item()
            require(
                behind <= 1e-9,
                law="a band of frequencies allows no more than all of them",
                came=f"a radius that is smaller by {behind:.3g} for frequencies in [{low}, {high})",
            )
            details = {"begin": low, "end": high, "kind": "proved"}
            mean = found.clamp(0, diameter).mean().item()
            yield subject.record("band_mean_radius", mean, "l2 pixels", len(subject), **details)
            for radius in radii:
                safe = found > radius
                yield subject.share("band_certified_accuracy", safe, radius=radius, **details)

    return probe
