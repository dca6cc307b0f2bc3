"""Files that are written whole or not at all."""

__all__ = ["write_atomic"]

import os
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes a file whole or not at all.

    The content goes to a file in the same directory, then to the disk, then to its place: whoever
    reads meets the file as it was before, or as it is afterwards.

    Arguments:
        path: The file; its directory exists.
        content: What it will hold; text is encoded in UTF-8.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
