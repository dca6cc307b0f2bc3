"""Certified accuracy as a function of the radius, and what is read from it."""

__all__ = [
    "RADII",
    "RADII_LINF",
    "CertifiedCurve",
    "certified_accuracy",
    "mean_radius",
    "mean_radius_of_correct",
    "standard_radii",
]

import math
from dataclasses import dataclass

from torch import Tensor

RADII = (0.0, 36 / 255, 72 / 255, 108 / 255, 1.0)  # where the field reports: ℓ2, [0, 1] pixels
RADII_LINF = (1 / 255, 2 / 255, 8 / 255)
_MNIST = (0.3, 1.58)  # of MNIST, besides: those of GloRo nets (Leino et al., 2021)


def standard_radii(data: str) -> tuple[float, ...]:
    """Where the field reports certified accuracy on a data set: ℓ2, in pixels of [0, 1].

    Arguments:
        data: The name of the data set.

    Example:
        >>> standard_radii("mnist")[-2:], standard_radii("cifar10") == RADII
        ((1.0, 1.58), True)
    """
    return tuple(sorted({*RADII, *_MNIST})) if data == "mnist" else RADII


def certified_accuracy(radii: Tensor, radius: float) -> float:
    """Share of examples with a certified radius above `radius`.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        radius: The radius ε, not negative, in the same unit.

    Raises:
        ValueError: If there are no examples, or if `radius` is negative.
    """
    return CertifiedCurve.of(radii)(radius)


def mean_radius(radii: Tensor, largest: float = math.inf) -> float:
    """Average certified radius: wrong predictions count as 0.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        largest: What radii are clipped to, such as the diameter of the space of images.

    Raises:
        ValueError: If there are no examples.
    """
    return CertifiedCurve.of(radii, largest).integral


def mean_radius_of_correct(radii: Tensor, largest: float = math.inf) -> float:
    """Average of the radii that are positive, 0 if none is: blind to the wrong predictions.

    Arguments:
        radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
        largest: What radii are clipped to, such as the diameter of the space of images.
    """
    curve = CertifiedCurve.of(radii, largest)
    return math.fsum(curve.steps) / max(len(curve.steps), 1)


@dataclass(frozen=True)
class CertifiedCurve:
    """Certified accuracy as a function of the radius: the exact step function.

    It falls by 1 / count at each certified radius, is continuous from the right, and its integral
    is the average certified radius.

    Arguments:
        steps: The positive radii, in ascending order.
        count: The number of examples, those of radius 0 included.

    Example:
        >>> import torch
        >>> curve = CertifiedCurve.of(torch.tensor([0.5, -1.0, 0.25, 0.0]))
        >>> curve(0.0), curve(0.25), curve(0.5), curve.integral
        (0.5, 0.25, 0.0, 0.1875)
    """

    steps: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, radii: Tensor, largest: float = math.inf) -> "CertifiedCurve":
        """The curve of some examples.

        Arguments:
            radii: The certified radii, zero or negative where the prediction is wrong, shape (B,).
            largest: What radii are clipped to.

        Raises:
            ValueError: If there are no examples, or if a radius is not a number.
        """
        if radii.ndim != 1 or len(radii) == 0:
            raise ValueError(f"'radii' should have shape (B,), B > 0, got {tuple(radii.shape)}.")
        if radii.isnan().any():
            raise ValueError(f"Radius {radii.isnan().nonzero()[0].item()} is not a number.")
        positive = radii[radii > 0].double().clamp(max=largest)
        return cls(tuple(positive.sort().values.tolist()), len(radii))

    def __call__(self, radius: float) -> float:
        """Share of examples certified beyond `radius`."""
        if not radius >= 0:
            raise ValueError(f"'radius' should not be negative, got {radius}.")
        return self.certified(radius) / self.count

    def certified(self, radius: float) -> int:
        """Number of examples certified beyond `radius`."""
        return sum(step > radius for step in self.steps)

    @property
    def integral(self) -> float:
        """Area under the curve: the average certified radius."""
        return math.fsum(self.steps) / self.count
