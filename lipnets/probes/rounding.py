"""What the rounding of a program costs its certificate, arithmetic by arithmetic."""

__all__ = ["rounding"]

from collections.abc import Iterator, Sequence

import torch

from ..bounds import NotCertifiedError
from ..certify import Certificate
from ..metrics import RADII
from ..records import Record
from ..rounding import arithmetic, float32_products
from ._registry import Probe, registry
from .subject import Subject


@registry.register
def rounding(
    arithmetics: Sequence[str] = ("float64", "float32", "tf32", "bfloat16"),
    radii: Sequence[float] = RADII[:4],
    limit: int | None = 200,
) -> Probe:
    """Builds the probe of what is left of a certificate in each arithmetic: see `lipnets.rounding`.

    For each arithmetic it yields `rounding_loss`, the median share of a radius that is lost to what
    the program rounds, over the images that would have one if nothing were rounded; and
    `certified_accuracy_in` at each radius.  The detail `arithmetic` names it, and `assumptions` what
    its bounds rest on beside conventional arithmetic; those of float32 say in `products` what torch's
    float32 products were where this ran, "tf32" or "bfloat16" if its settings allowed that.  An arithmetic in which the network cannot be
    certified is a record `rounding_refused`, whose detail `says` why.

    Arguments:
        arithmetics: The names of arithmetics, of `lipnets.rounding.ARITHMETICS`.
        radii: The radii, ℓ2 in pixels of [0, 1].
        limit: The number of images, evenly spaced; None for all.

    Raises:
        ValueError: If there is no arithmetic of a name.
    """
    for name in arithmetics:
        arithmetic(name)

    def probe(subject: Subject) -> Iterator[Record]:
        subject, certificate = subject.sample(limit), subject.proved
        if not certificate:
            return
        labels = subject.labels
        real = certificate.unrounded(subject.logits, labels)
        some = (real > 0) & real.isfinite()
        assumptions = sorted(certificate.assumptions)
        for name in subject.track(list(arithmetics), "arithmetics"):
            try:
                found = _radii(certificate, subject, name)
            except NotCertifiedError as error:
                if name == "float64":
                    raise
                yield subject.record("rounding_refused", 1.0, "1", arithmetic=name, says=str(error))
                continue
            details = {"arithmetic": name, "kind": "proved", "assumptions": assumptions}
            if name == "float32":
                details["products"] = float32_products(subject.images.device).name
            if some.any():
                lost = ((real - found) / real)[some].median().item()
                count = int(some.sum())
                yield subject.record("rounding_loss", lost, "fraction", count, **details)
            for radius in radii:
                yield subject.share(
                    "certified_accuracy_in", found > radius, radius=radius, **details
                )

    return probe


def _radii(certificate: Certificate, subject: Subject, name: str) -> torch.Tensor:
    """The radii of all images in an arithmetic, with activations measured batch by batch."""
    batches = zip(
        subject.logits.split(subject.batch_size),
        subject.labels.split(subject.batch_size),
        subject.images.split(subject.batch_size),
        strict=True,
    )
    return torch.cat(
        [
            certificate.radii_of(logits, labels, arithmetic=name, images=images)
            for logits, labels, images in batches
        ]
    )
