"""The table of studies; their modules add to it."""

__all__ = ["registry", "spread_of"]

from collections.abc import Sequence
from statistics import fmean, stdev

from ..registry import Registry
from .finding import Finding

registry: Registry[Finding] = Registry("study")


def spread_of(values: Sequence[float]) -> str:
    """The mean of some numbers, and the standard error of it."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{fmean(values):.3f} ± {stdev(values) / len(values) ** 0.5:.3f}"
