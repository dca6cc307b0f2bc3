"""When recorders record."""

__all__ = ["every"]

from collections.abc import Iterator
from typing import Any

from ..records import Record
from ..training import Step
from ._registry import Recorder, Stateful


class every:  # noqa: N801 - a recorder is built by a function, and this one may have a state
    """Calls a recorder at each multiple of a number of steps, 0 included.

    Arguments:
        steps: The number of steps, at least 1.
        recorder: The recorder, whose state is that of this one.
        last: Another step at which to call it, the last one of the training.

    Raises:
        ValueError: If the number of steps is less than 1.
    """

    def __init__(self, steps: int, recorder: Recorder, *, last: int | None = None) -> None:
        if steps < 1:
            raise ValueError(f"'steps' should be at least 1, got {steps}.")
        self._steps, self._recorder, self._last = steps, recorder, last

    def __call__(self, step: Step) -> Iterator[Record]:
        if step.index % self._steps == 0 or step.index == self._last:
            yield from self._recorder(step)

    def state_dict(self) -> dict[str, Any]:
        """The state of the recorder; empty if it has none."""
        return self._recorder.state_dict() if isinstance(self._recorder, Stateful) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hands it to the recorder."""
        if isinstance(self._recorder, Stateful):
            self._recorder.load_state_dict(state)
