"""What the history of the training says of bounds and accuracy."""

__all__ = ["dynamics"]

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..records import Record
from ._registry import Probe, registry
from .invariants import require
from .subject import Subject

_NAMES = ("bound/", "test/", "ledger/", "driver/", "gain/", "slope/", "gradient/", "geometry/")


@registry.register
def dynamics() -> Probe:
    """Builds the probe that reads the history of the run.

    It yields the records of bounds, of held-out images, and of what moved the norms of weights, as they
    were written; `ledger/remainder`, the part of the change of log K that the ledger does not explain;
    and checks that the bound of the network is never above the product of those of its layers, and that the last
    one is that of the weights which are examined.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        history = [record for record in subject.history if record.name.startswith(_NAMES)]
        yield from history
        yield from _remainder(history)
        closest, count = 0.0, 0
        bounds = [record for record in history if record.name.startswith("bound/")]
        for step, group in groupby(bounds, key=lambda record: record.step):
            records = list(group)
            whole = [record.value for record in records if record.name == "bound/network"]
            layers = [record.value for record in records if record.name == "bound/layer"]
            if not (whole and layers):
                continue
            product = math.prod(layers)
            require(
                whole[-1] <= product * (1 + 1e-9),
                law="the bound of the network is at most the product of those of its layers",
                came=f"it is {whole[-1]:.9g}, above {product:.9g}, at step {step}",
            )
            closest, count = max(closest, whole[-1] / product if product else 0.0), count + 1
        if not (count and subject.proved):
            return
        last = [record for record in bounds if record.name == "bound/network"][-1]
        now = subject.certificate.lipschitz
        require(
            math.isclose(last.value, now, rel_tol=1e-4),
            law="the last bound of the training is that of the weights that were saved",
            came=f"they are {last.value:.9g}, at step {last.step}, and {now:.9g}",
        )
        yield subject.record(
            "check/product",
            closest,
            "1",
            count,
            says="the bound of the network is at most the product of those of its layers, during "
            "all of the training; closest: the largest ratio",
        )

    return probe


_TERMS = ("linear", "curvature", "square", "switch", "gain", "buffer")


def _remainder(history: Sequence[Record]) -> Iterator[Record]:
    """What is left of the last log K when all terms of the ledger are taken off, if there is one."""
    network = [r for r in history if r.name.startswith("ledger/") and "layer" not in r.details]
    sizes = [record for record in network if record.name == "ledger/log_norm"]
    if len(sizes) < 2:
        return
    end = sizes[-1]
    terms = [r.value for r in network if r.step == end.step and r.name.split("/")[1] in _TERMS]
    change = end.value - sizes[0].value
    details = {"change": change}
    left = change - math.fsum(terms)
    yield Record("ledger/remainder", left, "nats", step=end.step, epoch=end.epoch, details=details)
