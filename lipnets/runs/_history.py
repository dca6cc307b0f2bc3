"""The history of a training: a file of records that grows."""

__all__ = ["History"]

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ..atomic import write_atomic, writing
from ..records import Record
from ._errors import RESTORE, DamagedFileError, read_bytes
from ._records import format_records, parse_records

Note = dict[str, Any]  # of a state, with `history_bytes` and `history_sha256`


class History:
    """A file of records, one a line.

    Arguments:
        path: The file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hashed = hashlib.sha256()  # as far as it was read
        self._length = 0  # how far that is, in bytes

    def append(self, records: Iterable[Record]) -> None:
        """Appends records: all, or none if there is no room for them."""
        with writing(self.path), self.path.open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(format_records(records).encode())
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, size)
                raise

    def records(self, notes: Collection[Note]) -> list[Record]:
        """Reads the records; a last line that was not finished is left out.

        Arguments:
            notes: Those of the states that were saved, the newest first: the history of one is enough.

        Raises:
            DamagedFileError: If a line is not a record, or not the one that was written: what comes
                after the last state has no checksum.
        """
        content = self.content()
        why = [self.misfit(content, note) for note in notes]
        if why and all(why):
            raise DamagedFileError(f"{self.path} is damaged: {why[0]}. {RESTORE}")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"{self.path} is damaged: {error}. {RESTORE}") from None
        return parse_records(text, self.path)

    def content(self) -> bytes:
        """The content of the file; nothing if there is none."""
        try:
            return read_bytes(self.path)
        except FileNotFoundError:
            return b""

    def note(self) -> Note:
        """Brings the file to the disk, and says how long it is and what its SHA-256 is."""
        if self.path.exists():
            with writing(self.path), self.path.open("rb+") as file:
                os.fsync(file.fileno())
                file.seek(self._length)
                while block := file.read(2**20):
                    self._hashed.update(block)
                    self._length += len(block)
        return {"history_bytes": self._length, "history_sha256": self._hashed.hexdigest()}

    def take_back(self, length: int) -> None:
        """Takes the file back to its first bytes."""
        content = self.content()[:length]
        write_atomic(self.path, content)
        self._hashed, self._length = hashlib.sha256(content), len(content)

    @staticmethod
    def misfit(content: bytes, note: Note) -> str:
        """Why a content is not the one that a state was saved with; nothing if it is."""
        size = note["history_bytes"]
        if len(content) < size:
            return f"it has {len(content)} bytes, and had {size} when step {note['step']} was saved"
        if hashlib.sha256(content[:size]).hexdigest() != note["history_sha256"]:
            return f"its SHA-256 is not the one it had when step {note['step']} was saved"
        return ""
