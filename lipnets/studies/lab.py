"""Where studies train: a grid of runs, each in a directory of its own, that an interruption costs little."""

__all__ = ["Changes", "Lab", "crossed", "last", "series"]

import copy
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress

from ..config import Config, parse_config
from ..data import Dataset
from ..experiment import build_model, load_data, train
from ..records import Record
from ..runs import Run, RunError
from ..training import Step

K = TypeVar("K")
Changes = Mapping[str, Any]  # values by dotted key, such as {"optimizer.lr": 0.1}


@dataclass(frozen=True)
class Lab:
    """Trains what a study asks for, unless it was trained before.

    Arguments:
        out: The directory, in which `runs/` holds a run directory for each training.
        base: The config that studies change, as plain data.
        jobs: The number of trainings at a time, each in a process with one thread.
    """

    out: Path
    base: Mapping[str, Any]
    jobs: int = 1

    def config(self, changes: Changes) -> Config:
        """The config of a training: the base, with some values changed.

        A mapping with a `name` replaces a section whole, as in files.
        """
        tree = copy.deepcopy(dict(self.base))
        for key, value in changes.items():
            *path, end = key.split(".")
            section = tree
            for each in path:
                section = section.setdefault(each, {})
            section[end] = copy.deepcopy(value)  # which later keys may go into
        return parse_config(tree, "the config of a study").fitted_to(self.dataset)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the base."""
        return _dataset(parse_config(self.base))

    def histories(self, grid: Sequence[Changes]) -> list[list[Record]]:
        """The histories of trainings, in the order of the grid."""
        return [run.history() for run in self.trained(grid)]

    def trained(self, grid: Sequence[Changes]) -> list[Run]:
        """Trains all of a grid, what is left of it, and shows how it goes.

        Raises:
            RunError: If there are runs with another config.
        """
        tasks = {self._path(changes): self.config(changes) for changes in grid}
        for path, config in tasks.items():
            if (path / "config.yaml").is_file() and Run.open(
                path
            ).config().to_tree() != config.to_tree():
                raise RunError(
                    f"{path} was trained with another config than this study asks for: choose another "
                    "--out, or remove it."
                )
        missing = {path: config for path, config in tasks.items() if not _is_done(path)}
        with Progress(disable=not missing) as bar:
            task = bar.add_task(f"{self.out.name}: training", total=len(tasks))
            bar.advance(task, len(tasks) - len(missing))
            for _ in _in_processes(missing, self.jobs):
                bar.advance(task)
        return [Run.open(self._path(changes)) for changes in grid]

    def _path(self, changes: Changes) -> Path:
        words = [f"{key}={_short(value)}" for key, value in sorted(changes.items())]
        return self.out / "runs" / (",".join(words) or "base")


def crossed(
    lab: Lab, conditions: Mapping[K, Changes], repeats: Sequence[Changes]
) -> dict[K, list[list[Record]]]:
    """Trains each condition with each of some changes, such as seeds.

    Arguments:
        lab: Where it trains.
        conditions: The changes of each condition.
        repeats: The changes that each of them is repeated with.

    Returns:
        For each condition the histories of its trainings, in the order of `repeats`.
    """
    grid = [{**condition, **each} for condition in conditions.values() for each in repeats]
    histories = iter(lab.histories(grid))
    return {name: [next(histories) for _ in repeats] for name in conditions}


def _short(value: Any) -> str:
    """A value in the name of a directory."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text).strip("_")


def _is_done(path: Path) -> bool:
    """Whether a training was finished: its certificate is written last."""
    return (path / "certificate.npz").is_file()


def _in_processes(tasks: Mapping[Path, Config], jobs: int) -> Iterator[None]:
    """Trains one after the other, or several at a time; yields after each."""
    if jobs == 1:
        for path, config in tasks.items():
            _train(path, config.to_tree())
            yield
        return
    trees = [config.to_tree() for config in tasks.values()]
    with ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) as pool:
        yield from pool.map(_train, tasks, trees)


def _one_thread() -> None:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    torch.set_num_threads(1)


def _train(path: Path, tree: Mapping[str, Any]) -> None:
    """Trains to the end, from wherever it was interrupted."""
    config = parse_config(tree)
    dataset = _dataset(config)
    run = Run.open(path) if (path / "config.yaml").is_file() else Run.create(path, config)
    model = build_model(config)
    untrained = Step(0, 0.0, model, tuple(dataset.train.images.shape[1:]))
    for _ in train(run, config, dataset, untrained):
        pass


_LOADED: dict[str, Dataset] = {}


def _dataset(config: Config) -> Dataset:
    """The data set of a config; one process loads it once."""
    spec = config.data
    key = json.dumps([spec.name, spec.dir, spec.verify, spec.arguments], default=str)
    if key not in _LOADED:
        _LOADED[key] = load_data(config)
    return _LOADED[key]


def series(history: Sequence[Record], name: str, **details: Any) -> tuple[list[int], list[float]]:
    """The steps and values of the records of a name, whose details are as given.

    `layer=None` is for records of the network.
    """
    chosen = [
        record
        for record in history
        if record.name == name
        and all(record.details.get(key) == value for key, value in details.items())
    ]
    return [record.step or 0 for record in chosen], [record.value for record in chosen]


def last(history: Sequence[Record], name: str, **details: Any) -> float:
    """The last value of a name, or nan if there is none."""
    values = series(history, name, **details)[1]
    return values[-1] if values else math.nan
