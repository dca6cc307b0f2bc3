"""Labels of training images: classes, or two of them with a weight."""

__all__ = ["Labels", "Mixed"]

from dataclasses import dataclass
from typing import TypeAlias, Union

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixed:
    """Labels of images that were made of two: their loss is w ℓ(z, first) + (1 − w) ℓ(z, second).

    So written, every loss of classes is one of mixed images as well.

    Arguments:
        first: The labels of the images that have the weight w.
        second: Those of the images that have the weight 1 − w, as many.
        weight: The weight w of the batch, in [0, 1].
    """

    first: "Labels"
    second: "Labels"
    weight: float

    def __getitem__(self, index: Tensor) -> "Mixed":
        return Mixed(self.first[index], self.second[index], self.weight)

    def __len__(self) -> int:
        return len(self.first)


Labels: TypeAlias = Union[Tensor, Mixed]  # noqa: UP007 - (B,), of what Mixed refers to
