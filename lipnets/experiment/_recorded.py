"""What is recorded of a training."""

__all__ = ["recorded"]

from collections.abc import Iterator

from .. import recorders
from ..config import Config
from ..data import Dataset
from ..recorders import Recorder, every
from ..recorders.drivers import loss_of_probes
from ..training import Step
from ._parts import Parts

_ENTRIES = 100  # of the ledger, in a training
_FEWEST = 8  # images that drivers can be seen by


def recorded(config: Config, dataset: Dataset, untrained: Step, parts: Parts) -> list[Recorder]:
    """What is recorded, in the order of the history."""
    rhythm = parts.steps * config.record.bounds_every
    found = [
        recorders.loss(parts.steps),
        every(rhythm, recorders.certified(parts.split, "train", limit=500), last=parts.total),
        every(rhythm, recorders.certified(dataset.test, "test"), last=parts.total),
        every(rhythm, recorders.bounds(), last=parts.total),
        *_internal(config, untrained, parts),
    ]
    if config.record.frequencies:
        recorder = recorders.frequencies(untrained.model, untrained.shape)
        found.append(every(rhythm, recorder, last=parts.total))
    if config.record.geometry:
        found.append(every(rhythm, recorders.geometry(parts.split), last=parts.total))
    return found


def _internal(config: Config, untrained: Step, parts: Parts) -> Iterator[Recorder]:
    """What norms of weights do, and what drives them."""
    ledger, drivers = config.record.ledger, config.record.drivers
    if ledger is not None:
        yield recorders.ledger(
            *(untrained.model, untrained.shape),
            lines=ledger.every or max(1, parts.total // _ENTRIES),
            stride=ledger.stride,
            scan_every=ledger.scan_every,
            last=parts.total,
            optimizer=parts.optimizer,
            effective=ledger.effective,
            norm=ledger.norm,
            bands=ledger.bands,
        )
    if drivers is not None and len(parts.split) >= _FEWEST:
        yield recorders.drivers(
            *(parts.split, loss_of_probes(parts.loss, parts.slopes)),
            *(parts.optimizer, config.data.batch_size),
            steps=drivers.every,
            examples=drivers.examples,
            seed=config.seed,
            clip_grad_norm=config.optimizer.clip_grad_norm,
            replacement=config.data.replacement,
        )
