"""Whether the confidence of the network is what it says."""

__all__ = ["calibration"]

from collections.abc import Iterator

import torch
from torch import Tensor

from ..metrics import (
    brier,
    calibration_error,
    fit_temperature,
    negative_log_likelihoods,
    reliability,
)
from ..records import Record
from ._registry import Probe, presets, registry
from .subject import Subject


@registry.register
def calibration(bins: int = 15) -> Probe:
    """Builds the probe of calibration: see `lipnets.metrics` for what is measured.

    It yields `calibration/ece`, with bins of equal width, `calibration/adaptive_ece`, with bins of equal numbers,
    `calibration/nll`, `calibration/brier` and `calibration/curve`, of which the value is the mean confidence and
    details hold the bins; and the column `image/nll`.  Details are the `temperature` and the `part`:

    - "all": all images, at the temperature 1, that is, as the network is;
    - "half": every other image, at the temperature 1, and at the one that is best on the images in between.

    The scale of the logits of a Lipschitz network is that of its constant, not that of its knowledge: the second
    temperature tells both apart.  Images whose outputs are not finite have no confidence: they are `left_out`.

    Arguments:
        bins: The number of bins.

    Raises:
        ValueError: If there is no bin.
    """
    if bins < 1:
        raise ValueError(f"'bins' should be at least 1, got {bins}.")

    def probe(subject: Subject) -> Iterator[Record]:
        finite = subject.logits.isfinite().all(dim=1)
        if not finite.any():
            return
        order = subject.indices.argsort()
        order = order[finite[order]]
        out = int((~finite).sum())
        losses = torch.full((len(subject),), torch.inf, dtype=torch.float64)
        logits, labels = subject.logits[order], subject.labels[order]
        losses[order] = negative_log_likelihoods(logits, labels)
        yield subject.column("nll", losses, "nats")
        yield from _measured(subject, logits, labels, 1.0, bins, {"part": "all", "left_out": out})
        if len(order) < 2:
            return
        fitted = fit_temperature(logits[1::2], labels[1::2])
        half = {"part": "half", "left_out": out, "fitted_on": len(logits[1::2])}
        for temperature in (1.0, fitted):
            yield from _measured(subject, logits[::2], labels[::2], temperature, bins, half)

    return probe


presets("calibration", quick={}, full={})


def _measured(
    subject: Subject,
    logits: Tensor,
    labels: Tensor,
    temperature: float,
    bins: int,
    where: dict[str, object],
) -> Iterator[Record]:
    """All measures at one temperature, of some of the images."""
    details = {"temperature": temperature, "bins": bins, "kind": "measured", **where}
    count = len(labels)
    equal = reliability(logits, labels, temperature, bins=bins)
    crowded = reliability(logits, labels, temperature, bins=bins, adaptive=True)
    loss = float(negative_log_likelihoods(logits, labels, temperature).mean())
    for name, value, unit in (
        ("ece", calibration_error(equal), "fraction"),
        ("adaptive_ece", calibration_error(crowded), "fraction"),
        ("nll", loss, "nats"),
        ("brier", brier(logits, labels, temperature), "fraction"),
    ):
        yield subject.record(f"calibration/{name}", value, unit, count, **details)
    rows = zip(equal.confidence, equal.count, strict=True)
    yield subject.record(
        "calibration/curve",
        sum(mean * number for mean, number in rows) / count,
        "fraction",
        count,
        confidence=list(equal.confidence),
        accuracy=list(equal.accuracy),
        held=list(equal.count),
        **details,
    )
