"""Accuracy on corrupted images."""

__all__ = ["corruptions"]

from collections.abc import Iterator, Sequence

import torch

from ..data import corruptions as catalogue
from ..metrics import correct
from ..records import Record
from ._registry import Probe, registry
from .invariants import Pairs
from .subject import Subject


@registry.register
def corruptions(
    names: Sequence[str] | None = None,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    radius: float = 36 / 255,
    limit: int | None = 1000,
    seed: int = 0,
) -> Probe:
    """Builds the probe of what noise, blur and the like do to accuracy.

    For each corruption and severity it yields `corrupted_accuracy`, the share of corrupted images
    that are classified right, and `corrupted_certified_accuracy`, of those certified to stay so
    within a radius of the corrupted image.  Details are the `corruption`, the `severity`, what the share is of `clean`
    images, and the mean ℓ2 `distance` between images and their corrupted versions.

    Arguments:
        names: The corruptions; by default all of `lipnets.data.corruptions` that apply.
        severities: The severities, from 1 to 5.
        radius: The radius, ℓ2 in pixels of [0, 1].
        limit: The number of images, evenly spaced; None for all.
        seed: Which draw of the noise.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        clean = float(correct(subject.logits, subject.labels).double().mean())
        safe = float((subject.radii > radius).double().mean())
        chosen = catalogue.applicable(subject.shape[0]) if names is None else names
        cells = [(name, severity) for name in chosen for severity in severities]
        pairs = Pairs(subject)
        for name, severity in subject.track(cells, "corruptions"):
            images = torch.cat(
                [
                    catalogue.corrupt(batch, name, severity, indices, seed)
                    for batch, indices in zip(
                        subject.images.split(subject.batch_size),
                        subject.indices.split(subject.batch_size),
                        strict=True,
                    )
                ]
            )
            logits = subject.run(images)
            pairs.check(images, logits, f"{name} of severity {severity}")
            radii = subject.certificate.radii_of(logits, subject.labels)
            moved = (images.double() - subject.images.double()).flatten(1).norm(dim=1)
            details = {
                "corruption": name,
                "severity": severity,
                "seed": seed,
                "distance": float(moved.mean()),
            }
            yield subject.share(
                "corrupted_accuracy",
                correct(logits, subject.labels),
                clean=clean,
                kind="measured",
                **details,
            )
            if not subject.proved:
                continue
            yield subject.share(
                "corrupted_certified_accuracy",
                radii > radius,
                clean=safe,
                radius=radius,
                kind="proved",
                **details,
            )
        yield from pairs.records("corrupted")

    return probe
