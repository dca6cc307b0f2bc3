"""The table of probes; their modules add to it."""

__all__ = ["PRESETS", "Probe", "presets", "registry"]

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..records import Record
from ..registry import Registry
from .subject import Subject

Probe = Callable[[Subject], Iterable[Record]]

registry: Registry[Probe] = Registry("probe")

PRESETS: dict[str, dict[str, Mapping[str, Any]]] = {}  # settings by probe and by "quick" or "full"


def presets(name: str, *, quick: Mapping[str, Any], full: Mapping[str, Any]) -> None:
    """Says which settings of a probe are for a look at a network, and which for a publication.

    Arguments:
        name: The probe.
        quick: Settings for some seconds on two cores.
        full: Settings for hours, if need be.
    """
    PRESETS[name] = {"quick": quick, "full": full}
