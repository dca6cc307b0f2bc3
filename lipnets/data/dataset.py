"""Data sets, as tensors in memory."""

__all__ = ["ByteSplit", "Dataset", "Split", "batches", "compact"]

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .augment import Augmentation, Mixing
from .labels import Labels

_CHUNK = 4096  # images at a time: statistics are summed in double precision, which takes space


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, for training or for testing.

    A part of it is a split as well: `split[:1000]`, or `split[indices]`.

    Arguments:
        images: The images in [0, 1], in float32, with shape (N, C, H, W).
        labels: The labels in {0, ..., K - 1}, in int64, with shape (N,).

    Raises:
        ValueError: If shapes or dtypes are others.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != torch.float32:
            raise ValueError(
                "'images' should have shape (N, C, H, W) and dtype torch.float32, "
                f"got {tuple(images.shape)} and {images.dtype}."
            )
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"'labels' should have shape ({len(images)},), one for each image, and dtype "
                f"torch.int64, got {tuple(labels.shape)} and {labels.dtype}."
            )

    def __repr__(self) -> str:
        return f"Split({len(self)} images of shape {tuple(self.images.shape[1:])})"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        return Split(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ByteSplit:
    """A split in a quarter of the space, whose parts are splits: `split[indices]`.

    Arguments:
        images: The images k/255, as the bytes k, with shape (N, C, H, W).
        labels: The labels, as in `Split`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Split:
        images = self.images[index].to(torch.float32)
        # By a tensor: by a number, GPUs would multiply with 1/255 and round otherwise than CPUs.
        return Split(images.div_(images.new_full((), 255)), self.labels[index])

    def to(self, device: torch.device | str) -> "ByteSplit":
        """The same split on another device."""
        return ByteSplit(self.images.to(device), self.labels.to(device))


def compact(split: Split) -> Split | ByteSplit:
    """The same split as bytes if every image is one, to the bit; itself if not.

    Images of MNIST, Fashion-MNIST and CIFAR are; those of digits, with values k/16, are not.
    """
    chunks = []
    for chunk in split.images.split(_CHUNK):
        part = ByteSplit(chunk.mul(255).round_().to(torch.uint8), split.labels[: len(chunk)])
        if not torch.equal(part[:].images.view(torch.int32), chunk.view(torch.int32)):
            return split
        chunks.append(part.images)
    return ByteSplit(torch.cat(chunks), split.labels) if chunks else split


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: what to train on, what to test on, and what the labels mean.

    Arguments:
        name: What to call it.
        train: The examples to train on.
        test: The examples held out.
        classes: The names of the K classes, in the order of labels.

    Raises:
        ValueError: If the two splits have images of different shapes, if one is empty, or if a
            label is not in {0, ..., K - 1}.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        shapes = [tuple(split.images.shape[1:]) for split in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"Images to train on and to test on should have the same shape, got {shapes[0]} "
                f"and {shapes[1]} in '{self.name}'."
            )
        for split in (self.train, self.test):
            if len(split) == 0:
                raise ValueError(f"A split should have at least 1 example, got 0 in '{self.name}'.")
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"Labels should be in 0, ..., {self.num_classes - 1}, got {low}, ..., {high} "
                    f"in '{self.name}'."
                )

    @property
    def num_classes(self) -> int:
        """The number K of classes."""
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        """The number C of channels of images."""
        return self.train.images.shape[1]

    @property
    def img_size(self) -> tuple[int, int]:
        """The height H and width W of images, in pixels."""
        height, width = self.train.images.shape[2:]
        return height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of every channel, over pixels and images of the training split."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of every channel, over pixels and images to train on."""
        return self._moments[1]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of shapes, images and labels: the same from whatever files they were read."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.images, split.labels):
                digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
                for chunk in tensor.cpu().split(_CHUNK):
                    digest.update(chunk.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        chunks = self.train.images.split(_CHUNK)
        count = self.train.images.numel() / self.in_chans
        mean = sum(chunk.double().sum(dim=(0, 2, 3)) for chunk in chunks) / count  # (C,)
        centre = torch.as_tensor(mean).reshape(-1, 1, 1)
        variance = sum((chunk - centre).square().sum(dim=(0, 2, 3)) for chunk in chunks) / count
        return (
            tuple(torch.as_tensor(mean).tolist()),
            tuple(torch.as_tensor(variance).sqrt().tolist()),
        )


def batches(
    split: Split | ByteSplit,
    batch_size: int,
    generator: torch.Generator,
    *,
    augment: Augmentation | Mixing | None = None,
    device: torch.device | str | None = None,
    drop_last: bool = False,
    replacement: bool = False,
) -> Iterator[tuple[Tensor, Labels]]:
    """Goes through a split once, in random order.

    Arguments:
        split: The examples.
        batch_size: The number of examples of a batch; the last may have fewer.
        generator: The source of randomness, of the order and of `augment`, on the CPU.
        augment: Changes the images of a batch, or mixes them with their labels, see
            `lipnets.data.augment`.
        device: Where batches are needed; where the split is, by default.
        drop_last: Whether to leave out the last batch if it has fewer examples.
        replacement: Whether each example is drawn from all of them: some come twice then, and others
            not at all.

    Returns:
        An iterator of images, with shape (B, C, H, W), and labels, with shape (B,) or mixed.

    Raises:
        ValueError: If `batch_size` is less than 1, or if there would be no batch.
    """
    if batch_size < 1:
        raise ValueError(f"'batch_size' should be at least 1, got {batch_size}.")
    if len(split) < (batch_size if drop_last else 1):
        raise ValueError(
            f"There should be a batch: 'split' has {len(split)} examples, "
            f"with batch_size={batch_size} and drop_last={drop_last}."
        )
    count, at = len(split), split.labels.device
    if replacement:
        order = torch.randint(count, (count,), generator=generator).to(at)
    else:
        order = torch.randperm(count, generator=generator).to(at)
    return _batches(split, order.split(batch_size), generator, augment, device, drop_last)


def _batches(
    split: Split | ByteSplit,
    parts: Sequence[Tensor],
    generator: torch.Generator,
    augment: Augmentation | Mixing | None,
    device: torch.device | str | None,
    drop_last: bool,
) -> Iterator[tuple[Tensor, Labels]]:
    for indices in parts:
        if drop_last and len(indices) < len(parts[0]):
            return
        part = split[indices]
        images, labels = part.images.to(device), part.labels.to(device)
        if isinstance(augment, Mixing):
            yield augment(images, labels, generator)
        else:
            yield (images if augment is None else augment(images, generator)), labels
