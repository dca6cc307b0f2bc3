"""Sections of a report, in the order in which a reader meets them."""

__all__ = ["SECTIONS", "Groups", "Line", "Section"]

from ._section import Groups, Line, Section
from .bands import bands
from .certified import certified, examples
from .corruptions import corruptions
from .frequency import frequency
from .rounding import rounding
from .shifts import shifts
from .tightness import checks, tightness
from .training import evolution, training

SECTIONS = (
    certified,
    rounding,
    bands,
    examples,
    corruptions,
    shifts,
    frequency,
    training,
    evolution,
    tightness,
    checks,
)
