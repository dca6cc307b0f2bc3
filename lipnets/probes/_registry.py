"""The table of probes; their modules add to it."""

__all__ = ["Probe", "registry"]

from collections.abc import Callable, Iterable

from ..records import Record
from ..registry import Registry
from .subject import Subject

Probe = Callable[[Subject], Iterable[Record]]

registry: Registry[Probe] = Registry("probe")
