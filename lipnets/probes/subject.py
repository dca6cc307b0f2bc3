"""The subject of probes: a certified network, and the images that it is examined on."""

__all__ = ["Subject", "Tracker", "silently"]

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, output_shape
from ..certify import Certificate, certify
from ..data import Split
from ..export import export
from ..metrics import bootstrap_mean, clopper_pearson
from ..records import Record
from .uncertified import Uncertified

T = TypeVar("T")


class Tracker(Protocol):
    """Goes through a sequence, and shows how far it is."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        """Yields the items in turn."""
        ...


def silently(items: Sequence[T], what: str) -> Iterable[T]:
    """Goes through a sequence, and shows nothing."""
    return items


@dataclass(frozen=True, eq=False)
class Subject:
    """A network under examination.  All numbers are of its certified program, in float64.

    Probes search with `fast`, which has gradients, and judge what they find with `run`.

    Arguments:
        model: The model, which nobody changes.
        certificate: What is proved of it, with the program that is proved; `Uncertified` if no rule
            covers it.
        split: The images and their labels.
        indices: The index of each image in its data set, with shape (N,).
        logits: The logits of the images, with shape (N, K).
        whole: The number of images that the data set has in this split.
        batch_size: The number of images at a time.
        history: The records of the training.
        provenance: What every record says of its origin, such as the name of the data set.
        track: Shows the progress of a loop.
        data_dir: Where other data sets are looked for, if anywhere.
    """

    model: nn.Module
    certificate: Certificate | Uncertified
    split: Split
    indices: Tensor
    logits: Tensor
    whole: int
    batch_size: int = 256
    history: Sequence[Record] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    track: Tracker = silently
    data_dir: str | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        split: Split,
        *,
        limit: int | None = None,
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        history: Sequence[Record] = (),
        provenance: dict[str, Any] | None = None,
        track: Tracker = silently,
        refuse: bool = True,
        data_dir: str | None = None,
    ) -> "Subject":
        """Certifies a model and runs it on images.

        Arguments:
            model: The model, in evaluation mode.
            split: The images and their labels.
            limit: The number of images to examine it on, evenly spaced in the split; by default
                all of them.
            batch_size: The number of images at a time.
            device: Where the certified program runs.
            history: The records of the training.
            provenance: What every record should say of its origin.
            track: Shows the progress of a loop.
            refuse: Whether to refuse a model that cannot be certified; if not, it is only measured.
            data_dir: Where other data sets are looked for, if anywhere.

        Raises:
            NotCertifiedError: If the model cannot be certified, and `refuse`.
            ValueError: If there are no images, if the model does not take images of their shape,
                or if a label is not one of its classes.
        """
        if len(split) == 0:
            raise ValueError("There is nothing to examine the model on: the split is empty.")
        whole, indices = len(split), _evenly_spaced(len(split), limit)
        split = split[indices]
        _check_shape(model, split.images[:2])
        shape = tuple(split.images.shape[1:])
        try:
            certificate = certify(model, shape)
        except NotCertifiedError as error:
            if refuse or model.training:
                raise
            certificate = _uncertified(model, shape, str(error))
        if certificate.program is not None:
            certificate.program.to(device)
        if not 0 <= int(split.labels.min()) <= int(split.labels.max()) < certificate.num_classes:
            raise ValueError(
                f"The model has {certificate.num_classes} classes, and labels go from "
                f"{int(split.labels.min())} to {int(split.labels.max())}: it was trained on "
                "other data."
            )
        logits = _logits(certificate, split.images, batch_size, track)
        return cls(
            model,
            certificate,
            split,
            indices,
            logits,
            whole,
            batch_size,
            history,
            provenance or {},
            track,
            data_dir,
        )

    def __len__(self) -> int:
        return len(self.split)

    @property
    def images(self) -> Tensor:
        """The images, with shape (N, C, H, W)."""
        return self.split.images

    @property
    def labels(self) -> Tensor:
        """The labels, with shape (N,)."""
        return self.split.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image, (C, H, W)."""
        return tuple(self.images.shape[1:])

    @property
    def proved(self) -> Certificate | None:
        """The certificate, or None if there is none that says anything."""
        return self.certificate if isinstance(self.certificate, Certificate) else None

    @property
    def device(self) -> torch.device:
        """Where programs run."""
        program = self.certificate.program
        tensors = {} if program is None else program.state_dict()
        return next((each.device for each in tensors.values()), torch.device("cpu"))

    @cached_property
    def fast(self) -> nn.Module:
        """The network in float32, for searches: gradients reach images, and not weights."""
        return self._plain().float().to(self.device)

    @cached_property
    def precise(self) -> nn.Module:
        """The network in float64, for gradients that are exact to rounding."""
        return self._plain().double().to(self.device)

    @cached_property
    def radii(self) -> Tensor:
        """The certified radii, zero or negative where the prediction is wrong, with shape (N,)."""
        return self.certificate.radii_of(self.logits, self.labels)

    def sample(self, limit: int | None) -> "Subject":
        """The same network on some of the images, evenly spaced."""
        return self.at(_evenly_spaced(len(self), limit))

    def finite(self) -> "Subject":
        """The same network on the images whose outputs are finite."""
        whole = self.logits.isfinite().all(dim=1)
        return self if whole.all() else self.at(whole.nonzero().flatten())

    def at(self, places: Tensor) -> "Subject":
        """The same network on some of the images, by their places among them."""
        smaller = replace(
            self,
            split=self.split[places],
            indices=self.indices[places],
            logits=self.logits[places],
        )
        for name in ("fast", "precise"):  # which are the same for all images
            if name in self.__dict__:
                smaller.__dict__[name] = self.__dict__[name]
        return smaller

    def run(self, images: Tensor) -> Tensor:
        """The logits of other images, in float64, with shape (B, K)."""
        return self.certificate.logits(images, self.batch_size)

    def _plain(self) -> nn.Module:
        """A copy without parametrizations, as far as they can be taken off."""
        try:
            plain = export(self.model, self.shape)
        except (RuntimeError, ValueError, TypeError):
            if self.proved:
                raise
            plain = copy.deepcopy(self.model).eval()  # a foreign module, which ran as it is
        return plain.requires_grad_(False)

    def record(
        self, name: str, value: float, unit: str, count: int | None = None, **details: Any
    ) -> Record:
        """A record that says where it is from."""
        chosen = "all" if len(self) == self.whole else f"{len(self)} of {self.whole}, evenly spaced"
        origin = {**self.provenance, "images": chosen, "dtype": self.certificate.arithmetic}
        return Record(name, value, unit, count, details={**details, **origin})

    def column(self, name: str, values: Tensor, unit: str) -> Record:
        """A record of one number for each image, in the detail `values`; its value is the mean of
        those that are finite.

        It is named `image/NAME`; the detail `indices` names the images.  Comparisons of runs, and
        `examples.csv`, are made of these.

        Arguments:
            name: What each image is given.
            values: The numbers, with shape (N,); infinite ones are written as strings.
            unit: Their unit.
        """
        numbers = [each if math.isfinite(each) else str(each) for each in values.tolist()]
        finite = values.double()[values.isfinite()]
        value = float(finite.mean()) if len(finite) else 0.0
        indices = self.indices.tolist()
        return self.record(f"image/{name}", value, unit, len(self), values=numbers, indices=indices)

    def share(self, name: str, mask: Tensor, **details: Any) -> Record:
        """A record of a share of the images, with its 95 % Clopper-Pearson interval.

        Arguments:
            name: What is measured.
            mask: Whether it is true of each image, with shape (N,).
            **details: What else a reader needs.
        """
        hits, count = int(mask.sum()), len(mask)
        low, high = clopper_pearson(hits, count)
        return self.record(
            name, hits / count, "fraction", count, hits=hits, low=low, high=high, **details
        )

    def mean(self, name: str, values: Tensor, unit: str, **details: Any) -> Record:
        """A record of a mean over the images, with its 95 % bootstrap interval.

        Arguments:
            name: What is measured.
            values: The number of each image, finite, with shape (N,).
            unit: Their unit.
            **details: What else a reader needs.
        """
        low, high = bootstrap_mean(values)
        value, count = float(values.mean()), len(values)
        return self.record(name, value, unit, count, low=low, high=high, **details)


