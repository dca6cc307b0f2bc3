"""Sections of a report, in the order in which a reader meets them."""

__all__ = ["SECTIONS", "Groups", "Line", "Section"]

from ._section import Groups, Line, Section
from .attacked import attacked
from .bands import bands
from .calibration import calibration
from .certified import certified, examples
from .corruptions import corruptions
from .cost import cost
from .detection import detection
from .frequency import frequency
from .response import response
from .rounding import rounding
from .sensitivity import sensitivity
from .shifts import shifts
from .smoothing import smoothing
from .tightness import checks, tightness
from .training import evolution, training

SECTIONS = (
    certified,
    attacked,
    smoothing,
    rounding,
    bands,
    examples,
    corruptions,
    shifts,
    detection,
    frequency,
    sensitivity,
    response,
    training,
    evolution,
    calibration,
    cost,
    tightness,
    checks,
)
