"""Data sets as tensors in [0, 1], and what is done to images: augmentation, corruptions, filters.

```python
dataset = lipnets.data.load("cifar10", data_dir="data")
for images, labels in lipnets.data.batches(dataset.train, 128, generator):
    ...
```
"""

__all__ = [
    "ByteSplit",
    "Dataset",
    "Labels",
    "Mixed",
    "Split",
    "augment",
    "batches",
    "build",
    "compact",
    "corruptions",
    "filters",
    "load",
    "names",
    "published",
    "shifts",
    "with_label_noise",
]

import inspect
from pathlib import Path
from typing import Any

from . import augment, cifar, corruptions, digits, filters, mnist, npz, published, shifts
from ._registry import datasets
from .dataset import ByteSplit, Dataset, Split, batches, compact
from .labels import Labels, Mixed
from .noise import with_label_noise

names = datasets.names
build = datasets.build


def load(
    name: str,
    data_dir: str | Path | None = None,
    download: bool = True,
    verify: bool = True,
    **settings: Any,
) -> Dataset:
    """Loads a data set into memory.

    Arguments:
        name: Its name, one of `names()`.
        data_dir: Where its files are looked for, and downloaded to: `data` in the working
            directory, by default.  The data set `"digits"` has no files.
        download: Whether to download its files if they are not there.
        verify: Whether to refuse files that are not, byte by byte, the ones their authors
            published, by SHA-256.
        **settings: What else it takes, such as `path` for `"npz"`.

    Raises:
        ValueError: If there is no data set of that name, or if a file is damaged or another.
        TypeError: If it does not take one of the settings.
        FileNotFoundError: If files are missing and cannot be had: says which, and where to put
            them.
    """
    common = {"data_dir": data_dir, "download": download, "verify": verify}
    takes = inspect.signature(datasets[name]).parameters
    common = {key: value for key, value in common.items() if key in takes}
    return datasets.build(name, **common, **settings)
