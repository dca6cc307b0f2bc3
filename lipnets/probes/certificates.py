"""What every kind of certificate gives, side by side, as records of the probe `certified`."""

__all__ = ["gloro", "kinds", "refined", "top_classes"]

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..bounds import NotCertifiedError
from ..certify import Certificate
from ..metrics import CertifiedCurve
from ..records import Record
from .invariants import require
from .kinds import joint, lead_over_bottom, per_logit, set_radii
from .subject import Subject

_ROUNDING = 1e-9  # of leads: far above that of float64


def kinds(subject: Subject, certificate: Certificate, radii: Sequence[float]) -> Iterator[Record]:
    """What coarser certificates give, and that they give no more."""
    yield from _given(subject, "pairwise", subject.radii, radii)
    for name, coarser in (("joint", joint(certificate)), ("per_logit", per_logit(certificate))):
        if coarser is not None:
            found = coarser.radii_of(subject.logits, subject.labels)
            yield from _given(subject, name, found, radii)
            yield _ordered(subject, name, found, "pairwise", subject.radii)


def refined(
    subject: Subject, certificate: Certificate, radii: Sequence[float], local: int, tightened: int
) -> Iterator[Record]:
    """What finer certificates give on some images, and the same images without."""

    def by_layers(some: Subject) -> Tensor:
        return certificate.tightened().radii_of(some.logits, some.labels)

    def around(some: Subject) -> Tensor:
        batches = list(zip(some.images.split(64), some.labels.split(64), strict=True))
        return torch.cat(
            [certificate.local_radii(*batch) for batch in subject.track(batches, "local radii")]
        )

    told = {len(subject)}  # the numbers of images of which it is known what they have without
    for name, limit, refine in (("tightened", tightened, by_layers), ("local", local, around)):
        if not limit:
            continue
        some = subject.sample(limit)
        try:
            found = refine(some)
        except NotCertifiedError as error:
            yield subject.record("certificate_refused", 1.0, "1", certificate=name, says=str(error))
            continue
        if len(some) not in told:
            told.add(len(some))
            yield from _given(some, "pairwise", some.radii, radii)
        yield from _given(some, name, found, radii)
        yield _ordered(some, "pairwise", some.radii, name, found)


def _given(subject: Subject, name: str, found: Tensor, radii: Sequence[float]) -> Iterator[Record]:
    """What a certificate gives."""
    details = {"certificate": name, "kind": "proved"}
    for radius in radii:
        yield subject.share("certified_accuracy_by", found > radius, radius=radius, **details)
    mean = CertifiedCurve.of(found, math.sqrt(math.prod(subject.shape))).integral
    yield subject.record("mean_radius_by", mean, "l2 pixels", len(subject), **details)


def _ordered(subject: Subject, coarse: str, less: Tensor, fine: str, more: Tensor) -> Record:
    """Checks that a finer certificate gives no smaller radius."""
    positive = less > 0
    for i in (positive & ~(less <= more * (1 + _ROUNDING))).nonzero().flatten().tolist():
        require(
            False,
            law=f"radii that are {fine} are not below those that are {coarse}",
            came=f"those of test image {int(subject.indices[i])} are {more[i]:.9g} and {less[i]:.9g}",
        )
    shares = (less / more)[positive & more.isfinite()]
    return subject.record(
        f"check/{fine}_{coarse}",
        float(shares.max()) if len(shares) else 0.0,
        "1",
        int(positive.sum()),
        says=f"no {coarse.replace('_', ' ')} radius is above the {fine.replace('_', ' ')} one of "
        "the same image; closest: the largest share of it",
    )


def gloro(subject: Subject, certificate: Certificate, radii: Sequence[float]) -> Iterator[Record]:
    """Verified robust accuracy, which counts what a radius above ε counts."""
    logits, labels = subject.logits, subject.labels
    bare, slopes = certificate.unrounded(logits, labels), certificate.slopes
    worst = 0.0
    for radius in radii:
        lead = lead_over_bottom(logits, slopes, labels, radius)
        yield subject.share("vra", lead > 0, radius=radius, kind="estimate")
        size = 1 + logits.nan_to_num(posinf=0, neginf=0).abs().amax(dim=1)
        size = size + radius * slopes[labels].amax(dim=1)
        off = (lead.abs() / size)[lead.isfinite() & ((lead > 0) != (bare > radius))]
        worst = max(worst, float(off.max()) if len(off) else 0.0)
    require(
        worst < _ROUNDING,
        law="a class wins against ⊥ if its radius is above ε, and else loses or ties",
        came=f"they differ at a lead of {worst:.6g}",
    )
    yield subject.record(
        "check/gloro",
        worst / _ROUNDING,
        "1",
        len(labels) * len(radii),
        says="the class ⊥ of GloRo nets rejects what has no radius above ε, and nothing else; "
        "closest: the largest lead at which they differ, as a share of what rounding explains",
    )


def top_classes(
    subject: Subject, certificate: Certificate, radii: Sequence[float], numbers: Sequence[int]
) -> Iterator[Record]:
    """What is certified to stay among several classes."""
    labels = subject.labels
    for top in sorted({number for number in numbers if number < certificate.num_classes}):
        inside = certificate.radii_of(subject.logits, labels, top=top)
        members, whole = set_radii(certificate, subject.logits, top)
        whole = whole.where((members == labels[:, None]).any(dim=1), 0.0)
        for radius in radii:
            for keeps, found in (("label", inside), ("set", whole)):
                details = {"radius": radius, "top": top, "keeps": keeps, "kind": "proved"}
                yield subject.share("certified_accuracy_top", found > radius, **details)
