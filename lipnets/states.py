"""The file of a training state: its checksum, what to know of it, then tensors and plain data."""

__all__ = ["DamagedStateError", "pack", "unpack", "unpickle"]

import hashlib
import io
import json
import re
from typing import Any

import torch


class DamagedStateError(Exception):
    """The content of a file is not a state: says why."""


def pack(note: dict[str, Any], state: dict[str, Any]) -> bytes:
    """The content of the file of a state.

    Arguments:
        note: Plain data that `unpack` gives without reading the state.
        state: Tensors and plain data.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    head = json.dumps(note).encode() + b"\n"
    digest = hashlib.sha256(head)
    digest.update(buffer.getbuffer())
    return b"".join([_FORMAT, digest.hexdigest().encode(), b"\n", head, buffer.getbuffer()])


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    """What is to be known of a state, and what `unpickle` reads.

    Raises:
        DamagedStateError: If the content is not what `pack` made.
    """
    start = len(_FORMAT) + 65
    if not content.startswith(_FORMAT) or content[start - 1 : start] != b"\n":
        raise DamagedStateError("it does not begin like a training state" if content else "empty")
    if (
        hashlib.sha256(memoryview(content)[start:]).hexdigest().encode()
        != content[len(_FORMAT) : start - 1]
    ):
        raise DamagedStateError("its SHA-256 is not the one that it had")
    line, _, data = content[start:].partition(b"\n")
    try:
        note = json.loads(line)
        number, size, digest = note["number"], note["history_bytes"], note["history_sha256"]
        fine = (type(number), type(size), type(digest)) == (int, int, str)
        fine = fine and isinstance(note["checksums"], dict)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedStateError(f"its second line does not say what it is: {error!r}") from None
    if not fine:
        raise DamagedStateError("its second line does not say what it is")
    return note, data


def unpickle(data: bytes) -> dict[str, Any]:
    """Tensors and plain data; nothing else is read.

    Raises:
        DamagedStateError: If there is anything else.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever is wrong, nothing of it was run
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the Python object {named[1]} is in it" if named else type(error).__name__
        raise DamagedStateError(
            f"it should hold tensors and plain data, and nothing else is read: {what}"
        ) from None
    if not isinstance(state, dict):
        raise DamagedStateError(f"it should hold a dict, and holds a {type(state).__name__}")
    return state


_FORMAT = b"lipnets training state 1\nsha256 "
