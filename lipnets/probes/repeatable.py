"""Whether the logits of an image depend on what it is run with."""

__all__ = ["repeatable"]

from collections.abc import Iterator

import torch
from torch import Tensor

from ..bounds import NotCertifiedError
from ..metrics import predictions
from ..records import Record
from ._registry import Probe, registry
from .invariants import InvariantError, require
from .subject import Subject


@registry.register
def repeatable(limit: int | None = 64) -> Probe:
    """Builds the probe that runs images again: one at a time, and in the opposite order.

    It yields `check/batches`, the largest difference of a margin as a share of what is allowed: twice
    the proved bound of what the program rounds in it, or 1e-9 of the logits where nothing is proved.
    A network that fails, such as one with batch normalization in training mode, has no certificate, and
    no accuracy that would not depend on the batch size.

    Arguments:
        limit: The number of images, evenly spaced; None for all.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        images, logits = subject.images, subject.logits
        finite = logits.isfinite().all(dim=1)
        labels = predictions(logits).clamp(min=0)
        allowed = _allowed(subject, labels)
        closest = 0.0
        singly = torch.cat([subject.run(image) for image in images.split(1)])
        backwards = subject.run(images.flip(0)).flip(0)
        for other, what in ((singly, "alone"), (backwards, "in the opposite order")):
            same = other.isfinite().all(dim=1) == finite
            moved = (_margins(other, labels) - _margins(logits, labels)).abs()
            shares = torch.where(finite[:, None], moved / allowed, 0.0).amax(dim=1)
            for i in (~same | (finite & ~(shares <= 1))).nonzero().flatten().tolist():
                came = (
                    f"those of test image {int(subject.indices[i])} differ by "
                    f"{float(moved[i].max()):.3g} when it is run {what}"
                )
                if not subject.proved:  # nobody said that it does not
                    raise InvariantError(
                        "The logits of an image should not depend on the other images of a batch, nor on what ran "
                        f"before, but {came}: no number would be right. Take out of the forward of the network "
                        "what keeps a state, looks at the whole batch or draws random numbers."
                    )
                law = "the logits of an image do not depend on the other images of a batch"
                require(False, law=law, came=came)
            closest = max(closest, float(shares.max()))
        yield subject.record(
            "check/batches",
            closest,
            "1",
            2 * len(subject),
            says="an image has the same logits alone, in a batch, and in another order, up to what "
            "the program may round; closest: the largest share of that",
        )

    return probe


def _allowed(subject: Subject, labels: Tensor) -> Tensor:
    """How far the margins of two runs can be apart, with shape (N, K)."""
    slack = 1e-9 * (1 + subject.logits.abs().nan_to_num(0, 0, 0).amax(dim=1, keepdim=True))
    slack = slack.expand_as(subject.logits)
    certificate = subject.proved
    if certificate is None:
        return slack
    sizes = subject.images.double().flatten(1).norm(dim=1) * (1 + 1e-12)
    try:
        return 2 * certificate.errors(labels, sizes) + 1e-300
    except NotCertifiedError:  # no rule bounds what it rounds
        return slack


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]) - logits
