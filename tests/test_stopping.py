"""SIGTERM between steps: who waits, who tells whom, and what ends at once."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lipnets import distributed, stopping
from lipnets.stopping import Stop, TerminatedError


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.on_sigterm():
        yield stop
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_where_no_steps_are_taken_it_ends_at_once(stop: Stop) -> None:
    assert not stop()
    with pytest.raises(TerminatedError):
        terminate()
    terminate()  # while what is left is told and closed


def test_a_step_is_waited_for(stop: Stop) -> None:
    with stop.between_steps():
        assert not stop()
        terminate()
        terminate()  # of torchrun as well
        assert not stop.decided
        assert stop()
        assert stop.decided


def test_a_step_is_not_waited_for_too_long(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_PATIENCE", 0.05)
    with stop.between_steps():
        terminate()
        with pytest.raises(TerminatedError):
            time.sleep(10)


def test_another_process_tells_the_first_and_goes_on(
    stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(distributed, "tell_first", told.append)
    monkeypatch.setattr(distributed, "was_told", told.__contains__)
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    first = Stop()
    with stop.between_steps():
        assert not stop()
        assert not told
        terminate()
        assert not stop()
    monkeypatch.setattr(distributed, "is_first", lambda: True)
    assert first()
