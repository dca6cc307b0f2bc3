"""Data sets know their statistics, and batches go through every example once."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lipnets import data
from lipnets.data import ByteSplit, Dataset, Split, batches
from lipnets.data.splitting import hold_out_third


def _split(count: int = 10, channels: int = 2) -> Split:
    images = torch.rand(count, channels, 3, 4, dtype=torch.float32)
    return Split(images, torch.arange(count) % 3)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_split_prints_as_what_it_is_and_is_equal_to_itself_alone() -> None:
    split = _split(7)
    assert repr(split) == "Split(7 images of shape (2, 3, 4))"
    assert split != split[:]  # no comparison of tensors, which would raise
    assert len(split[torch.tensor([3, 1])]) == 2
    assert split[torch.tensor([3, 1])].labels.tolist() == [0, 1]


def test_mean_and_std_are_those_of_the_training_split() -> None:
    train = _split(5000)
    dataset = Dataset("mine", train, _split(4), ("a", "b", "c"))
    pixels = train.images.double().transpose(0, 1).reshape(2, -1)
    assert dataset.mean == pytest.approx(pixels.mean(dim=1).tolist(), rel=1e-12)
    assert dataset.std == pytest.approx(pixels.std(dim=1, correction=0).tolist(), rel=1e-12)
    assert (dataset.num_classes, dataset.in_chans, dataset.img_size) == (3, 2, (3, 4))


def test_the_sum_is_that_of_the_content() -> None:
    train, test = _split(), _split(4)
    dataset = Dataset("mine", train, test, ("a", "b", "c"))
    assert replace(dataset, name="other").sha256 == dataset.sha256
    for changed in (
        replace(dataset, train=train[:9]),
        replace(dataset, test=train),
        replace(dataset, test=Split(test.images, test.labels.flip(0))),
        replace(dataset, train=test, test=train),
    ):
        assert changed.sha256 != dataset.sha256


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.float32), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 4, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 4, 4, dtype=torch.float32), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 1, 4, 4, dtype=torch.float32), torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_a_split_of_other_shapes_or_dtypes_is_refused(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="should have shape"):
        Split(images, labels)


@pytest.mark.parametrize(
    ("test", "classes", "message"),
    [
        (_split(4, channels=1), ("a", "b", "c"), "the same shape"),
        (_split(4), ("a", "b"), r"Labels should be in 0, ..., 1, got 0, ..., 2"),
        (_split(0), ("a", "b", "c"), "at least 1 example"),
    ],
)
def test_a_dataset_whose_parts_do_not_fit_is_refused(test, classes, message) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset("mine", _split(), test, classes)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_have_every_example_once(batch_size, drop_last) -> None:
    split = Split(
        torch.arange(64.0, dtype=torch.float32).reshape(64, 1, 1, 1) / 64, torch.arange(64)
    )
    seen = list(batches(split, batch_size, _generator(), drop_last=drop_last))
    labels = torch.cat([labels for _, labels in seen])
    for images, own in seen:
        assert torch.equal((images.flatten() * 64).long(), own)
    assert len(set(labels.tolist())) == len(labels)
    assert labels.tolist() != sorted(labels.tolist())
    sizes = [len(own) for _, own in seen]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == (64 - 64 % batch_size if drop_last else 64)


def test_the_order_is_that_of_the_generator() -> None:
    split, generator = _split(30), _generator()
    first, second, again = (
        torch.cat([images for images, _ in batches(split, 7, source)])
        for source in (generator, generator, _generator())
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_batches_are_augmented_by_the_same_generator() -> None:
    split, generator = _split(6), _generator()

    def number(images: Tensor, source: torch.Generator) -> Tensor:
        assert source is generator
        return torch.full_like(images, len(images))

    for images, labels in batches(split, 4, generator, augment=number):
        assert (images == len(labels)).all()


def _bytes(count: int = 5000) -> tuple[Tensor, Split]:
    """Images as loaders make them of bytes, all 256 values among them."""
    values = (torch.arange(count * 6) % 256).to(torch.uint8).reshape(count, 1, 2, 3)
    return values, Split(values.to(torch.float32).div_(255), torch.arange(count))


def test_images_that_are_bytes_are_kept_as_bytes_and_come_back_to_the_bit() -> None:
    values, split = _bytes()
    small = data.compact(split)
    assert isinstance(small, ByteSplit)
    assert torch.equal(small.images, values)
    assert len(small) == 5000
    for (a, b), (c, d) in zip(
        batches(split, 700, _generator()), batches(small, 700, _generator()), strict=True
    ):
        assert torch.equal(a.view(torch.int32), c.view(torch.int32))
        assert torch.equal(b, d)
    assert small[:3].images.dtype == torch.float32
    assert small.to("meta")[torch.tensor([0]).to("meta")].images.shape == (1, 1, 2, 3)


@pytest.mark.parametrize("value", [1 / 16, 0.5, 1e-9, 1 - 2**-24])
def test_images_that_are_no_bytes_stay_what_they_are(value) -> None:
    _, split = _bytes()
    split.images[4999, 0, 1, 2] = value
    assert data.compact(split) is split
    digits = data.load("digits").train
    assert data.compact(digits) is digits


def test_no_batch_at_all_is_refused_before_the_first_is_asked_for() -> None:
    for count, batch_size, drop_last in ((0, 1, False), (3, 4, True), (3, 0, False)):
        with pytest.raises(ValueError, match="should be"):
            batches(_split(count), batch_size, _generator(), drop_last=drop_last)


@pytest.mark.parametrize("counts", [(3,), (1, 1, 1), (4, 5, 9), (30, 7, 1, 2)])
def test_a_third_of_every_class_is_held_out(counts) -> None:
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    split = Split(torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1), labels)
    for seed in range(3):
        train, test = hold_out_third(split, seed)
        assert len(test) == round(len(split) / 3)
        kept, held_out = (part.images.flatten().tolist() for part in (train, test))
        assert sorted(kept + held_out) == split.images.flatten().tolist()
        assert kept == sorted(kept)
        assert held_out == sorted(held_out)
        for k, n in enumerate(counts):
            assert abs(int((test.labels == k).sum()) - n / 3) < 1


def test_names_are_checked_and_typos_suggested() -> None:
    assert data.names() == ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "npz"]
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        data.load("mnits")
    with pytest.raises(TypeError, match="has no argument 'pth': did you mean 'path'"):
        data.load("npz", pth="a.npz")
    with pytest.raises(TypeError, match="missing a required argument: 'path'"):
        data.load("npz")


def test_with_replacement_examples_come_twice_or_not_at_all() -> None:
    """Of n draws from n, a share of 1 / e is expected to be missing."""
    split = Split(torch.rand(3000, 1, 1, 1, dtype=torch.float32), torch.arange(3000))
    generator = torch.Generator().manual_seed(0)
    parts = [y for _, y in batches(split, 128, generator, replacement=True)]
    assert [len(each) for each in parts] == [128] * 23 + [56]
    missing = 1 - len(torch.cat(parts).unique()) / 3000
    assert missing == pytest.approx(math.exp(-1), abs=0.03)
    once = torch.cat([y for _, y in batches(split, 128, generator)])
    assert torch.equal(once.sort().values, split.labels)
