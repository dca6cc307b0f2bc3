"""Any .npz file with images and labels can be used."""

import hashlib

import numpy as np
import pytest
import torch

from lipnets import data

RNG = np.random.default_rng(0)
BYTES = RNG.integers(256, size=(12, 5, 4, 3)).astype(np.uint8)  # NHWC
LABELS = np.arange(12) % 4
CHANNELS_FIRST = torch.from_numpy(BYTES.transpose(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("train_images", "train_labels"), ("test_images", "test_labels")),
        (("x_train", "y_train"), ("x_test", "y_test")),
    ],
)
def test_both_splits_are_read(tmp_path, train, test) -> None:
    path = tmp_path / "mine.npz"
    arrays = dict(zip(train + test, (BYTES, LABELS, BYTES[:5], LABELS[:5]), strict=True))
    np.savez(path, **arrays)
    dataset = data.load("npz", path=path)
    assert torch.allclose(dataset.train.images.double(), CHANNELS_FIRST, atol=1e-7)
    assert torch.allclose(dataset.test.images.double(), CHANNELS_FIRST[:5], atol=1e-7)
    assert dataset.test.labels.tolist() == LABELS[:5].tolist()
    assert dataset.classes == ("0", "1", "2", "3")
    assert dataset.name == "mine"


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("x", "y")])
def test_a_third_is_held_out_if_there_is_no_test_split(tmp_path, images, labels) -> None:
    np.savez(tmp_path / "one.npz", **{images: BYTES, labels: LABELS})
    dataset = data.load("npz", path="one.npz", data_dir=tmp_path)
    assert dataset.test.labels.bincount().tolist() == [1, 1, 1, 1]
    assert dataset.train.labels.bincount().tolist() == [2, 2, 2, 2]
    rows = [tuple(image.flatten().tolist()) for image in CHANNELS_FIRST.float()]
    both = torch.cat([dataset.train.images, dataset.test.images])
    assert sorted(tuple(image.flatten().tolist()) for image in both) == sorted(rows)
    others = [data.load("npz", path=tmp_path / "one.npz", seed=seed) for seed in range(4)]
    assert others[0].sha256 == dataset.sha256
    assert len({other.sha256 for other in others}) > 1


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (BYTES, CHANNELS_FIRST),
        (BYTES.transpose(0, 3, 1, 2), CHANNELS_FIRST),
        (BYTES[..., 1], CHANNELS_FIRST[:, 1:2]),
        (BYTES[..., 1:2], CHANNELS_FIRST[:, 1:2]),
        (BYTES / 255, CHANNELS_FIRST),
        ((BYTES / 255).astype(np.float32), CHANNELS_FIRST),
    ],
)
def test_layouts_and_dtypes_are_found_out(tmp_path, images, expected) -> None:
    np.savez(tmp_path / "a.npz", x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)
    dataset = data.load("npz", path=tmp_path / "a.npz")
    assert dataset.train.images.dtype == torch.float32
    assert torch.allclose(dataset.train.images.double(), expected, atol=1e-7)


def test_an_unclear_layout_must_be_given(tmp_path) -> None:
    images = RNG.random((6, 3, 5, 3))
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(6) % 2)
    with pytest.raises(ValueError, match=r"not clear from its shape .*give 'layout'"):
        data.load("npz", path=tmp_path / "a.npz")
    assert data.load("npz", path=tmp_path / "a.npz", layout="NHWC").img_size == (3, 5)
    assert data.load("npz", path=tmp_path / "a.npz", layout="NCHW").img_size == (5, 3)


def test_names_of_classes_are_read(tmp_path) -> None:
    names = np.array(["a", "b", "c", "d", "never seen"])
    np.savez(tmp_path / "a.npz", images=BYTES, labels=LABELS[:, None], classes=names)
    assert data.load("npz", path=tmp_path / "a.npz").classes == tuple(names)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": BYTES, "labels": LABELS}, "has pictures, labels"),
        ({"images": BYTES, "labels": LABELS[:5]}, r"shape \(12,\)"),
        ({"images": BYTES, "labels": LABELS / 2}, "whole numbers"),
        ({"images": BYTES, "labels": LABELS - 1}, "Labels should be in"),
        ({"images": BYTES, "labels": LABELS, "classes": np.array(["a"])}, "Labels should be in"),
        ({"images": BYTES.astype(float), "labels": LABELS}, r"in \[0, 1\], got values from"),
        ({"images": np.full((12, 5, 4), np.nan), "labels": LABELS}, r"in \[0, 1\]"),
        ({"images": BYTES.astype(int), "labels": LABELS}, "uint8, or floats"),
        ({"images": BYTES[:2], "labels": LABELS[:2]}, "3 examples or more"),
        ({"images": BYTES[:0], "labels": LABELS[:0]}, "3 examples or more"),
        ({"images": BYTES.astype(object), "labels": LABELS}, "allow_pickle=False"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, arrays, message) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=f"a.npz' cannot be used: .*{message}"):
        data.load("npz", path=tmp_path / "a.npz")


def test_damaged_files_are_refused(tmp_path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=BYTES, labels=LABELS)
    good = path.read_bytes()
    middle = len(good) // 2
    for bad in (b"", b"text", good[:-9], good[:100] + bytes(50) + good[150:], good[:middle]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="cannot be used: it is "):
            data.load("npz", path=path)
    np.save(tmp_path / "a.npy", BYTES)
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        data.load("npz", path=tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        data.load("npz", path=tmp_path / "b.npz")


def test_a_sum_can_be_demanded(tmp_path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=BYTES, labels=LABELS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(data.load("npz", path=path, sha256=digest).train) == 8
    with pytest.raises(ValueError, match="SHA-256"):
        data.load("npz", path=path, sha256="0" * 64)
