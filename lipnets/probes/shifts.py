"""Accuracy on other images of the same classes."""

__all__ = ["shifts"]

import math
from collections.abc import Iterator

import torch

from ..data.shifts import natural_shifts
from ..metrics import correct
from ..records import Record
from ._registry import Probe, presets, registry
from .subject import Subject


@registry.register
def shifts(radius: float = 36 / 255, limit: int | None = 2000) -> Probe:
    """Builds the probe of natural shifts: see `lipnets.data.shifts` for which there are.

    For each it yields `shifted_accuracy` and `shifted_certified_accuracy`, with the `shift`, its
    `source`, the number of its images and the interval, and `shift_gap`: accuracy on the test split
    minus that on the shift, with the 95 % interval of the difference of two independent shares
    (Newcombe's of two Wilson intervals).  `shifts` counts those that were found, and `says` so.

    Arguments:
        radius: The radius, ℓ2 in pixels of [0, 1].
        limit: The number of images of a shift, evenly spaced; None for all.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        data = str(subject.provenance.get("data", ""))
        found = [
            shift
            for shift in natural_shifts(data, subject.data_dir)
            if tuple(shift.split.images.shape[1:]) == subject.shape
            and int(shift.split.labels.max()) < subject.certificate.num_classes
        ]
        right = correct(subject.logits, subject.labels)
        clean, count = int(right.sum()), len(right)
        for shift in subject.track(found, "natural shifts"):
            size = len(shift.split)
            kept = min(limit or size, size)
            part = shift.split[torch.arange(kept) * size // kept]
            logits = subject.run(part.images)
            hits = correct(logits, part.labels)
            # N of a shift is its own: `images` says what was taken of the test split.
            details = {
                "shift": shift.name,
                "source": shift.source,
                "of_shift": f"{kept} of {size}, evenly spaced" if kept < size else "all",
            }
            yield subject.share(
                "shifted_accuracy", hits, clean=clean / count, kind="measured", **details
            )
            if subject.proved:
                safe = subject.certificate.radii_of(logits, part.labels) > radius
                share = float((subject.radii > radius).double().mean())
                yield subject.share(
                    "shifted_certified_accuracy",
                    safe,
                    clean=share,
                    radius=radius,
                    kind="proved",
                    **details,
                )
            low, high = difference((clean, count), (int(hits.sum()), kept))
            gap = clean / count - int(hits.sum()) / kept
            yield subject.record(
                "shift_gap",
                gap,
                "fraction",
                kept,
                low=low,
                high=high,
                kind="measured",
                **details,
            )
        says = "found: " + ", ".join(shift.name for shift in found) if found else "none found"
        yield subject.record("shifts", float(len(found)), "1", says=says, kind="measured")

    return probe


presets("shifts", quick={"limit": 300}, full={"limit": None})


def difference(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """A 95 % interval of the difference of two shares, of independent examples.

    | Interval estimation for the difference between independent proportions (Newcombe, 1998), method 10
    | https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I

    Arguments:
        first: Successes and trials.
        second: Successes and trials.
    """
    (low1, high1), (low2, high2) = _wilson(*first), _wilson(*second)
    share1, share2 = first[0] / first[1], second[0] / second[1]
    gap = share1 - share2
    low = gap - math.hypot(share1 - low1, high2 - share2)
    high = gap + math.hypot(high1 - share1, share2 - low2)
    return low, high


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score."""
    z, share = 1.959963984540054, successes / trials
    middle = share + z**2 / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return (middle - reach) / scale, (middle + reach) / scale
