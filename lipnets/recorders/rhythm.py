"""When recorders record."""

__all__ = ["every"]

from collections.abc import Iterator

from ..records import Record
from ..training import Step
from ._registry import Recorder


def every(steps: int, recorder: Recorder, *, last: int | None = None) -> Recorder:
    """Calls a recorder at each multiple of a number of steps, 0 included.

    Arguments:
        steps: The number of steps, at least 1.
        recorder: The recorder.
        last: Another step at which to call it, the last one of the training.

    Raises:
        ValueError: If the number of steps is less than 1.
    """
    if steps < 1:
        raise ValueError(f"'steps' should be at least 1, got {steps}.")

    def record(step: Step) -> Iterator[Record]:
        if step.index % steps == 0 or step.index == last:
            yield from recorder(step)

    return record
