"""Tiny files in the formats of the authors, written here byte by byte."""

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from lipnets.data.files import Release


def _py2_string(text: bytes) -> bytes:
    """A string as the pickles of Python 2 have it."""
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def _py2_array(array: np.ndarray, code: bytes = b"u1") -> bytes:
    """An array as numpy pickled it for Python 2, protocol 2, like the CIFAR authors did."""
    made = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85" + _py2_string(b"b") + b"\x87R"
    )
    shape = b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"\x86"
    dtype = (
        b"cnumpy\ndtype\n"
        + _py2_string(code)
        + b"K\x00K\x01\x87R(K\x03"
        + _py2_string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return made + b"(K\x01" + shape + dtype + b"\x89" + _py2_string(array.tobytes()) + b"tb"


@pytest.fixture
def py2_pickle() -> Callable[..., bytes]:
    """Pickles a dictionary of an array and a list of numbers, as Python 2 did."""

    def pickle(array: np.ndarray, labels: list[int], key: str, code: bytes = b"u1") -> bytes:
        numbers = b"".join(b"K" + bytes([label]) for label in labels)
        return (
            b"\x80\x02}("
            + (_py2_string(b"batch_label") + _py2_string(b"a batch"))
            + (_py2_string(key.encode()) + b"](" + numbers + b"e")
            + (_py2_string(b"data") + _py2_array(array, code))
            + b"u."
        )

    return pickle


@pytest.fixture
def idx() -> Callable[[np.ndarray], bytes]:
    """An idx file of bytes: 0, 0, 8, dimensions, sizes, content."""

    def write(array: np.ndarray) -> bytes:
        sizes = struct.pack(f">{array.ndim}i", *array.shape)
        return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()

    return write


@pytest.fixture
def lay() -> Callable[..., None]:
    """Lays files into a folder: plain, compressed, or in an archive."""

    def write(folder: Path, files: Mapping[str, bytes], form: str = "plain") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if form == "plain":
            for name, content in files.items():
                (folder / name).write_bytes(content)
        elif form == "gz":
            for name, content in files.items():
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            with tarfile.open(folder / form, "w:gz") as archive:
                for name, content in {"readme.html": b"hello", **files}.items():
                    member = tarfile.TarInfo(f"some-folder/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

    return write


@pytest.fixture
def release() -> Callable[..., Release]:
    """A release of the given files, published nowhere unless told."""

    def make(files: Mapping[str, bytes], **fields: object) -> Release:
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        settings = {"title": "Tiny", "folders": (".",), "addresses": (), **fields}
        return Release(sums=sums, **settings)

    return make
