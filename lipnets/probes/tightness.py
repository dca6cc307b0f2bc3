"""How close proved bounds are to slopes that are attained."""

__all__ = ["tightness"]

from collections.abc import Iterator

from ..audit import audit
from ..records import Record
from ._registry import Probe, registry
from .invariants import require
from .subject import Subject


@registry.register
def tightness(images: int = 4) -> Probe:
    """Builds the probe of the audit: `lipnets.audit`, layer by layer, then of the network.

    It yields `audit/bound`, `audit/slope` and `audit/ratio`; details are the `layer`, which is
    `"network"` for the whole, its `module`, the `shape` of its input and the `rule` of its bound.

    Arguments:
        images: The number of test images to search for slopes at, evenly spaced.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        if not subject.proved:
            return
        points = subject.sample(images).images
        rows = audit(subject.model, subject.shape, points)
        for row in rows:
            layer = row.name or "network"
            require(
                row.slope <= row.bound * (1 + 1e-9),
                law="no slope exceeds its bound",
                came=f"that of {layer} is {row.slope:.9g}, above {row.bound:.9g}",
            )
            details = {
                "layer": layer,
                "module": row.module,
                "shape": list(row.shape),
                "rule": row.rule,
            }
            for name, value, kind in (
                ("bound", row.bound, "proved"),
                ("slope", row.slope, "attained"),
                ("ratio", row.ratio, "attained"),
            ):
                yield subject.record(f"audit/{name}", value, "1", kind=kind, **details)
        yield subject.record(
            "check/slopes",
            max(row.ratio for row in rows),
            "1",
            len(rows),
            says="no slope that was attained exceeds the bound of its layer, or of the network; "
            "closest: the largest ratio",
        )

    return probe
