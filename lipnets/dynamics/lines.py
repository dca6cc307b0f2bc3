"""Lines of the ledger: sums over the steps of a training, in nats."""

__all__ = ["Line"]

from dataclasses import dataclass
from typing import Literal


@dataclass(eq=False)
class Line:
    """The sums since the first step, in nats, of one norm.

    Arguments:
        layer: The qualified name of the layer.
        role: As of a `Followed`; `"gain"` for a batch normalization.
        first: log σ₁ before the first step.
        log_norm: log σ₁ as it is now.
        linear: Σ ⟨J, D⟩ / σ₁.
        curvature: Σ D²σ₁(D) / 2σ₁.
        square: −Σ (⟨J, D⟩ / σ₁)² / 2.
        switch: What log σ₁ gained when another frequency became the highest.
        decay: The part of `linear` that weight decay did; None where that is not known.
        gain: What the scale γ of a batch normalization did.
        buffer: What its running variance did.
        crowded: The number of steps before which σ₁ − σ₂ was less than three times the step.
        steps: The number of steps.
        band: The frequencies in which the norm was followed, in cycles per pixel; None for all.
    """

    layer: str
    role: Literal["free", "raw", "effective", "gain"]
    first: float
    log_norm: float
    linear: float = 0.0
    curvature: float = 0.0
    square: float = 0.0
    switch: float = 0.0
    decay: float | None = None
    gain: float = 0.0
    buffer: float = 0.0
    crowded: int = 0
    steps: int = 0
    band: tuple[float, float] | None = None

    @property
    def remainder(self) -> float:
        """What the terms leave of the change."""
        terms = self.linear + self.curvature + self.square + self.switch + self.gain + self.buffer
        return self.log_norm - self.first - terms
