"""What a training that goes on must have in common with itself, and what may be another."""

__all__ = ["fitting", "load", "origin"]

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import lipnets

from . import distributed
from .data import Dataset
from .runs import Run, RunError


def origin(dataset: Dataset, device: torch.device) -> dict[str, str]:
    """What the bits of a training depend on besides its config."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "data": dataset.sha256,
        "lipnets": lipnets.__version__,
        "torch": str(torch.__version__),
        "device": f"{device.type} ({name})",
        "threads": str(torch.get_num_threads()),
        "processes": str(distributed.size()),
    }


def load(run: Run, now: dict[str, str]) -> dict[str, Any] | None:
    """Reads the state that a training goes on from.

    The run is told of what may make other bits.

    Arguments:
        run: The run directory.
        now: The `origin` of this training.

    Raises:
        RunError: If the data are others than before.
        DamagedFileError: If no state is intact.
    """
    state = run.load_state()
    if state is None:
        return None
    before = state.get("origin", {})
    if before.get("data", now["data"]) != now["data"]:
        raise RunError(
            f"{run.path} was begun with other data of the same name: their SHA-256 was "
            f"{before['data'][:16]}..., and is {now['data'][:16]}... now. Give the directory of the "
            "first with --data-dir, or train anew with another --out."
        )
    others = [key for key in now if key in before and before[key] != now[key]]
    if others:
        changes = ", ".join(f"{key} {now[key]} (before: {before[key]})" for key in others)
        run.tell(
            f"Training goes on with {changes}: the weights may have other bits than without an "
            "interruption."
        )
    return state


@contextmanager
def fitting(state: dict[str, Any]) -> Iterator[None]:
    """Says in a sentence that a state is of another training.

    Raises:
        RunError: In place of what a model, an optimizer or a recorder says.
    """
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        versions = state.get("origin", {})
        writer = f", which lipnets {versions['lipnets']} wrote," if "lipnets" in versions else ""
        first = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"The last state{writer} does not fit what config.yaml says: {type(error).__name__}: "
            f"{first} Nothing was changed: go on with the version of lipnets that began, or train "
            "anew with another --out."
        ) from error
