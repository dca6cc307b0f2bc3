"""Natural shifts: other images of the same classes, which nobody made harder.

| trained on | shifted | where it is from |
|---|---|---|
| `cifar10` | `cifar10.1_v6`, `cifar10.1_v4` | the files of CIFAR-10.1, in the data directory |
| `mnist` | `usps` | `ood_gray.npz`, in the data directory: 16 × 16, resized to 28 |
| `mnist` | `digits` | scikit-learn: 8 × 8, resized to 28 |

References:
    | Do CIFAR-10 Classifiers Generalize to CIFAR-10? (Recht et al., 2018) https://arxiv.org/abs/1806.00451
    | A Database for Handwritten Text Recognition Research (Hull, 1994), for USPS
    | https://doi.org/10.1109/34.291440
"""

__all__ = ["Shift", "natural_shifts"]

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from .arrays import to_split
from .dataset import Split
from .digits import digits
from .packed import DAMAGED, open_packed, unpacked
from .published import cifar_10_1


@dataclass(frozen=True, eq=False)
class Shift:
    """A test set that is shifted.

    Arguments:
        name: What to call it.
        split: Its images, of the shape of those that were trained on.
        source: Where it is from, and what was done to it.
    """

    name: str
    split: Split
    source: str


def natural_shifts(dataset: str, data_dir: str | Path | None) -> Iterator[Shift]:
    """Yields the shifts of a data set that can be had without a network.

    Arguments:
        dataset: The name of the data set that a model was trained on.
        data_dir: The data directory, if there is one.

    Raises:
        ValueError: If a file is damaged, or has another layout.
    """
    if dataset == "cifar10":
        for version in ("v6", "v4"):
            split = cifar_10_1(version, data_dir)
            if split is not None:
                yield Shift(f"cifar10.1_{version}", split, "official files")
    if dataset == "mnist":
        usps = _usps(data_dir)
        if usps is not None:
            yield Shift("usps", _resized(usps), "ood_gray.npz, 16 × 16 resized to 28 × 28")
        whole = digits()
        images = torch.cat([whole.train.images, whole.test.images])
        labels = torch.cat([whole.train.labels, whole.test.labels])
        source = "scikit-learn, 8 × 8 resized to 28 × 28"
        yield Shift("digits", _resized(Split(images, labels)), source)


def _resized(split: Split) -> Split:
    images = F.interpolate(split.images, size=(28, 28), mode="bilinear", align_corners=False)
    return Split(images.clamp(0, 1), split.labels)


def _usps(data_dir: str | Path | None) -> Split | None:
    """The test split of USPS: bytes, compressed by xz, with their shape and labels beside them."""
    path = Path(data_dir or ".") / "ood_gray.npz"
    if data_dir is None or not path.is_file():
        return None
    try:
        with open_packed(path) as archive:
            images = unpacked(archive, "usps_test")
            return to_split(images, archive["usps_test_labels"], layout="NHW")
    except DAMAGED as error:
        raise ValueError(f"'{path}' is damaged, or has no USPS in it: {error}") from None
