"""Files that are written whole or not at all."""

__all__ = ["UnwritableError", "write_atomic", "writing"]

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class UnwritableError(OSError):
    """A file that cannot be written: says which, why, and what to do.

    Arguments:
        path: The file.
        error: What the system said.
    """

    def __init__(self, path: str | os.PathLike[str], error: OSError) -> None:
        super().__init__(error.errno, error.strerror, os.fspath(path))
        self._why = error.strerror or str(error)

    def __str__(self) -> str:
        do = _REMEDIES.get(self.errno or 0, "See to it, and try again.")
        return f"{self.filename} cannot be written: {self._why}. {do}"


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes a file whole or not at all.

    The content goes to a file in the same directory, then to the disk, then to its place: whoever
    reads meets the file as it was before, or as it is afterwards.

    Arguments:
        path: The file; its directory exists.
        content: What it will hold; text is encoded in UTF-8.

    Raises:
        UnwritableError: If it cannot be written: it is as before.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _keep_moves(path.parent)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Says of a file that cannot be written which it is, and what to do.

    Raises:
        UnwritableError: In place of any other error of the system.
    """
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(path, error) from error


def _keep_moves(directory: Path) -> None:
    """Brings to the disk where files are, so that a power cut keeps the order of moves."""
    with contextlib.suppress(OSError):  # not every file system can, and the file is in its place
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_WRITABLE = "Make it and its directory writable for this user, or choose another place."
_REMEDIES = {
    errno.ENOSPC: "Free some space there.",
    errno.EDQUOT: "Free some space there: the quota is used up.",
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOENT: "Its directory is no longer there: bring it back, or choose another.",
    errno.EISDIR: "Move that directory away.",
    errno.ENOTDIR: "Move the file away that is where a directory should be.",
    errno.EEXIST: "Move the file away that is where a directory should be.",
    errno.EIO: "Look after the disk.",
}
