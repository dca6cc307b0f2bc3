"""MNIST and Fashion-MNIST are read from idx files."""

import numpy as np
import pytest
import torch

from lipnets import data
from lipnets.data import mnist

RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(256, size=(7, 28, 28)),
    "train-labels-idx1-ubyte": np.array([0, 9, 3, 3, 1, 2, 9]),
    "t10k-images-idx3-ubyte": RNG.integers(256, size=(2, 28, 28)),
    "t10k-labels-idx1-ubyte": np.array([4, 9]),
}


@pytest.mark.parametrize(
    ("name", "constant", "folder", "form"),
    [
        ("mnist", "MNIST", "", "plain"),
        ("mnist", "MNIST", "mnist", "gz"),
        ("mnist", "MNIST", "MNIST/raw", "gz"),
        ("fashion_mnist", "FASHION_MNIST", "fashion_mnist", "plain"),
        ("fashion_mnist", "FASHION_MNIST", "FashionMNIST/raw", "gz"),
    ],
)
def test_images_and_labels_are_those_of_the_files(
    tmp_path, monkeypatch, idx, lay, release, name, constant, folder, form
) -> None:
    files = {file: idx(array) for file, array in ARRAYS.items()}
    published = release(files, folders=getattr(mnist, constant).folders)
    monkeypatch.setattr(mnist, constant, published)
    lay(tmp_path / folder, files, form)

    dataset = data.load(name, data_dir=tmp_path, download=False)
    for split, prefix in ((dataset.train, "train"), (dataset.test, "t10k")):
        pixels = torch.from_numpy(ARRAYS[f"{prefix}-images-idx3-ubyte"])
        assert split.images.dtype == torch.float32
        assert torch.equal((split.images[:, 0] * 255).round().long(), pixels)
        assert split.labels.tolist() == ARRAYS[f"{prefix}-labels-idx1-ubyte"].tolist()
    assert dataset.num_classes == 10
    assert dataset.in_chans == 1
    assert dataset.img_size == (28, 28)


def test_other_files_of_these_names_are_refused(tmp_path, idx, lay) -> None:
    lay(tmp_path, {file: idx(array) for file, array in ARRAYS.items()})
    with pytest.raises(ValueError, match="SHA-256"):
        data.load("mnist", data_dir=tmp_path)
    assert len(data.load("mnist", data_dir=tmp_path, verify=False).train) == 7


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\0", b"\0\0\x08\x01\0\0\0\x02a", b"\0\0\x08\x03\0\0"],
)
def test_what_is_not_an_idx_file_of_bytes_is_refused(content) -> None:
    with pytest.raises(ValueError, match=r"An idx file .* in this file"):
        mnist.parse_idx(content, "this file")
