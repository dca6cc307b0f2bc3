"""The history of a run for TensorBoard, which may be looked at while training goes on.

The event files below `RUN/tensorboard` are a copy of the history, written anew when training goes on
after an interruption: nothing is in them twice, and nothing that was taken back.
"""

__all__ = ["Board", "check", "tag"]

import math
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from .atomic import writing
from .records import Record
from .runs import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def check() -> None:
    """Makes sure that TensorBoard is installed.

    Raises:
        ImportError: If it is not: says how to install it.
    """
    try:
        # An import that takes seconds, for those who need it.
        import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ImportError(
            f"TensorBoard cannot be imported ({error}): pip install 'lipnets[track]', or leave out "
            "--tensorboard."
        ) from error


class Board:
    """What TensorBoard shows of a run.

    Arguments:
        run: The run, whose history may be taken back until records are first added.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._writer: SummaryWriter | None = None

    def add(self, records: Iterable[Record]) -> None:
        """Adds the records that were just written to the history."""
        if self._writer is None:
            self._writer = self._begin()  # the history, these records included
        else:
            _write(self._writer, records)

    def close(self) -> None:
        """Brings all to the disk; a run that was finished before is copied too."""
        self.add([])
        if self._writer is not None:
            with writing(self._run.path / "tensorboard"):
                self._writer.close()

    def _begin(self) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        directory = self._run.path / "tensorboard"
        with writing(directory):
            for old in directory.glob("events.out.tfevents.*"):
                old.unlink()
            writer = SummaryWriter(str(directory))
        _write(writer, self._run.history())
        return writer


def tag(record: Record) -> str:
    """What TensorBoard calls a record: its name, and which of those of that name it is.

    >>> tag(Record("gain/band", 1.0, "1", details={"layer": "head", "low": 0.0, "high": 0.25}))
    'gain/band/head/0-0.25'
    """
    details = record.details
    parts = [record.name, *(_short(details[key]) for key in _WHICH if key in details)]
    if "band" in record.name and "low" in details:  # else the ends of an interval
        parts.append(f"{_short(details['low'])}-{_short(details['high'])}")
    return "/".join(parts)


def _write(writer: "SummaryWriter", records: Iterable[Record]) -> None:
    for record in records:
        if record.step is not None and not math.isnan(record.value):
            writer.add_scalar(tag(record), record.value, record.step)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_WHICH = ("layer", "role", "radius", "quantile")
