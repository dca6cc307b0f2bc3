"""Corrupted and shifted test sets as their authors publish them, read where they are in a data directory.

Files are never fetched, and never unpickled.  Layouts:

- CIFAR-10-C, CIFAR-100-C: `CIFAR-10-C/NAME.npy`, bytes of 5 N images 32 × 32 × 3, the N of severity s
  from row (s − 1) N on, and `labels.npy`.
- MNIST-C: `mnist_c/NAME/test_images.npy`, bytes of N images 28 × 28 × 1, and `test_labels.npy`.
- CIFAR-10.1: `cifar10.1_v6_data.npy`, bytes of 2,000 images 32 × 32 × 3, and `cifar10.1_v6_labels.npy`;
  v4 has 2,021.

References:
    | CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich, 2019) https://arxiv.org/abs/1903.12261
    | MNIST-C (Mu & Gilmer, 2019) https://arxiv.org/abs/1906.02337
    | CIFAR-10.1 (Recht, Roelofs, Schmidt & Shankar, 2018) https://arxiv.org/abs/1806.00451
"""

__all__ = ["cifar_10_1", "cifar_c", "mnist_c"]

from pathlib import Path

import numpy as np
from torch import Tensor

from .arrays import to_split
from .dataset import Split

_CIFAR_C = {
    "cifar10": ("CIFAR-10-C", "cifar10c", "cifar-10-c", "CIFAR10-C"),
    "cifar100": ("CIFAR-100-C", "cifar100c", "cifar-100-c", "CIFAR100-C"),
}
_MNIST_C = ("mnist_c", "MNIST-C", "mnist-c")
_COLOUR, _GREY = (32, 32, 3), (28, 28, 1)
_CIFAR_10_1 = ("CIFAR-10.1", "cifar-10.1", "CIFAR-10.1/datasets", "cifar10.1", ".")


def cifar_c(
    dataset: str, name: str, severity: int, data_dir: str | Path | None, indices: Tensor
) -> Split | None:
    """Reads images of CIFAR-10-C or CIFAR-100-C.

    Arguments:
        dataset: `"cifar10"` or `"cifar100"`; other data sets have no such files.
        name: The corruption.
        severity: From 1 to 5.
        data_dir: The data directory.
        indices: The images of the test split that are wanted, with shape (B,).

    Returns:
        The images, or None where there are none.

    Raises:
        ValueError: If a file is damaged, or has another layout.
    """
    for folder in _folders(data_dir, _CIFAR_C.get(dataset, ())):
        path = folder / f"{name}.npy"
        if path.is_file():
            images, labels = _load(path), _load(folder / "labels.npy")
            if images.ndim != 4 or len(images) % 5 or len(labels) != len(images):
                raise ValueError(
                    f"'{path}' should hold 5 N images of N labels each, with shape (5N, H, W, 3), got "
                    f"{images.shape} with {len(labels)} labels."
                )
            count = len(images) // 5
            rows = _rows(indices, count, path) + (severity - 1) * count
            return _split(images, labels, rows, _COLOUR, path)
    return None


def mnist_c(name: str, data_dir: str | Path | None, indices: Tensor) -> Split | None:
    """Reads images of MNIST-C; arguments, result and errors are those of `cifar_c`."""
    for folder in _folders(data_dir, _MNIST_C):
        path = folder / name / "test_images.npy"
        if path.is_file():
            images, labels = _load(path), _load(folder / name / "test_labels.npy")
            if images.ndim == 3:
                images = images[..., None]
            return _split(images, labels, _rows(indices, len(images), path), _GREY, path)
    return None


def cifar_10_1(version: str, data_dir: str | Path | None) -> Split | None:
    """Reads CIFAR-10.1, or returns None if it is not there.

    Arguments:
        version: `"v6"`, balanced, or `"v4"`.
        data_dir: The data directory.

    Raises:
        ValueError: If a file is damaged, or has another layout.
    """
    for folder in _folders(data_dir, _CIFAR_10_1):
        path = folder / f"cifar10.1_{version}_data.npy"
        if path.is_file():
            images, labels = _load(path), _load(folder / f"cifar10.1_{version}_labels.npy")
            return _split(images, labels, np.arange(len(images)), _COLOUR, path)
    return None


def _folders(data_dir: str | Path | None, names: tuple[str, ...]) -> list[Path]:
    return [] if data_dir is None else [Path(data_dir) / name for name in names]


def _load(path: Path) -> np.ndarray:
    """An array that is read from the disk where it is used."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"'{path}' is missing, and images beside it cannot be used.") from None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"'{path}' is damaged, or no array of numbers: {error}") from None


def _rows(indices: Tensor, count: int, path: Path) -> np.ndarray:
    rows = indices.cpu().numpy()
    if len(rows) and rows.max() >= count:
        raise ValueError(
            f"'{path}' should have an image for each of the test split, got {count} of them, and "
            f"image {rows.max()} is wanted."
        )
    return rows


def _split(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, shape: tuple[int, ...], path: Path
) -> Split:
    """The images of some rows, each of a shape (H, W, C)."""
    alike = images.dtype == np.uint8 and images.shape[1:] == shape
    if not alike or len(labels) != len(images):
        raise ValueError(
            f"'{path}' should hold bytes of shape (N, {', '.join(map(str, shape))}), one label for each "
            f"image, got {images.dtype} with shape {images.shape} and {len(labels)} labels."
        )
    try:
        return to_split(np.asarray(images[rows]), np.asarray(labels[rows]), layout="NHWC")
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be used: {error}") from None
