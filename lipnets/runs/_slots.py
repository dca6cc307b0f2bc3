"""The last two states of a training, written in turn: while one is replaced, there is the other."""

__all__ = ["Saved", "Slots"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import states
from ..atomic import write_atomic, writing
from ._errors import RunError, read_bytes

_SLOTS = ("state/a.state", "state/b.state")


@dataclass(frozen=True)
class Saved:
    """A state that is intact, not yet unpickled."""

    path: Path
    note: dict[str, Any]
    data: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Its number, and which of the slots it has."""
        return self.note["number"], [Path(each).name for each in _SLOTS].index(self.path.name)


class Slots:
    """The places of two states in a run directory.

    Arguments:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._last: tuple[int, int] | None = None  # number and slot of the newest intact state

    def intact(self) -> tuple[list[Saved], list[str]]:
        """The states that are intact, the newest first, and what is wrong with others."""
        saved, damaged = [], []
        for path in (self.directory / name for name in _SLOTS):
            try:
                note, data = states.unpack(read_bytes(path))
            except FileNotFoundError:
                continue
            except states.DamagedStateError as error:
                damaged.append(f"{path} is damaged: {error}")
            except RunError as error:
                if path.is_dir():  # where the next state could not be written
                    raise
                damaged.append(str(error).removesuffix("."))
            else:
                saved.append(Saved(path, note, data))
        return sorted(saved, key=lambda each: -each.note["number"]), damaged

    def go_on_from(self, saved: Saved) -> None:
        """Spares this state, which may not be the newest: the next takes the place of the other."""
        self._last = saved.place

    def save(self, note: dict[str, Any], state: dict[str, Any]) -> None:
        """Writes a state in the place of the older one.

        Arguments:
            note: Plain data that is read without the state.
            state: Tensors and plain data.
        """
        if self._last is None:
            saved, _ = self.intact()
            self._last = saved[0].place if saved else (0, 1)
        number, slot = self._last[0] + 1, 1 - self._last[1]
        path = self.directory / _SLOTS[slot]
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        write_atomic(path, states.pack({"number": number, **note}, state))
        self._last = number, slot
