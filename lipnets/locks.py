"""A lock that the system releases when its process ends, however it ends."""

__all__ = ["BusyError", "hold", "holder"]

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .atomic import writing

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


class BusyError(Exception):
    """Another process holds the lock: says which."""


@contextlib.contextmanager
def hold(path: Path, tell: Callable[[str], None]) -> Iterator[bool]:
    """Holds a lock, which says who holds it; its file stays.

    Arguments:
        path: The file of the lock.
        tell: Is told if this file system has no locks.

    Returns:
        Whether there is a lock.

    Raises:
        BusyError: If another process holds it.
        UnwritableError: If the file cannot be written.
    """
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = _lock(handle)
        if held is False:
            raise BusyError(_named(_read(path)))
        if held is None:
            tell(
                f"There are no locks on the file system of {path}: make sure yourself that no other "
                "process trains in this directory."
            )
        with writing(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield bool(held)
    finally:
        os.close(handle)  # which releases it


def holder(path: Path) -> str | None:
    """Who holds a lock, in words, if somebody is known to."""
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _named(_read(path)) if error.errno in _BUSY else None
    finally:
        os.close(handle)
    return None


def _lock(handle: int) -> bool | None:
    """Whether the lock was had; None if there are none."""
    if fcntl is None:
        return None
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                return None
            time.sleep(0.05)  # whoever only asks who holds it is done at once
        else:
            return True
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _named(content: str) -> str:
    """What the file says, if it is what `hold` wrote."""
    return content.strip() if re.fullmatch(r"process \d+ on [\w.-]+\n", content) else "a process"


_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_ATTEMPTS = 5
