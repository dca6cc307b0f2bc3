"""Arrays of images and labels, as files have them, made into splits."""

__all__ = ["LAYOUTS", "to_split"]

from typing import Literal

import numpy as np
import torch
from einops import rearrange

from .dataset import Split

Layout = Literal["NHW", "NHWC", "NCHW"]

LAYOUTS: dict[str, str] = {
    "NHW": "n h w -> n 1 h w",
    "NHWC": "n h w c -> n c h w",
    "NCHW": "n c h w -> n c h w",
}


def to_split(images: np.ndarray, labels: np.ndarray, *, layout: Layout) -> Split:
    """Makes a split of arrays.

    Arguments:
        images: The images, as bytes, or as floats in [0, 1].
        labels: The labels, whole numbers, with shape (N,) or (N, 1).
        layout: The order of dimensions of `images`.

    Raises:
        ValueError: If shapes, dtypes or values are others.
    """
    dims = len(layout)
    if images.ndim != dims:
        raise ValueError(f"Images '{layout}' should have {dims} dimensions, got {images.shape}.")
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"Labels should have shape ({len(images)},), one for each image, got {labels.shape}."
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"Labels should be whole numbers, got dtype {labels.dtype}.")
    # A copy in row-major order, which may be written to: arrays read from files may not be.
    ordered = np.array(rearrange(images, LAYOUTS[layout]), order="C")
    return Split(_to_unit(ordered), torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def _to_unit(images: np.ndarray) -> torch.Tensor:
    """Images in float32 with values in [0, 1]."""
    if images.dtype == np.uint8:
        return torch.from_numpy(images).to(torch.float32).div_(255)
    if images.dtype.kind != "f":
        raise ValueError(
            f"Images should be uint8, or floats in [0, 1], got dtype {images.dtype}. "
            "Convert them first."
        )
    unit = torch.from_numpy(images.astype(np.float32))
    if unit.numel() and not (unit.min() >= 0 and unit.max() <= 1):  # NaN is refused, too
        raise ValueError(
            f"Images in floats should be in [0, 1], got values from {unit.min().item()} to "
            f"{unit.max().item()}. Divide them by their scale first."
        )
    return unit
