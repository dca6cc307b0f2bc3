"""How well the network tells images that it knows from those of no class it knows.

References:
    | A Baseline for Detecting Misclassified and Out-of-Distribution Examples (Hendrycks & Gimpel, 2017)
    | https://arxiv.org/abs/1610.02136
    | Energy-based Out-of-distribution Detection (Liu et al., 2020) https://arxiv.org/abs/2010.03759
"""

__all__ = ["detection", "scores"]

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..certify import Certificate
from ..data.unknown import CHANGED, SYNTHETIC, other_sets, unknown
from ..metrics import separation
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs
from .subject import Subject

_BARS = 24


@registry.register
def detection(
    radii: Sequence[float] = (36 / 255, 72 / 255, 108 / 255),
    limit: int = 1000,
    resamples: int = 500,
    seed: int = 0,
) -> Probe:
    """Builds the probe of out-of-distribution detection: see `lipnets.data.unknown` for the sets.

    For each set and each `score` it yields `detection/auroc` and `detection/fpr95`, by the conventions of
    `lipnets.metrics.detection`: test images are the positives, and scores are high for them.  Details are
    `against`, the set; its `family`: "noise", "changed" or "data"; how it was `prepared`; `unknown`, the number
    of its images; the ends `low` and `high` of a bootstrap interval, of both sides.

    `detection/certified_auroc` at each `radius` is what is left if somebody moves all images, known ones so that they
    seem unknown and unknown ones so that they seem known, by as much: the certified radius moves by no more.
    `detection/histogram` has the counts of both by certified radius, or by margin where nothing is proved.

    Scores that are not finite are a record `detection_refused`.  A single class tells nothing: no records.

    Arguments:
        radii: The radii of certified AUROC, ℓ2 in pixels of [0, 1].
        limit: The number of test images, and of images of other data sets, evenly spaced.
        resamples: The number of bootstrap samples.
        seed: Which draw, of noise and of samples.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        if subject.certificate.vacuous:
            return
        subject = subject.sample(limit)
        pairs = Pairs(subject)
        known = scores(subject.logits, subject.proved, subject.shape)
        for name, family, prepared, images in _sets(subject, limit, seed):
            logits = subject.run(images)
            if family != "data":
                pairs.check(images, logits, f"being replaced ({name})")
            found = scores(logits, subject.proved, subject.shape)
            details = {"against": name, "family": family, "unknown": len(images), "seed": seed}
            details |= {"prepared": prepared} if prepared else {}
            try:
                yield from _told_apart(subject, known, found, resamples, details)
                if subject.proved:
                    slack = max(
                        _slack(subject.logits, subject.proved), _slack(logits, subject.proved)
                    )
                    for radius in radii:
                        yield _certified(subject, known, found, radius, slack, details)
                yield _histogram(subject, known, found, details)
            except ValueError as error:
                yield subject.record("detection_refused", 1.0, "1", says=str(error), **details)
        yield from pairs.records("replaced")

    return probe


presets(
    "detection",
    quick={"limit": 200, "resamples": 300},
    full={"limit": 10_000, "resamples": 2000},
)


def scores(
    logits: Tensor, certificate: Certificate | None, shape: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Scores of images, high where they seem known.

    - "msp": the logarithm of the largest probability, −log(1 + Σ exp(−gaps)), which has no ties where
      probabilities round to 1;
    - "max_logit": the largest logit;
    - "energy": the logarithm of Σ exp(logits), which is minus the energy;
    - "margin": the largest logit minus the next;
    - "radius": the certified radius of the prediction, of networks that have one.

    The first, the fourth and the last do not change if a number is added to all logits.

    Arguments:
        logits: The logits, with shape (B, K), K > 1.
        certificate: The certificate, or None.
        shape: The shape of an image: radii are clipped to the diameter of [0, 1] to the power of it.
    """
    logits = logits.double()
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    gaps = first[:, None] - logits.sort(dim=1, descending=True).values[:, 1:]
    found = {
        "msp": -torch.log1p(torch.exp(-gaps).sum(dim=1)),
        "max_logit": first,
        "energy": logits.logsumexp(dim=1),
        "margin": first - second,
    }
    if certificate:
        radii = certificate.radii_of(logits, logits.nan_to_num().argmax(dim=1))
        lost = ~logits.isfinite().all(dim=1)
        radii = radii.clamp(max=math.sqrt(math.prod(shape)))
        found["radius"] = radii.masked_fill(lost, math.nan)  # it has none, rather than 0
    return found


def _sets(subject: Subject, limit: int, seed: int) -> Iterator[tuple[str, str, str, Tensor]]:
    """Unknown images: the name of each set, its family, what was done to it, and its images."""
    made = [(name, "noise") for name in SYNTHETIC] + [(name, "changed") for name in CHANGED]
    for name, family in subject.track(made, "unknown images"):
        if name != "pair_average" or len(subject) > 1:
            images = unknown(name, subject.images, subject.indices, seed)
            yield name, family, "", images
    data = str(subject.provenance.get("data", ""))
    for other in other_sets(subject.data_dir, data, subject.shape, limit):
        yield other.name, "data", other.prepared, other.images


def _told_apart(
    subject: Subject,
    known: dict[str, Tensor],
    found: dict[str, Tensor],
    resamples: int,
    details: dict[str, object],
) -> Iterator[Record]:
    for score, ours in known.items():
        apart = separation(ours, found[score], resamples=resamples)
        for name, value, ends in (
            ("auroc", apart.auroc, apart.auroc_ends),
            ("fpr95", apart.fpr, apart.fpr_ends),
        ):
            more = {"score": score, "low": ends[0], "high": ends[1], "kind": "measured"}
            yield subject.record(
                f"detection/{name}", value, "fraction", len(subject), **more, **details
            )


def _certified(
    subject: Subject,
    known: dict[str, Tensor],
    found: dict[str, Tensor],
    radius: float,
    slack: float,
    details: dict[str, object],
) -> Record:
    """AUROC if all images are moved for the worst: the radius is 1-Lipschitz, up to rounding."""
    moved = separation(
        known["radius"] - radius - slack, found["radius"] + radius + slack, resamples=2
    )
    more = {"score": "radius", "radius": radius, "kind": "proved", **details}
    return subject.record(
        "detection/certified_auroc", moved.auroc, "fraction", len(subject), **more
    )


def _slack(logits: Tensor, certificate: Certificate) -> float:
    """What rounding may change in radii, at most."""
    predicted = logits.argmax(dim=1)
    lost = certificate.unrounded(logits, predicted) - certificate.radii_of(logits, predicted)
    lost = lost[lost.isfinite()]
    return max(0.0, float(lost.max())) if len(lost) else 0.0


def _histogram(
    subject: Subject, known: dict[str, Tensor], found: dict[str, Tensor], details: dict[str, object]
) -> Record:
    score = "radius" if "radius" in known else "margin"
    ours, theirs = known[score], found[score]
    end = float(torch.cat([ours, theirs]).amax()) or 1.0
    counts = [torch.histc(each, _BARS, 0.0, end).int().tolist() for each in (ours, theirs)]
    more = {"score": score, "end": end, "known": counts[0], "other": counts[1], **details}
    middle = float(found[score].median())
    unit, count = ("l2 pixels", len(subject)) if score == "radius" else ("1", None)
    return subject.record("detection/histogram", middle, unit, count, kind="measured", **more)
