"""Where studies compute what no run of `train.py` is: a file for each cell of a grid.

A run directory is of a classifier of images, and keeps no outputs from the midst of its training.  A study of
a curve in one dimension, of soft labels, or of outputs over time computes a cell whole, within a minute, and
writes what it measured as one file of JSON, whole or not at all: an interruption costs the cells in progress.
"""

__all__ = ["Settings", "computed"]

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from ..atomic import write_atomic
from ..runs import RunError
from .lab import Lab

Settings = Mapping[str, Any]  # plain data
Measure = Callable[[Settings], Mapping[str, Any]]


def computed(lab: Lab, measure: Measure, cells: Mapping[str, Settings]) -> dict[str, Any]:
    """Measures all cells of a grid, what is left of it, and shows how it goes.

    Arguments:
        lab: Where files are, in `cells/`, and how many cells are computed at a time.
        measure: Computes a cell: a function of a module, that takes and returns plain data.
        cells: The settings of each cell, by its name.

    Returns:
        What was measured in each cell, in the same order.

    Raises:
        RunError: If there is a cell with other settings, or a file that is no cell.
    """
    cells = {name: _plain(settings) for name, settings in cells.items()}
    paths = {name: lab.out / "cells" / f"{_short(name)}.json" for name in cells}
    found = {name: _read(paths[name], settings) for name, settings in cells.items()}
    missing = {name: cells[name] for name, result in found.items() if result is None}
    if missing:
        (lab.out / "cells").mkdir(parents=True, exist_ok=True)
    with Progress(disable=not missing) as bar:
        task = bar.add_task(f"{lab.out.name}: measuring", total=len(cells))
        bar.advance(task, len(cells) - len(missing))
        for name, result in _in_processes(measure, missing, lab.jobs):
            kept = {"settings": cells[name], "result": result}
            write_atomic(paths[name], json.dumps(kept, separators=(",", ":")))
            found[name] = _plain(result)
            bar.advance(task)
    return found


def _read(path: Path, settings: Settings) -> Any:
    """What a file says was measured, None if there is none."""
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text())
        known, result = kept["settings"], kept["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not what a study wrote: remove it.") from error
    if known != settings:
        raise RunError(
            f"{path} was measured with other settings than this study asks for: choose another --out, "
            "or remove it."
        )
    return result


def _in_processes(
    measure: Measure, cells: Mapping[str, Settings], jobs: int
) -> Iterator[tuple[str, Any]]:
    """Measures one after the other, or several at a time; yields each when it is done."""
    if jobs == 1:
        for name, settings in cells.items():
            yield name, measure(settings)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) as pool:
        tasks = {pool.submit(measure, settings): name for name, settings in cells.items()}
        for task in as_completed(tasks):
            yield tasks[task], task.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _plain(value: Any) -> Any:
    """What is left of plain data in a file: lists in place of tuples, keys that are text."""
    return json.loads(json.dumps(value))


def _short(name: str) -> str:
    """A name in that of a file."""
    return "".join(c if c.isalnum() or c in "._-=," else "_" for c in name)
