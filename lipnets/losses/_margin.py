"""The margin that a loss asks for: in logits, or by the radius that one trains for."""

__all__ = ["Margin", "ScaledLogits", "scale_free", "temperatures", "typical_slope", "without_true"]

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

# Found by experiment, see docs/losses.md: the temperature as a share of the margin, and the largest one.
_SHARE, _LARGEST = 0.3, 1.0


@dataclass(frozen=True)
class Margin:
    """How far the true logit should be above each other one.

    Arguments:
        name: What the loss calls its margin, for error messages.
        value: The margin in logits, or None to leave it to the radius.
        radius: The radius r to train for, ℓ2 in [0, 1] pixels, or None.  The margin above class j is
            then r sᵧⱼ, which certifies that radius.
        default: The margin in logits if there is neither.

    Raises:
        ValueError: If the radius is not positive and finite, or the margin not finite.
    """

    name: str
    value: float | None
    radius: float | None
    default: float

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"'{self.name}' should be finite, got {self.value}.")
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ValueError(f"'radius' should be positive, in [0, 1] pixels, got {self.radius}.")

    @classmethod
    def either(
        cls, name: str, value: float | None, radius: float | None, *, default: float
    ) -> "Margin":
        """The margin of a loss that has nothing else to leave to a radius.

        Raises:
            ValueError: If there are both.
        """
        if value is not None and radius is not None:
            raise ValueError(f"'radius' sets the margin: give it or '{name}', got both.")
        return cls(name, value, radius, default)

    @property
    def in_logits(self) -> float | None:
        """The margin in logits, None if the radius decides it."""
        if self.value is None and self.radius is None:
            return self.default
        return self.value

    @property
    def needs_slopes(self) -> bool:
        return self.radius is not None

    def pairs(self, labels: Tensor, slopes: Tensor) -> Tensor:
        """The margins asked for above each class, with a shape that broadcasts to (B, K)."""
        if self.in_logits is not None or self.radius is None:
            return slopes.new_tensor(self.in_logits)
        return self.radius * slopes[labels]

    def scaled(self, value: Tensor, slopes: Tensor) -> Tensor:
        """The value of the loss: where the radius decides, without a reward for scales."""
        return value if self.in_logits is not None else scale_free(value, slopes)

    def typical(self, slopes: Tensor) -> Tensor:
        """One margin for all pairs of classes, a scalar."""
        if self.in_logits is not None or self.radius is None:
            return slopes.new_tensor(self.in_logits)
        return self.radius * typical_slope(slopes)


@dataclass(frozen=True)
class ScaledLogits:
    """Logits from which a margin was taken, over a temperature: what a softmax is to be taken of.

    Arguments:
        temperature: The temperature t, in logits, or None to leave it to the radius.
        offset: The margin o asked for, in logits, or None to leave it to the radius.
        radius: The radius to train for, or None: then t = 1 and o = 0 where they are not given.

    Raises:
        ValueError: If the temperature or the radius is not positive, or the radius decides nothing.
    """

    temperature: float | None
    offset: float | None
    radius: float | None

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"'temperature' should be positive, got {self.temperature}.")
        if None not in (self.temperature, self.offset, self.radius):
            raise ValueError(
                "'radius' sets the temperature and the offset: with both of them given, leave it out."
            )
        _ = self.margin  # which checks the others

    @property
    def margin(self) -> Margin:
        return Margin("offset", self.offset, self.radius, default=0.0)

    @property
    def needs_slopes(self) -> bool:
        return self.margin.needs_slopes

    def __call__(
        self, logits: Tensor, labels: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        """The logits so scaled, with shape (B, K), and the temperature as a constant.

        A loss of quotients, where the radius sets the temperature, rewards neither shrinking a network
        nor letting it grow, which changes no radius.  Above the largest temperature it does: so do
        networks without a constraint settle on a scale.
        """
        t, constant = temperatures(self.temperature, self.radius, slopes)
        offset = self.margin.in_logits
        if offset is not None:
            true = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
            return (logits - offset * true) / t, constant
        return (logits + self.margin.pairs(labels, slopes)) / t, constant


def typical_slope(slopes: Tensor) -> Tensor:
    """The mean slope of two different classes, a scalar, kept off zero."""
    classes = len(slopes)
    pairs = max(classes * (classes - 1), 1)
    return (slopes.sum() / pairs).clamp_min(1e-6)  # the diagonal is zero


def temperatures(
    given: float | None, radius: float | None, slopes: Tensor
) -> tuple[Tensor | float, Tensor | float]:
    """The temperature to divide logits by, and the one to multiply losses by, without gradient.

    Arguments:
        given: The temperature in logits, or None to leave it to the radius.
        radius: The radius to train for; the temperature is 1 if there is neither.
        slopes: The slopes, with shape (K, K).
    """
    if given is not None or radius is None:
        t = 1.0 if given is None else given
        return t, t
    t = (_SHARE * radius * typical_slope(slopes)).clamp_max(_LARGEST)
    return t, t.detach()


def scale_free(value: Tensor, slopes: Tensor) -> Tensor:
    """The same value, with the gradient of its quotient by the typical slope, times that slope.

    Of a value proportional to logits and slopes, the quotient is one of radii: see `ScaledLogits`.
    """
    slope = typical_slope(slopes)
    return value * (slope.detach() / slope)


def without_true(values: Tensor, labels: Tensor, fill: float) -> Tensor:
    """Values of shape (B, K), with another one in the place of the true class."""
    return values.scatter(1, labels[:, None], fill)
