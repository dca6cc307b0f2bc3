"""CIFAR-10 and CIFAR-100, from the binary files or the Python pickles of their authors.

Sums of the binary files of CIFAR-100 and of the pickles are those published by other loaders:
torchvision-ruby, and several that also give the MD5 sums of torchvision.

References:
    | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009)
    | https://www.cs.toronto.edu/~kriz/cifar.html
"""

__all__ = ["cifar10", "cifar100"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ._registry import datasets
from .arrays import to_split
from .dataset import Dataset, Split
from .files import Release, read
from .unpickling import load_arrays

_ADDRESSES = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

CIFAR10_BINARY = Release(
    title="CIFAR-10",
    sums={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    folders=(".", "cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"),
    addresses=_ADDRESSES,
    archive="cifar-10-binary.tar.gz",
)
CIFAR10_PYTHON = Release(
    title="CIFAR-10",
    sums={
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    folders=(".", "cifar-10-batches-py", "cifar10", "cifar10/cifar-10-batches-py"),
    addresses=_ADDRESSES,
    archive="cifar-10-python.tar.gz",
)
CIFAR100_BINARY = Release(
    title="CIFAR-100",
    sums={
        "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    },
    folders=(".", "cifar-100-binary", "cifar100", "cifar100/cifar-100-binary"),
    addresses=_ADDRESSES,
    archive="cifar-100-binary.tar.gz",
)
CIFAR100_PYTHON = Release(
    title="CIFAR-100",
    sums={
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
    },
    folders=(".", "cifar-100-python", "cifar100", "cifar100/cifar-100-python"),
    addresses=_ADDRESSES,
    archive="cifar-100-python.tar.gz",
)
_NAMES10 = "airplane automobile bird cat deer dog frog horse ship truck"
_NAMES100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR10_CLASSES = tuple(_NAMES10.split())
CIFAR100_CLASSES = tuple(_NAMES100.split())

Arrays = tuple[np.ndarray, np.ndarray]  # images (N, 3, 32, 32), labels (N,)


@datasets.register
def cifar10(
    data_dir: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Loads CIFAR-10: 50,000 and 10,000 colour images of 10 classes, 32 x 32 pixels.

    Arguments and errors are those of `lipnets.data.load`.
    """
    forms = [CIFAR10_BINARY, CIFAR10_PYTHON]
    release, contents = read(forms, data_dir, download=download, verify=verify)
    parse = _parse_binary if release is forms[0] else _parse_pickle
    return _dataset("cifar10", contents, parse, labels=1, classes=CIFAR10_CLASSES)


@datasets.register
def cifar100(
    data_dir: str | Path | None = None, download: bool = True, verify: bool = True
) -> Dataset:
    """Loads CIFAR-100: 50,000 and 10,000 colour images of 100 (fine) classes, 32 x 32 pixels.

    Arguments and errors are those of `lipnets.data.load`.
    """
    forms = [CIFAR100_BINARY, CIFAR100_PYTHON]
    release, contents = read(forms, data_dir, download=download, verify=verify)
    parse = _parse_binary if release is forms[0] else _parse_pickle
    return _dataset("cifar100", contents, parse, labels=2, classes=CIFAR100_CLASSES)


def _dataset(
    name: str,
    contents: Mapping[str, bytes],
    parse: Callable[[bytes, int, str], Arrays],
    *,
    labels: int,
    classes: tuple[str, ...],
) -> Dataset:
    parsed = {file: parse(content, labels, f"'{file}'") for file, content in contents.items()}
    train = _join([arrays for file, arrays in parsed.items() if not file.startswith("test")])
    test = _join([arrays for file, arrays in parsed.items() if file.startswith("test")])
    return Dataset(name, train, test, classes)


def _join(parts: Sequence[Arrays]) -> Split:
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return to_split(images, labels, layout="NCHW")


def _parse_binary(content: bytes, labels: int, what: str) -> Arrays:
    """Records of the binary version: one or two bytes of labels, the finest last, and an image."""
    record = labels + 3 * 32 * 32
    if not content or len(content) % record:
        raise ValueError(
            f"{what} should have a multiple of {record} bytes, those of an image, got "
            f"{len(content)}."
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1]


def _parse_pickle(content: bytes, labels: int, what: str) -> Arrays:
    """The dictionary of the Python version: `data`, and a list of labels."""
    loaded = load_arrays(content, what)
    key = b"labels" if labels == 1 else b"fine_labels"
    images, numbers = loaded.get(b"data"), loaded.get(key)
    if not (isinstance(images, np.ndarray) and images.ndim == 2 and images.shape[1] == 3072):
        raise ValueError(f"{what} should hold 'data', an array with shape (N, 3072).")
    if not (isinstance(numbers, list) and all(type(number) is int for number in numbers)):
        raise ValueError(f"{what} should hold '{key.decode()}', a list of whole numbers.")
    return images.reshape(-1, 3, 32, 32), np.array(numbers, dtype=np.int64)
