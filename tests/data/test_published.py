"""Published test sets, in small files of their layout."""

import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from lipnets.data.published import cifar_10_1, cifar_c, mnist_c
from lipnets.data.shifts import natural_shifts


def _bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("dataset", "folder"), [("cifar10", "CIFAR-10-C"), ("cifar100", "CIFAR-100-C")]
)
def test_severities_of_cifar_c_are_blocks_of_rows(
    tmp_path: Path, dataset: str, folder: str
) -> None:
    images, labels = _bytes(35, 32, 32, 3), np.tile(np.arange(7), 5)
    (tmp_path / folder).mkdir()
    np.save(tmp_path / folder / "fog.npy", images)
    np.save(tmp_path / folder / "labels.npy", labels)
    for severity in range(1, 6):
        split = cifar_c(dataset, "fog", severity, tmp_path, torch.tensor([6, 2]))
        assert split is not None
        expected = images[[7 * severity - 1, 7 * severity - 5]].transpose(0, 3, 1, 2)
        assert np.array_equal((split.images * 255).round().byte().numpy(), expected)
        assert split.labels.tolist() == [6, 2]
    assert cifar_c(dataset, "snow", 1, tmp_path, torch.tensor([0])) is None
    assert cifar_c("mnist", "fog", 1, tmp_path, torch.tensor([0])) is None
    assert cifar_c(dataset, "fog", 1, None, torch.tensor([0])) is None
    with pytest.raises(ValueError, match="7 of them, and image 7 is wanted"):
        cifar_c(dataset, "fog", 1, tmp_path, torch.tensor([7]))


def test_mnist_c_is_a_folder_for_each_corruption(tmp_path: Path) -> None:
    folder = tmp_path / "mnist_c" / "zigzag"
    folder.mkdir(parents=True)
    images = _bytes(9, 28, 28, 1)
    np.save(folder / "test_images.npy", images)
    np.save(folder / "test_labels.npy", np.arange(9))
    split = mnist_c("zigzag", tmp_path, torch.tensor([8]))
    assert split is not None
    assert np.array_equal((split.images * 255).round().byte().numpy()[0, 0], images[8, :, :, 0])
    assert split.labels.tolist() == [8]
    assert mnist_c("fog", tmp_path, torch.tensor([0])) is None


def test_pickles_damage_and_other_layouts_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    index = torch.tensor([0])
    np.save(folder / "labels.npy", np.zeros(10, np.int64))
    np.save(folder / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"fog.npy' is damaged, or no array of numbers"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)
    (folder / "fog.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="damaged"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)
    np.save(folder / "fog.npy", _bytes(12, 32, 32, 3))
    with pytest.raises(ValueError, match="5 N images"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)
    np.save(folder / "fog.npy", _bytes(10, 32, 32, 3).astype(np.float32))
    with pytest.raises(ValueError, match="should hold bytes"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)
    np.save(folder / "fog.npy", _bytes(10, 3, 32, 32))
    with pytest.raises(ValueError, match=r"of shape \(N, 32, 32, 3\).* got .*\(10, 3, 32, 32\)"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)
    np.save(folder / "fog.npy", _bytes(10, 32, 32, 3))
    content = (folder / "fog.npy").read_bytes()
    for kept in (0, 100, len(content) - 1):  # a download that broke off, in the head or later
        (folder / "fog.npy").write_bytes(content[:kept])
        with pytest.raises(ValueError, match=r"fog.npy' is damaged"):
            cifar_c("cifar10", "fog", 1, tmp_path, index)
    (folder / "fog.npy").write_bytes(content)
    (folder / "labels.npy").unlink()
    with pytest.raises(ValueError, match=r"labels.npy' is missing"):
        cifar_c("cifar10", "fog", 1, tmp_path, index)


def test_cifar_10_1_has_versions(tmp_path: Path) -> None:
    images = _bytes(6, 32, 32, 3)
    np.save(tmp_path / "cifar10.1_v4_data.npy", images)
    np.save(tmp_path / "cifar10.1_v4_labels.npy", np.arange(6))
    assert cifar_10_1("v6", tmp_path) is None
    assert [shift.name for shift in natural_shifts("cifar10", tmp_path)] == ["cifar10.1_v4"]
    split = cifar_10_1("v4", tmp_path)
    assert split is not None
    assert split.images.shape == (6, 3, 32, 32)


def test_usps_is_unpacked_and_resized(tmp_path: Path) -> None:
    images = np.full((4, 16, 16), 51, np.uint8)
    np.savez(
        tmp_path / "ood_gray.npz",
        usps_test_xz=np.frombuffer(lzma.compress(images.tobytes()), np.uint8),
        usps_test_shape=np.array(images.shape),
        usps_test_labels=np.array([3, 1, 4, 1], np.uint8),
    )
    usps, digits = natural_shifts("mnist", tmp_path)
    assert (usps.name, digits.name) == ("usps", "digits")
    assert usps.split.images.shape == (4, 1, 28, 28)
    assert torch.allclose(usps.split.images, torch.tensor(0.2, dtype=torch.float32))
    assert usps.split.labels.tolist() == [3, 1, 4, 1]
    (tmp_path / "ood_gray.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged, or has no USPS"):
        list(natural_shifts("mnist", tmp_path))
