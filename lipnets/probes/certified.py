"""Clean and certified accuracy."""

__all__ = ["certified"]

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..certify import Certificate
from ..metrics import (
    RADII_LINF,
    CertifiedCurve,
    bootstrap_mean,
    correct,
    mean_radius_of_correct,
    predictions,
    standard_radii,
)
from ..records import Record
from ._registry import Probe, presets, registry
from .certificates import gloro, kinds, refined, top_classes
from .invariants import check_radii
from .subject import Subject
from .uncertified import Uncertified


@registry.register
def certified(
    radii: Sequence[float] | None = None,
    examples: int = 15,
    top: Sequence[int] = (2, 3, 5),
    local: int = 0,
    tightened: int = 0,
) -> Probe:
    """Builds the probe of what is right, and of what is proved to stay right.

    It yields `accuracy`; `certified_accuracy` at each radius, strict; `certified_curve`, with all
    radii of certified images in ascending order as `steps`; `mean_radius` over all images, where
    wrong ones count as 0, and `mean_radius_of_correct`; `bound/network`; and an `example` for each
    of some images, from the largest radius to the smallest at even steps, then wrong ones.  Of every
    image, it yields the columns `image/label`, `image/prediction` and `image/radius`.

    Besides, at the same radii:

    - `certified_accuracy_by` and `mean_radius_by` say what each `certificate` gives: "joint", "per_logit"
      and "pairwise", see `kinds`; and on some images "tightened" and "local", which take time.
    - `vra`, what GloRo nets call verified robust accuracy: an "estimate", since nothing is subtracted for
      rounding; `check/gloro` says that it is the same as a radius above ε.
    - `certified_accuracy_top`: the label stays among the `top` classes ("label" in the detail `keeps`), or is
      among them and all of them stay ("set").
    - `certified_accuracy_linf` and `certified_accuracy_l1`, by inclusion of balls: loose.

    Radii beyond the diameter of [0, 1]^(C×H×W), of classes that no image can tell apart, are clipped
    to it and counted as `infinite`.  All records are `vacuous` if there is one class only.  Outputs that are
    not finite are wrong, and counted in `not_finite` if there are any.

    Arguments:
        radii: The radii, ℓ2 in pixels of [0, 1]; by default those that the field reports on the data.
        examples: The number of examples, at most.
        top: The numbers of classes; those below that of all are examined.
        local: The number of images whose radii are found from what the network does around them.
        tightened: The number of images that are certified by layers bounded together.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        flags = {"vacuous": True} if subject.certificate.vacuous else {}
        at = standard_radii(subject.provenance.get("data", "")) if radii is None else radii
        right = correct(subject.logits, subject.labels)
        yield subject.share("accuracy", right, kind="measured", **flags)
        yield from _columns(subject)
        lost = ~subject.logits.isfinite().all(dim=1)
        if lost.any():
            yield subject.share("not_finite", lost, kind="measured")
        if isinstance(subject.certificate, Uncertified):
            yield subject.record("uncertified", 1.0, "1", says=subject.certificate.reason)
            return
        yield from _curve(subject, subject.certificate, right, at, flags)
        yield from _examples(subject, examples)
        if not flags:
            yield from kinds(subject, subject.certificate, at)
            yield from refined(subject, subject.certificate, at, local, tightened)
            yield from gloro(subject, subject.certificate, at)
            yield from top_classes(subject, subject.certificate, at, top)
            yield from _norms(subject, subject.certificate, at)

    return probe


presets(
    "certified",
    quick={"local": 0, "tightened": 0},
    full={"local": 500, "tightened": 500},
)


def _columns(subject: Subject) -> Iterator[Record]:
    """What each image is given: another run is compared with it image by image."""
    predicted = predictions(subject.logits)
    for name, values, unit in (
        ("label", subject.labels, "class"),
        ("prediction", predicted, "class"),
        ("radius", subject.radii, "l2 pixels"),
    ):
        yield subject.column(name, values, unit)


def _curve(
    subject: Subject,
    certificate: Certificate,
    right: Tensor,
    radii: Sequence[float],
    flags: dict[str, bool],
) -> Iterator[Record]:
    """Certified accuracy, its curve and its averages."""
    count, diameter = len(subject), math.sqrt(math.prod(subject.shape))
    clipped = subject.radii.clamp(max=diameter)
    curve = CertifiedCurve.of(clipped)
    check_radii(clipped, right, curve.integral, subject.indices)
    proved = {"kind": "proved", **flags}
    for radius in radii:
        yield subject.share("certified_accuracy", subject.radii > radius, radius=radius, **proved)
    steps = list(curve.steps)
    area, l2 = curve.integral, "l2 pixels"
    yield subject.record("certified_curve", area, l2, count, steps=steps, **proved)
    low, high = bootstrap_mean(clipped.clamp(min=0))
    proved |= {"infinite": int((subject.radii > diameter).sum()), "diameter": diameter}
    yield subject.record("mean_radius", area, l2, count, low=low, high=high, **proved)
    mean = mean_radius_of_correct(clipped)
    yield subject.record("mean_radius_of_correct", mean, l2, len(steps), **proved)
    bound = certificate.bound
    yield subject.record("bound/network", bound.value, "1", kind="proved", rule=bound.rule)


def _norms(subject: Subject, certificate: Certificate, radii: Sequence[float]) -> Iterator[Record]:
    """Certified accuracy in balls of other norms, which are within one of ℓ2."""
    linf = certificate.radii_of(subject.logits, subject.labels, norm="linf")
    l1 = certificate.radii_of(subject.logits, subject.labels, norm="l1")
    for norm, found, ends in (("linf", linf, RADII_LINF), ("l1", l1, radii)):
        for radius in ends:
            details = {"radius": radius, "norm": norm, "kind": "proved"}
            yield subject.share(f"certified_accuracy_{norm}", found > radius, **details)


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