@torch.no_grad()
def _check_shape(model: nn.Module, images: Tensor) -> None:
    weight = next((each for each in model.parameters() if each.is_floating_point()), images)
    try:
        outputs = copy.deepcopy(model)(images.to(weight))  # which may count what it sees
    except Exception as error:  # of a forward that may be anybody's
        shape, kind = tuple(images.shape[1:]), type(error).__name__
        raise ValueError(
            f"The model does not take images of shape {shape}, {len(images)} at a time: {kind}: {error}"
        ) from error
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not (isinstance(found, tuple) and len(found) == 2 and found[0] == len(images)):
        raise ValueError(
            f"The model should give a tensor of logits of shape ({len(images)}, K) for {len(images)} "
            f"images, got {found}."
        )


def _uncertified(model: nn.Module, shape: tuple[int, ...], reason: str) -> Uncertified:
    program = copy.deepcopy(model).double().eval()
    try:
        (classes,) = output_shape(program, shape)
    except Exception as error:  # of a forward that may be anybody's
        raise ValueError(
            "All is measured in float64, in which the model does not run: let its forward keep the dtype "
            f"of its input, and compute with tensors alone. {error}"
        ) from error
    return Uncertified(program, classes, reason)


def _evenly_spaced(count: int, limit: int | None) -> Tensor:
    """Indices i·count // limit: the files of some data sets are sorted by class."""
    if limit is not None and limit < 1:
        raise ValueError(f"'limit' should be at least 1, got {limit}.")
    limit = min(limit or count, count)
    return torch.arange(limit) * count // limit


def _logits(
    certificate: Certificate | Uncertified, images: Tensor, batch_size: int, track: Tracker
) -> Tensor:
    if batch_size < 1:
        raise ValueError(f"'batch_size' should be at least 1, got {batch_size}.")
    batches = images.split(batch_size)
    return torch.cat([certificate.logits(b, batch_size) for b in track(batches, "clean images")])
