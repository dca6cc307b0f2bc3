"""Trains a certified network: reads a config, builds, trains, and writes a run directory."""

__all__ = ["main"]

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

# Threads that wait by spinning make a busy machine ten times slower.  Torch reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .. import distributed, experiment, models, tensorboard
from ..bounds import NotCertifiedError
from ..certify import certify
from ..config import Config, ConfigError, json_schema, load_config, parse_config
from ..data import Dataset
from ..experiment import ExperimentError, build_model, build_optimizer, load_data
from ..invocation import spelled, under_torchrun
from ..linalg import UnsoundArithmeticError
from ..linalg import show as rounded_up
from ..metrics import RADII, accuracy, certified_accuracy
from ..records import Record
from ..runs import Run, RunError, UnwritableError
from ..stopping import Stop, TerminatedError
from ..training import NonFiniteLossError, Step
from .listing import lines_of_names

EXAMPLES = """examples:
  {train} configs/digits/lipconvnet_aol.yaml            half a minute, with data that are here
  {train} configs/fashion_mnist/sll.yaml --data-dir DIR its files are downloaded, if they are not there
  {train} configs/digits/sll.yaml "optimizer.lr=1e-3" "model.act=groupsort" --out runs/slow
  {train} --resume --out runs/slow                      go on after an interruption
  {train} --list                                        what configs can name, a line for each
  {train} --list models                                 of one kind; or --list "*aol*"
  {train} --schema > schema.json                        their JSON Schema, for an editor
  {torchrun} CONFIG       two processes, each with a part of every batch

A config that does not exist here is looked for among those that come with lipnets.  One of your own
can begin with one of them: "base: configs/digits/sll.yaml", and change what follows.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; of several processes, the first one speaks."""
    return distributed.command(lambda: alone(arguments))


def alone(arguments: Sequence[str] | None) -> int:
    """Runs the command in this process, until it ends or is told to."""
    args, stop = parse(arguments), Stop()
    with stop.on_sigterm():
        return answered(args, stop)


