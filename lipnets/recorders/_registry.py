"""The table of recorders; their modules add to it."""

__all__ = ["Recorder", "registry"]

from collections.abc import Callable, Iterable

from ..records import Record
from ..registry import Registry
from ..training import Step

Recorder = Callable[[Step], Iterable[Record]]

registry: Registry[Recorder] = Registry("recorder")
