"""Files with their checksums: what is read is what was written."""

__all__ = ["CheckedFiles"]

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import locks
from ..atomic import write_atomic, writing
from ..invocation import spelled
from ._errors import RESTORE, DamagedFileError, RunError, read_bytes
from ._slots import Slots

Checksums = dict[str, list[str]]  # of what a file may be: as it was, and as it is to be


class CheckedFiles:
    """The files of a run directory whose SHA-256 is in `checksums.json`.

    Arguments:
        directory: The run directory.
        slots: Its states, which note the same checksums.
        tell: Is told where these had to do.
    """

    def __init__(self, directory: Path, slots: Slots, tell: Callable[[str], None]) -> None:
        self.directory, self.slots, self.tell = directory, slots, tell
        self._noted: Checksums | None = None  # where the file of checksums is damaged

    def write(self, name: str, content: bytes | str) -> None:
        """Writes a file of this directory, whole or not at all, and its checksum."""
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        checksums = self.checksums()
        before = [each for each in checksums.get(name, []) if each != digest]
        self._note({**checksums, name: [digest, *before]})
        with writing(self.directory / name):
            (self.directory / name).parent.mkdir(exist_ok=True)
        write_atomic(self.directory / name, data)
        self._note({**checksums, name: [digest]})

    def read(self, name: str) -> bytes:
        """Reads a file of this directory, and compares its checksum.

        Raises:
            RunError: If it is not there.
            DamagedFileError: If it is not what was written.
        """
        path = self.directory / name
        known, digest = [], ""
        for _ in range(2):  # once more if it is being replaced just now
            known = self.checksums().get(name, [])
            try:
                data = read_bytes(path)
            except FileNotFoundError:
                raise RunError(f"{path} does not exist{self._why_not_yet()}.") from None
            digest = hashlib.sha256(data).hexdigest()
            if digest in known:
                return data
        noted = f"{known[0][:16]}..." if known else "none"
        do = "Restore the file, or train anew with another --out."
        if name != "config.yaml":
            again = f"{spelled('train')} --resume --out {self.directory}"
            do = f"From the last state, {again} writes it again."
        raise DamagedFileError(
            f"{path} is damaged, or was changed: its SHA-256 is {digest[:16]}..., "
            f"checksums.json has {noted}. {do}"
        )

    def checksums(self) -> Checksums:
        """The checksums, by the names of files.

        Raises:
            DamagedFileError: If their file is damaged, and no state has noted them.
        """
        path = self.directory / "checksums.json"
        try:
            checksums = json.loads(read_bytes(path))
            if not _are_checksums(checksums):
                raise ValueError("it should hold lists of SHA-256 by the names of files")
            return checksums
        except FileNotFoundError:
            why = "is not there"
        except (ValueError, RecursionError) as error:
            why = f"is damaged: {error}"
        if self._noted is not None:
            return self._noted
        for each in self.slots.intact()[0]:
            if _are_checksums(each.note["checksums"]):
                self.tell(f"{path} {why}. Those that were noted in {each.path} are used.")
                noted: Checksums = each.note["checksums"]
                self._noted = noted
                return noted
        if why == "is not there":
            return {}
        raise DamagedFileError(f"{path} {why}. {RESTORE}")

    def _why_not_yet(self) -> str:
        if who := locks.holder(self.directory / "lock"):
            return f" yet: {who} is training here. Wait until it ends"
        return (
            ": training was not finished, or the file was removed. "
            f"Go on with {spelled('train')} --resume --out {self.directory}"
        )

    def _note(self, checksums: Checksums) -> None:
        write_atomic(self.directory / "checksums.json", json.dumps(checksums, indent=2) + "\n")


def _are_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, list) and all(isinstance(digest, str) for digest in each)
        for each in value.values()
    )
