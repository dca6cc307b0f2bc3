"""Records: everything that is measured, written, plotted or compared."""

__all__ = ["Record"]

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """One number, with what is needed to read it.

    Arguments:
        name: What was measured, such as `"certified_accuracy"`; parts are separated by `/`.
        value: The number.
        unit: Its unit: `"fraction"`, `"l2 pixels"`, `"nats"`, `"1"` for a pure number, ...
        count: The number of examples it was measured on, if any.
        step: The training step after which it was measured, if any.
        epoch: The epoch that this step belongs to, as a fraction of epochs passed, if any.
        details: Whatever else a reader needs, such as `{"radius": 0.1412, "low": .., "high": ..}`.
    """

    name: str
    value: float
    unit: str
    count: int | None = None
    step: int | None = None
    epoch: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data; fields that were left out are left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}
