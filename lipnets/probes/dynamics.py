"""What the history of the training says of bounds and accuracy."""

__all__ = ["dynamics"]

import math
from collections.abc import Iterator
from itertools import groupby

from ..records import Record
from ._registry import Probe, registry
from .invariants import require
from .subject import Subject

_NAMES = ("bound/", "test/")


@registry.register
def dynamics() -> Probe:
    """Builds the probe that reads the history of the run.

    It yields the records of bounds and of held-out images as they were written, and checks that
    the bound of the network is never above the product of those of its layers, and that the last
    one is that of the weights which are examined.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        history = [record for record in subject.history if record.name.startswith(_NAMES)]
        yield from history
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
        if not count:
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
