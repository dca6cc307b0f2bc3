"""Clean and certified accuracy."""

__all__ = ["certified"]

import math
from collections.abc import Iterator, Sequence

import torch

from ..metrics import (
    RADII,
    CertifiedCurve,
    bootstrap_mean,
    correct,
    mean_radius_of_correct,
    predictions,
)
from ..records import Record
from ._registry import Probe, registry
from .invariants import check_radii
from .subject import Subject
from .uncertified import Uncertified


@registry.register
def certified(radii: Sequence[float] = RADII, examples: int = 15) -> Probe:
    """Builds the probe of what is right, and of what is proved to stay right.

    It yields `accuracy`; `certified_accuracy` at each radius, strict; `certified_curve`, with all
    radii of certified images in ascending order as `steps`; `mean_radius` over all images, where
    wrong ones count as 0, and `mean_radius_of_correct`; `bound/network`; and an `example` for each
    of some images, from the largest radius to the smallest at even steps, then wrong ones.

    Radii beyond the diameter of [0, 1]^(C×H×W), of classes that no image can tell apart, are clipped
    to it and counted as `infinite`.  All records are `vacuous` if there is one class only.

    Arguments:
        radii: The radii, ℓ2 in pixels of [0, 1].
        examples: The number of examples, at most.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        flags = {"vacuous": True} if subject.certificate.vacuous else {}
        proved = {"kind": "proved", **flags}
        right = correct(subject.logits, subject.labels)
        diameter = math.sqrt(math.prod(subject.shape))
        infinite = int((subject.radii > diameter).sum())
        clipped = subject.radii.clamp(max=diameter)
        curve = CertifiedCurve.of(clipped)
        check_radii(clipped, right, curve.integral, subject.indices)

        count = len(subject)
        yield subject.share("accuracy", right, kind="measured", **flags)
        yield from _columns(subject)
        if isinstance(subject.certificate, Uncertified):
            yield subject.record("uncertified", 1.0, "1", says=subject.certificate.reason)
            return
        for radius in radii:
            safe = subject.radii > radius
            yield subject.share("certified_accuracy", safe, radius=radius, **proved)
        steps = list(curve.steps)
        area = curve.integral
        yield subject.record("certified_curve", area, "l2 pixels", count, steps=steps, **proved)
        low, high = bootstrap_mean(clipped.clamp(min=0))
        proved |= {"infinite": infinite}
        yield subject.record("mean_radius", area, "l2 pixels", count, low=low, high=high, **proved)
        mean = mean_radius_of_correct(clipped)
        yield subject.record("mean_radius_of_correct", mean, "l2 pixels", len(steps), **proved)
        bound = subject.certificate.bound
        yield subject.record("bound/network", bound.value, "1", kind="proved", rule=bound.rule)
        yield from _examples(subject, examples)

    return probe


def _columns(subject: Subject) -> Iterator[Record]:
    """What each image is given: another run is compared with it image by image."""
    predicted = predictions(subject.logits)
    for name, values, unit in (
        ("label", subject.labels, "class"),
        ("prediction", predicted, "class"),
        ("radius", subject.radii, "l2 pixels"),
    ):
        yield subject.column(name, values, unit)


def _examples(subject: Subject, count: int) -> Iterator[Record]:
    order = subject.radii.argsort(descending=True, stable=True)
    wrong = order[subject.radii[order] <= 0]
    wrong = wrong[: min(len(wrong), count // 5)]
    right = order[subject.radii[order] > 0]
    picks = torch.linspace(0, len(right) - 1, min(count - len(wrong), len(right))).round().long()
    predicted = predictions(subject.logits)
    for i in [*right[picks].tolist(), *wrong.tolist()]:
        yield subject.record(
            "example",
            float(subject.radii[i]),
            "l2 pixels",
            1,
            index=int(subject.indices[i]),
            label=int(subject.labels[i]),
            prediction=int(predicted[i]),
            kind="proved",
        )
