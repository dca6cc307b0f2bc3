"""Archives of other images, `ood_*.npz`: bytes that were compressed by xz, with their shapes beside them."""

__all__ = ["DAMAGED", "open_packed", "unpacked"]

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# What reading an archive raises that is cut off, or is none, or lacks an array.
DAMAGED = (
    *(OSError, EOFError, KeyError, ValueError),
    *(lzma.LZMAError, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def open_packed(path: Path) -> Iterator[Any]:
    """Opens an archive, and closes its file in any case, which numpy does not where it fails."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        yield archive


def unpacked(archive: Any, name: str) -> np.ndarray:
    """The bytes that an archive holds as `NAME_xz`, in the shape `NAME_shape`."""
    content = lzma.decompress(archive[f"{name}_xz"].tobytes())
    return np.frombuffer(content, np.uint8).reshape(archive[f"{name}_shape"]).copy()
