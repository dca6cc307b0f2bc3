"""Reads the pickles of the CIFAR authors, without executing them."""

__all__ = ["load_arrays"]

import io
import math
import pickle
from typing import Any

import numpy as np


def load_arrays(content: bytes, what: str) -> dict[bytes, Any]:
    """Reads a dictionary of byte arrays, lists, numbers and strings, as Python 2 pickled it.

    A pickle is a program: it names functions, and calls them.  The only names known here are the
    three that an array of bytes needs, and they stand for classes of this module, which keep
    what they are given: nothing is imported, and nothing else can be called.

    Arguments:
        content: The pickle.
        what: What to call it in messages.

    Returns:
        The dictionary, with arrays in uint8; strings are bytes, keys included.

    Raises:
        ValueError: If it asks for anything else, or is damaged.
    """
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # noqa: BLE001, the manual of pickle: damaged ones may raise any
        raise ValueError(f"{what} is not a pickle of arrays of bytes: {error}.") from None
    match loaded:
        case dict():
            return {
                key: value.to_numpy(what) if isinstance(value, _Array) else value
                for key, value in loaded.items()
            }
    raise ValueError(f"{what} should hold a dictionary, got {type(loaded).__name__}.")


class _Array:
    """Stands for `_reconstruct`: the array that it makes is filled by `__setstate__`."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_numpy(self, what: str) -> np.ndarray:
        match self.state:
            case (int(), tuple(shape), _Dtype(code=b"u1"), fortran, bytes(content)) if all(
                isinstance(size, int) and size >= 0 for size in shape
            ) and math.prod(shape) == len(content):
                flat = np.frombuffer(content, np.uint8)
                return flat.reshape(shape, order="F" if fortran else "C")
        raise ValueError(f"{what} should hold arrays of bytes only, and holds another one.")


class _Dtype:
    """Stands for `dtype`."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: bytes have none."""


class _Kind:
    """Stands for `ndarray`, which is only named."""

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it sets the state of an array that was not made")


_NAMES: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Kind,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> type:
        try:
            return _NAMES[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for '{module_name}.{global_name}'") from None
