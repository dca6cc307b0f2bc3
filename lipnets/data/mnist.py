"""MNIST and Fashion-MNIST, from the idx files of their authors.

References:
    | Gradient-based learning applied to document recognition (LeCun et al., 1998)
    | http://yann.lecun.com/exdb/mnist
    | Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms
      (Xiao, Rasul & Vollgraf, 2017)
    | https://arxiv.org/abs/1708.07747
"""

__all__ = ["fashion_mnist", "mnist"]

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ._registry import datasets
from .arrays import to_split
from .dataset import Dataset, Split
from .files import Release, read

MNIST = Release(
    title="MNIST",
    sums={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    folders=("mnist", "mnist/raw", "MNIST/raw", "MNIST", "."),
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)
FASHION_MNIST = Release(
    title="Fashion-MNIST",
    sums={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    folders=(
        "fashion_mnist",
        "fashion_mnist/raw",
        "FashionMNIST/raw",
        "FashionMNIST",
        "fashion-mnist",
        ".",
    ),
    addresses=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
)
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@datasets.register
def mnist(
    data_dir: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Loads MNIST: 60,000 and 10,000 grey images of digits, 28 x 28 pixels.

    Arguments and errors are those of `lipnets.data.load`.
    """
    _, contents = read([MNIST], data_dir, download=download, verify=verify)
    return Dataset("mnist", *_splits(contents), classes=tuple("0123456789"))


@datasets.register
def fashion_mnist(
    data_dir: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Loads Fashion-MNIST: 60,000 and 10,000 grey images of clothes, 28 x 28 pixels.

    Arguments and errors are those of `lipnets.data.load`.
    """
    _, contents = read([FASHION_MNIST], data_dir, download=download, verify=verify)
    return Dataset("fashion_mnist", *_splits(contents), classes=FASHION_MNIST_CLASSES)


def parse_idx(content: bytes, what: str) -> np.ndarray:
    """Reads an array of bytes in the idx format.

    The format: 0, 0, 8 for bytes, the number d of dimensions; d sizes, as big-endian integers of
    4 bytes; the bytes, in row-major order.

    Raises:
        ValueError: If it is anything else.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(
            f"An idx file of bytes should begin with 00 00 08, got {content[:3].hex(' ')} in {what}."
        )
    dims = content[3]
    header = 4 + 4 * dims
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"An idx file of shape {shape} should have {header + math.prod(shape)} bytes, got "
            f"{len(content)} in {what}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _splits(contents: Mapping[str, bytes]) -> tuple[Split, Split]:
    arrays = {name: parse_idx(content, f"'{name}'") for name, content in contents.items()}
    train, test = (
        to_split(
            arrays[f"{prefix}-images-idx3-ubyte"],
            arrays[f"{prefix}-labels-idx1-ubyte"],
            layout="NHW",
        )
        for prefix in ("train", "t10k")
    )
    return train, test
