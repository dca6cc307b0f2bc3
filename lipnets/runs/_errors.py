"""What can be wrong with a run directory."""

__all__ = [
    "RESTORE",
    "DamagedFileError",
    "RunBusyError",
    "RunError",
    "RunExistsError",
    "read_bytes",
]

from pathlib import Path

RESTORE = "Nothing was changed: restore the file, or train anew with another --out."


class RunError(Exception):
    """A run directory that cannot be used as asked: says why, and what to do."""


class RunExistsError(RunError):
    """There is something where a new run was to be."""


class RunBusyError(RunError):
    """Another process trains in this directory."""


class DamagedFileError(RunError):
    """A file is not what was written, or not what its config says."""


def read_bytes(path: Path) -> bytes:
    """The content of a file that exists.

    Raises:
        FileNotFoundError: If it does not.
        RunError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
