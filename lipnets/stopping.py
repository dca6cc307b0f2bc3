"""SIGTERM, which clusters send some time before SIGKILL: training ends between two steps, and keeps them."""

__all__ = ["Stop", "TerminatedError"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from . import distributed

_PATIENCE = 15.0  # seconds for a step to end; torchrun and clusters kill after 30, mostly
_WORD = "stop"


class TerminatedError(KeyboardInterrupt):
    """A process was told to end: by SIGTERM, or because the launcher is gone."""


class Stop:
    """Whether training is to end, asked after each step, by all processes that train together.

    The first process decides: it keeps a state and leaves, and others have nobody to go on with.  One of
    those that is told to end tells the first.
    """

    def __init__(self) -> None:
        self.decided = False
        self._asked = self._waits = False

    def __call__(self) -> bool:
        """Whether training is to end after the step that was just taken."""
        if self._asked and not distributed.is_first():
            distributed.tell_first(_WORD)
        elif distributed.is_first():
            self.decided = self._asked or distributed.was_told(_WORD)
        return self.decided

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Inside, SIGTERM ends the command, as Ctrl-C does: at once where no steps are taken.

        Raises:
            TerminatedError: Wherever the command is.
        """
        if threading.current_thread() is not threading.main_thread():  # which alone gets signals
            yield
            return
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Inside, SIGTERM waits for the end of a step, but not for long.

        Raises:
            TerminatedError: If it comes to that.
        """
        self._waits = hasattr(signal, "setitimer")  # not on Windows
        try:
            yield
        finally:
            if self._waits and self._asked:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self._waits = False

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self._asked:
            return  # whoever ends a group of processes sends it twice: torchrun passes it on
        late, self._asked = self._asked, True
        if late or not self._waits:
            raise TerminatedError
        signal.signal(signal.SIGALRM, self._terminate)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