def answered(args: argparse.Namespace, stop: Stop) -> int:
    """Runs the command; mistakes are told in a sentence."""
    try:
        if args.schema:
            print(json.dumps(json_schema(), indent=2))
        elif args.list is not None:
            print_names(args.list)
        else:
            train(args, Console(), stop)
    except KeyboardInterrupt as end:
        terminated = isinstance(end, TerminatedError)
        what = "ended by SIGTERM" if terminated else "interrupted"
        print(f"\n{what}{how_to_resume(args)}", file=sys.stderr)
        return 143 if terminated else 130
    except NonFiniteLossError as error:
        kept = f"{args.out} keeps the history, and the states that were saved"
        print(
            f"error: {error}\n{kept}: choose another --out for the next attempt.", file=sys.stderr
        )
        return 1
    except UnwritableError as error:
        print(f"error: {error}\nstopped{how_to_resume(args)}", file=sys.stderr)
        return 1
    except (ExperimentError, ConfigError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (NotCertifiedError, UnsoundArithmeticError) as error:
        print(f"error: this network cannot be certified: {error}", file=sys.stderr)
        return 1
    return 0


def tell(sentence: str) -> None:
    """Prints what a user should know although it is no error."""
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    examples = EXAMPLES.format(train=spelled("train"), torchrun=under_torchrun("train", "2"))
    parser = argparse.ArgumentParser(
        spelled("train"), description=__doc__, epilog=examples, formatter_class=raw
    )
    add = parser.add_argument
    add("config", nargs="?", metavar="CONFIG", help="a YAML file, such as those in configs/")
    add("overrides", nargs="*", metavar="KEY.SUB=VALUE", help="values that replace the file's")
    add("--out", type=Path, metavar="DIR", help="the run directory (default: below runs/)")
    add("--resume", action="store_true", help="go on from the last state that was saved")
    add("--data-dir", metavar="DIR", help="the directory with the files of data sets")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to train (default: cpu)")
    add("--compile", action="store_true", help="train with torch.compile: compute.compile=true")
    add("--tensorboard", action="store_true", help="write what is recorded for TensorBoard too")
    add(
        "--list",
        nargs="?",
        const="",
        metavar="WHAT",
        help="list what configs can name, and stop: all, a kind (models, layers, losses, optimizers, data, "
        "augmentations, configs), or names that match ('*aol*')",
    )
    add("--schema", action="store_true", help="print the JSON Schema of configs, and stop")
    args, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        such = 'values of a config are given without dashes, such as "optimizer.lr=1e-3"'
        parser.error(f"unrecognized arguments: {' '.join(unknown)}: {such}. See --help.")
    if not (args.config or args.schema or args.list is not None or (args.resume and args.out)):
        parser.error("which CONFIG? With --resume, --out DIR is enough. See --help.")
    if args.config and "=" in args.config and args.resume:
        parser.error(
            f"'{args.config}': a run goes on with the config it was begun with; for other values, train "
            "anew, with another --out."
        )
    if args.config in models.names():
        parser.error(
            f"'{args.config}' is a model, and a CONFIG is needed first, such as: "
            f'configs/digits/lipconvnet_aol.yaml "model={{name: {args.config}}}"'
        )
    if args.config and "=" in args.config:
        parser.error(f"'{args.config}' should be a CONFIG: values come after it.")
    if args.config and args.out is None:
        path = Path(args.config)
        args.out = Path("runs") / f"{path.resolve().parent.name}_{path.stem}"
    return args


def how_to_resume(args: argparse.Namespace) -> str:
    """How to go on after an interruption, as the end of a message."""
    if args.out is None or not (args.out / "config.yaml").is_file():
        return ": nothing was written"
    command = spelled("train")
    if distributed.started():
        here = os.environ.get("LOCAL_WORLD_SIZE", str(distributed.size()))
        command = under_torchrun("train", here)
    return f": to go on from the last state that was saved, {command} --resume --out {args.out}"


def print_names(what: str) -> None:
    """Prints what configs can name, a line for each, no longer than the terminal is wide."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    try:
        print("\n".join(lines_of_names(what, width)))
    except ValueError as error:
        raise ExperimentError(str(error)) from None


def train(args: argparse.Namespace, console: Console, stop: Stop) -> None:
    """Trains a network, or goes on with it, and prints what came out."""
    started = time.monotonic()
    device = find_device(distributed.device_name(args.device))
    if args.tensorboard:
        check_tensorboard()
    with ExitStack() as stack:  # of locks
        train_alone(args, console, device, started, stack, stop)


def train_alone(
    args: argparse.Namespace,
    console: Console,
    device: torch.device,
    started: float,
    stack: ExitStack,
    stop: Stop,
) -> None:
    """Trains, and keeps other processes from the run directory as long as `stack` is open."""
    # Others are told by the first process what to train, and wait until its files are in order.
    first = prepare(args, stack) if distributed.is_first() else None
    tree = distributed.from_first(lambda: first[1].to_tree() if first else {})
    if first is not None:
        run, config, dataset = first
    else:
        run, config = None, parse_config(tree)
        dataset = load_data(config)

    model = build_model(config, device)
    untrained = Step(0, 0.0, model, tuple(dataset.train.images.shape[1:]))
    bound = math.nan
    if distributed.is_first():
        with console.status("Certifying the untrained network, so that no training is in vain"):
            bound = certify_first(untrained)
    build_optimizer(model, config)  # what it refuses is told before a directory is made
    parameters = sum(each.numel() for each in model.parameters())
    console.print(
        f"{config.model.name}, {parameters:,} parameters, Lipschitz bound {rounded_up(bound, 6)} before "
        f"training, on {len(dataset.train[: config.data.limit])} images of {dataset.name}.",
        highlight=False,
        soft_wrap=True,
    )
    if distributed.is_first() and run is None:
        run = Run.create(args.out, config, tell)
        stack.enter_context(run.lock())
    moments: list[tuple[float, float]] = []  # the first and the last: epoch, seconds
    follow = (
        stack.enter_context(closing(tensorboard.Board(run))) if args.tensorboard and run else None
    )
    with progress(console, config, dataset) as show, stop.between_steps():
        for step, records in experiment.train(run, config, dataset, untrained, stop):
            show(step, records)
            if stop.decided:
                raise TerminatedError
            if follow is not None:
                follow.add(records)
            moments = [*moments[:1], (step.epoch, time.monotonic())]
    if run is not None:
        speed = speed_of(moments, config, dataset)
        print_results(console, run, dataset, time.monotonic() - started, speed)


def check_tensorboard() -> None:
    """Makes sure, before hours of training, that there is TensorBoard."""
    try:
        tensorboard.check()
    except ImportError as error:
        raise ExperimentError(str(error)) from None


def prepare(args: argparse.Namespace, stack: ExitStack) -> tuple[Run | None, Config, Dataset]:
    """The run to go on with, if there is one, and what is to be trained on which data."""
    changes = [
        *args.overrides,
        *([f"data.dir={json.dumps(args.data_dir)}"] if args.data_dir else []),
        *(["compute.compile=true"] if args.compile else []),
    ]
    if not args.resume:
        Run.check_free(args.out)
        config = load_config(args.config, changes)
        dataset = load_data(config)
        return None, config.fitted_to(dataset), dataset
    run = Run.open(args.out, tell)
    stack.enter_context(run.lock())
    before = run.config()
    config = load_config(args.config or run.path / "config.yaml", changes)
    dataset = load_data(config)
    config = config.fitted_to(dataset)
    refuse_changes(run, before, config)
    return run, config, dataset


def speed_of(moments: list[tuple[float, float]], config: Config, dataset: Dataset) -> str:
    """How fast training went between two moments, in words; nothing if it did not go on."""
    if len(moments) < 2:
        return ""
    (epoch, then), (last, now) = moments
    images = (last - epoch) * len(dataset.train[: config.data.limit])
    return f", {images / (now - then):,.0f} images/s in training with what was recorded"


def find_device(name: str) -> torch.device:
    """The device of that name."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ExperimentError(f"there is no device '{name}' here: {first}") from None
    return device


def refuse_changes(run: Run, before: Config, now: Config) -> None:
    """Makes sure that a run goes on with the config it was begun with."""
    old, new = flatten(before.to_tree()), flatten(now.to_tree())
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changes := [key for key in keys if key != "data.dir"]:
        lines = [f"{key}: {old.get(key)} there, {new.get(key)} now" for key in changes]
        head = f"{run.path} was begun with another config, and can go on with its own only:"
        raise RunError("\n  ".join([head, *lines]))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def certify_first(untrained: Step) -> float:
    """The bound of the untrained network: what no rule covers is refused now, not after hours."""
    try:
        return untrained.certificate.lipschitz
    except (ValueError, RuntimeError) as error:
        shape = tuple(untrained.shape)
        raise ExperimentError(f"the model does not fit images of shape {shape}: {error}") from error


def length(config: Config, dataset: Dataset) -> float:
    """The number of epochs of a training: `schedule.max_steps` may end it in the midst of one."""
    steps = math.ceil(len(dataset.train[: config.data.limit]) / config.data.batch_size)
    longest = config.schedule.max_steps
    return min(config.schedule.epochs, math.inf if longest is None else longest / steps)


@contextmanager
def progress(
    console: Console, config: Config, dataset: Dataset
) -> Iterator[Callable[[Step, list[Record]], None]]:
    """Shows how training goes: a bar on a terminal, a line for every epoch elsewhere."""
    epochs, started = length(config, dataset), time.monotonic()
    latest: dict[str, float] = {}

    def summary(step: Step) -> str:
        done = step.epoch if step.epoch >= epochs else math.floor(step.epoch)
        parts = [f"epoch {done:>{len(f'{epochs:.4g}')}.4g}/{epochs:.4g}"]
        for name, text in [
            ("train/loss", "loss {:.4f}"),
            ("test/accuracy", "clean {:.1%}"),
            ("test/certified_accuracy", "certified at 36/255 {:.1%}"),
        ]:
            parts += [text.format(latest[name])] if name in latest else []
        return "  ".join(parts)

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=epochs)

        def show(step: Step, records: list[Record]) -> None:
            latest.update({record.name: record.value for record in records})
            if console.is_terminal:
                bar.update(task, completed=step.epoch, description=summary(step))
            elif step.epoch == int(step.epoch) or step.epoch >= epochs:
                elapsed = time.monotonic() - started
                print(f"{summary(step)}  ({elapsed:.0f} s)", flush=True)

        yield show


def print_results(console: Console, run: Run, dataset: Dataset, seconds: float, speed: str) -> None:
    """Prints what the network that was written can do on held-out data, and where it lies."""
    model, test = run.load_model(), dataset.test
    certificate = certify(model, tuple(test.images.shape[1:]))
    with console.status("Certifying all held-out images"):
        logits = certificate.logits(test.images)
    radii = certificate.radii_of(logits, test.labels)
    table = Table(title=f"{len(test)} held-out images of {dataset.name}", title_justify="left")
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_row("clean", f"{accuracy(logits, test.labels):.2%}")
    for radius in RADII:
        name = f"{radius * 255:.0f}/255" if 0 < radius < 1 else f"{radius:g}"
        table.add_row(f"certified at {name}", f"{certified_accuracy(radii, radius):.2%}")
    console.print(table)
    for line in (
        f"Radii are l2, in pixels of [0, 1]. Lipschitz bound {rounded_up(certificate.lipschitz, 6)}.",
        f"Took {seconds:.0f} s{speed}. Weights, certificate and history are in {run.path}.",
        f"Next: {spelled('evaluate')} {run.path}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
