"""Images and labels from any .npz file."""

__all__ = ["npz"]

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ._registry import datasets
from .arrays import LAYOUTS, Layout, to_split
from .dataset import Dataset, Split
from .splitting import hold_out_third

_TRAIN = (
    ("train_images", "train_labels"),
    ("x_train", "y_train"),
    ("images", "labels"),
    ("x", "y"),
)
_TEST = (("test_images", "test_labels"), ("x_test", "y_test"))


@datasets.register
def npz(
    path: str | Path,
    data_dir: str | Path | None = None,
    layout: Layout | None = None,
    seed: int = 0,
    sha256: str | None = None,
) -> Dataset:
    """Loads images and labels from an .npz file.

    It has arrays `train_images` and `train_labels`, or `x_train` and `y_train`, or `images` and
    `labels`, or `x` and `y`; and to test on, `test_images` and `test_labels`, or `x_test` and
    `y_test`.  If it has none to test on, a third is held out, class by class.  Names of classes
    may be given by an array `classes`; they are numbers otherwise.

    Arguments:
        path: The file; a relative path begins at `data_dir`.
        data_dir: Where a relative path begins: the working directory, by default.
        layout: The order of dimensions of images: `"NHW"` for grey ones, `"NHWC"` or `"NCHW"`.
            By default, it is found out: images have 1 or 3 channels.
        seed: Which third is held out.
        sha256: What the SHA-256 of the file should be, if that matters.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or another, or if images and labels are not in it.
    """
    path = Path(data_dir or ".") / path
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256.lower():
        raise ValueError(f"The SHA-256 of '{path}' should be {sha256}, got {actual}.")
    try:
        arrays = _read(content)
        train = _pick(arrays, _TRAIN, layout)
        test = _pick(arrays, _TEST, layout)
        if train is None:
            names = "; ".join(f"'{images}' and '{labels}'" for images, labels in _TRAIN)
            raise ValueError(
                f"it should have arrays {names}, and has {', '.join(arrays) or 'none'}."
            )
        if test is None:
            train, test = hold_out_third(train, seed)
        return Dataset(path.stem, train, test, _classes(arrays, train, test))
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be used: {error}") from None


def _read(content: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file, none of them pickled."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("it is not an .npz file, or cut short.")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged ({error}).") from None


def _pick(
    arrays: Mapping[str, np.ndarray], names: tuple[tuple[str, str], ...], layout: Layout | None
) -> Split | None:
    """The first of the pairs of images and labels that is there."""
    for images, labels in names:
        if images in arrays and labels in arrays:
            found = layout or _layout(arrays[images], images)
            return to_split(arrays[images], arrays[labels], layout=found)
    return None


def _layout(images: np.ndarray, name: str) -> Layout:
    """Finds out the order of dimensions of images with 1 or 3 channels."""
    if images.ndim == 3:
        return "NHW"
    if images.ndim == 4:
        last, first = images.shape[3] in (1, 3), images.shape[1] in (1, 3)
        if last != first:
            return "NHWC" if last else "NCHW"
    raise ValueError(
        f"the order of dimensions of '{name}' is not clear from its shape {images.shape}; give "
        f"'layout', one of {', '.join(LAYOUTS)}."
    )


def _classes(arrays: Mapping[str, np.ndarray], train: Split, test: Split) -> tuple[str, ...]:
    """The names of classes: those in the file, or as many numbers as there are labels."""
    if "classes" in arrays:
        return tuple(str(name) for name in arrays["classes"].reshape(-1))
    count = 1 + max((int(s.labels.max()) for s in (train, test) if len(s)), default=0)
    return tuple(map(str, range(count)))
