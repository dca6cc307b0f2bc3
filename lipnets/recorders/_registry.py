"""The table of recorders; their modules add to it."""

__all__ = ["Recorder", "Stateful", "registry", "together"]

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from ..records import Record
from ..registry import Registry
from ..training import Step

Recorder = Callable[[Step], Iterable[Record]]

registry: Registry[Recorder] = Registry("recorder")


@runtime_checkable
class Stateful(Protocol):
    """What a recorder offers that remembers something from one step to the next, such as a sum."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data that the next records depend on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state; the model is as it was then."""
        ...


class together:  # noqa: N801 - a recorder is built by a function, and this one has a state
    """Builds the recorder of what several recorders record, in their order.

    Its state is that of all of them.

    Arguments:
        recorders: The recorders.
    """

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = tuple(recorders)

    def __call__(self, step: Step) -> Iterator[Record]:
        for recorder in self._recorders:
            yield from recorder(step)

    def state_dict(self) -> dict[str, Any]:
        """The states of those that have one, by their place."""
        return {
            str(place): recorder.state_dict()
            for place, recorder in enumerate(self._recorders)
            if isinstance(recorder, Stateful)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hands its state to each."""
        for place, each in state.items():
            recorder = self._recorders[int(place)]
            if isinstance(recorder, Stateful):
                recorder.load_state_dict(each)
