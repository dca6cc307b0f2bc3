"""CIFAR is read from binary files and from pickles, and both give the same."""

import numpy as np
import pytest
import torch

from lipnets import data
from lipnets.data import cifar

RNG = np.random.default_rng(0)


@pytest.fixture(params=["cifar10", "cifar100"])
def case(request, monkeypatch, py2_pickle, release) -> tuple[str, dict, dict]:
    """A tiny data set: its name, its arrays by split, its files in both forms."""
    name = request.param
    constant = name.upper()
    classes = 10 if name == "cifar10" else 100
    arrays, forms = {}, {"BINARY": {}, "PYTHON": {}}
    for file in getattr(cifar, f"{constant}_PYTHON").sums:
        pixels = RNG.integers(256, size=(3, 3072)).astype(np.uint8)
        labels = RNG.integers(classes, size=3).astype(np.uint8)
        arrays[file] = pixels, labels
        columns = [labels[:, None], pixels]
        if name == "cifar100":  # the coarse label comes first
            columns.insert(0, (labels // 5)[:, None])
        forms["BINARY"][f"{file}.bin"] = np.hstack(columns).tobytes()
        key = "labels" if name == "cifar10" else "fine_labels"
        forms["PYTHON"][file] = py2_pickle(pixels, labels.tolist(), key)
    for form, files in forms.items():
        old = getattr(cifar, f"{constant}_{form}")
        new = release(files, folders=old.folders, archive=old.archive)
        monkeypatch.setattr(cifar, f"{constant}_{form}", new)
    return name, arrays, forms


@pytest.mark.parametrize("form", ["BINARY", "PYTHON"])
@pytest.mark.parametrize("archived", [False, True])
def test_images_and_labels_are_those_of_the_files(tmp_path, case, lay, form, archived) -> None:
    name, arrays, forms = case
    published = getattr(cifar, f"{name.upper()}_{form}")
    if archived:
        lay(tmp_path, forms[form], published.archive)
    else:
        lay(tmp_path / published.folders[1], forms[form])

    dataset = data.load(name, data_dir=tmp_path, download=False)
    for split, test in ((dataset.train, False), (dataset.test, True)):
        parts = [part for file, part in arrays.items() if file.startswith("test") == test]
        pixels = torch.from_numpy(np.concatenate([part[0] for part in parts]))
        # Pixel (row, column) of channel c is byte 1024c + 32 row + column of an image.
        for channel, row, column in ((0, 0, 1), (1, 2, 3), (2, 31, 30)):
            values = (split.images[:, channel, row, column] * 255).round().to(torch.uint8)
            assert torch.equal(values, pixels[:, 1024 * channel + 32 * row + column])
        assert split.labels.tolist() == np.concatenate([part[1] for part in parts]).tolist()
    assert dataset.in_chans == 3
    assert dataset.img_size == (32, 32)


def test_both_forms_have_the_same_sum(tmp_path, case, lay) -> None:
    name, _, forms = case
    for form, files in forms.items():
        lay(tmp_path / form, files)
    sums = {data.load(name, data_dir=tmp_path / form, download=False).sha256 for form in forms}
    assert len(sums) == 1


def test_classes_are_in_the_order_of_labels() -> None:
    assert cifar.CIFAR10_CLASSES[3] == "cat"
    assert cifar.CIFAR10_CLASSES[8] == "ship"
    assert len(set(cifar.CIFAR100_CLASSES)) == 100
    assert list(cifar.CIFAR100_CLASSES) == sorted(cifar.CIFAR100_CLASSES)


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_a_binary_file_of_another_size_is_refused(tmp_path, case, lay, size) -> None:
    name, _, forms = case
    size += name == "cifar100"
    lay(tmp_path, dict.fromkeys(forms["BINARY"], bytes(size)))
    with pytest.raises(ValueError, match="should have a multiple of 307"):
        data.load(name, data_dir=tmp_path, verify=False)


@pytest.mark.parametrize(("key", "width"), [("labels", 3071), ("coarse_labels", 3072)])
def test_a_pickle_of_something_else_is_refused(tmp_path, case, lay, py2_pickle, key, width) -> None:
    name, _, forms = case
    content = py2_pickle(np.zeros((2, width), np.uint8), [1, 2], key)
    lay(tmp_path, dict.fromkeys(forms["PYTHON"], content))
    with pytest.raises(ValueError, match="should hold '"):
        data.load(name, data_dir=tmp_path, verify=False)
