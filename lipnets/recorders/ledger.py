"""The ledger of a training: what its steps did to the norms of weights."""

__all__ = ["ledger"]

import math
from collections.abc import Iterator
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from ..bounds import Shape
from ..dynamics import Ledger, Line, band_edges
from ..records import Record
from ..training import Step
from ._registry import registry

_NAMES = ("log_norm", "linear", "curvature", "square", "switch")


@registry.register
def ledger(
    model: nn.Module,
    shape: Shape,
    lines: int,
    optimizer: Optimizer | None = None,
    effective: bool = False,
    norm: Literal["operator", "reshape"] = "operator",
    bands: int = 0,
    scan_every: int = 100,
    stride: int = 1,
    last: int | None = None,
) -> "LedgerRecorder":
    """Builds the recorder of the ledger: it has to see every step, and yields each `lines` of them.

    For each weight it yields `ledger/log_norm`, what log σ₁ is, and since the first step, in nats,
    `ledger/linear`, `ledger/curvature`, `ledger/square`, `ledger/switch`, and `ledger/decay`, the part
    of the first that weight decay did, where that is known; `ledger/crowded` is the fraction of steps
    that were not small beside σ₁ − σ₂.  For batch normalizations it yields `ledger/log_norm`,
    `ledger/gain` and `ledger/buffer`.  Without `layer` among the details, it is the sum over what is in
    use.  With bands, `ledger/band_log_norm` and so on, with `low` and `high` in cycles per pixel.

    Arguments:
        model: The model that the optimizer changes.
        shape: The shape of an image, (C, H, W).
        lines: The number of steps between records.
        optimizer: The optimizer, for what weight decay did.
        effective: Whether, of parametrized layers, the weight in use is followed.
        norm: The norm of convolutions: see `lipnets.dynamics.follow`.
        bands: The number of bands of frequencies in which convolutions are followed, beside the whole.
        scan_every: The number of steps after which all frequencies are looked at.
        stride: The number of steps that are entered as one: terms of higher order, which are left out,
            grow with it, and what weight decay did is not told apart.
        last: Another step of which there are records, the last one of the training.

    Raises:
        ValueError: If `lines` or `stride` is less than 1.
    """
    if lines < 1 or stride < 1:
        raise ValueError(f"'lines' and 'stride' should be at least 1, got {lines} and {stride}.")
    if stride > 1:
        optimizer = None  # whose decay is that of single steps
    options: dict[str, Any] = {"effective": effective, "norm": norm, "scan_every": scan_every}
    edges = band_edges(bands, len(shape) - 1) if bands else []
    options |= {"optimizer": optimizer, "bands": edges}
    return LedgerRecorder(model, shape, (lines, stride, last), options)


class LedgerRecorder:
    """The recorder that `ledger` builds; the ledger begins when it is first called."""

    def __init__(
        self,
        model: nn.Module,
        shape: Shape,
        rhythm: tuple[int, int, int | None],
        options: dict[str, Any],
    ) -> None:
        self._model, self._shape, self._options = model, shape, options
        self._lines, self._stride, self._last = rhythm
        self._ledger: Ledger | None = None
        self._index = 0

    def __call__(self, step: Step) -> Iterator[Record]:
        """Enters the step, whether or not its records are read."""
        due = step.index % self._lines == 0 or step.index == self._last
        if self._ledger is None:
            self._ledger = self._begun()
        elif step.index != self._index and (due or step.index % self._stride == 0):
            self._ledger.advance()
        self._index = step.index
        return self._records(self._ledger, step) if due else iter(())

    def state_dict(self) -> dict[str, Any]:
        """The sums, and where norms are followed."""
        ledger = None if self._ledger is None else self._ledger.state_dict()
        return {"index": self._index, "ledger": ledger}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state; the weights of the model are those of then."""
        self._index = state["index"]
        if state["ledger"] is not None:
            self._ledger = self._begun()
            self._ledger.load_state_dict(state["ledger"])

    def _begun(self) -> Ledger:
        return Ledger(self._model, self._shape, **self._options)

    def _records(self, ledger: Ledger, step: Step) -> Iterator[Record]:
        when = {"step": step.index, "epoch": step.epoch}
        if ledger.network is not None:
            yield from _of(ledger.network, "ledger/", {}, when)
        for line in ledger.lines:
            yield from _of(line, "ledger/", {"layer": line.layer, "role": line.role}, when)
        for line in ledger.band_lines:
            low, high = line.band or (0.0, 0.0)
            details = {"layer": line.layer, "role": line.role, "low": low, "high": high}
            yield from _of(line, "ledger/band_", details, when)


def _of(line: Line, prefix: str, details: dict[str, Any], when: dict[str, Any]) -> Iterator[Record]:
    """The records of a line; none where the norm is zero, as its logarithm is no number."""
    if not math.isfinite(line.log_norm) or not math.isfinite(line.first):
        return
    names = ["log_norm"] if line.role == "gain" else list(_NAMES)
    if line.role == "gain" or "layer" not in details:
        names += ["gain", "buffer"]
    values = {name: getattr(line, name) for name in names}
    if line.decay is not None:
        values["decay"] = line.decay
    for name, value in values.items():
        yield Record(f"{prefix}{name}", value, "nats", details=dict(details), **when)
    if line.role != "gain":
        share = line.crowded / max(1, line.steps)
        yield Record(f"{prefix}crowded", share, "fraction", details=dict(details), **when)
