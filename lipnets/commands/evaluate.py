"""Examines trained networks: measures, checks, and writes a report of each, and of how they compare."""

__all__ = ["main"]

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

# Threads that wait by spinning make a busy machine ten times slower.  Torch reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .. import probes
from ..comparison import compare
from ..config import ConfigError
from ..evaluation import (
    Examination,
    Target,
    TargetError,
    open_target,
    refuse_incomparable,
    write_comparison,
    write_evaluation,
)
from ..experiment import ExperimentError
from ..invocation import spelled
from ..linalg import UnsoundArithmeticError
from ..probes import PRESETS, InvariantError
from ..probes.effective import LEAST, effective_robustness
from ..probes.shifting import read_records
from ..probes.subject import Tracker
from ..records import Record
from ..report import comparison_figures, comparison_page, summary
from ..runs import RunError, format_records
from ..stopping import Stop, TerminatedError

T = TypeVar("T")

MISTAKES = (ConfigError, ExperimentError, InvariantError, RunError, TargetError, OSError)

EXAMPLES = """examples:
  {evaluate} runs/digits_demo                        a report: evaluation/report.html in the run
  {evaluate} runs/digits_demo --quick                one in a few minutes, with fewer images
  {evaluate} runs/digits_demo --probes certified attacked --limit 1000
  {evaluate} runs/a runs/b runs/c                    three reports, and a comparison
  {evaluate} runs/a --standard runs/plain*           how robust it is for its accuracy
  {evaluate} lipconvnet5 --data digits               a model of the zoo, untrained
  {evaluate} mine.py:network --data cifar10 --data-dir DIR    any nn.Module

Numbers are in records.jsonl and summary.csv beside the report, those of single images in examples.csv.
What a probe found is kept: an evaluation that was interrupted goes on where it was.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; mistakes are told in a sentence."""
    args = parse(arguments)
    with Stop().on_sigterm():
        return answered(args)


def answered(args: argparse.Namespace) -> int:
    """Runs the command; mistakes are told in a sentence."""
    try:
        evaluate(args, Console())
    except KeyboardInterrupt as end:
        terminated = isinstance(end, TerminatedError)
        what = "ended by SIGTERM" if terminated else "interrupted"
        print(
            f"\n{what}: reports were left as they were; what probes found is kept", file=sys.stderr
        )
        return 143 if terminated else 130
    except UnsoundArithmeticError as error:
        print(f"error: nothing can be certified here: {error}", file=sys.stderr)
        return 1
    except MISTAKES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    examples = EXAMPLES.format(evaluate=spelled("evaluate"))
    parser = argparse.ArgumentParser(
        spelled("evaluate"), description=__doc__, epilog=examples, formatter_class=raw
    )
    add = parser.add_argument
    add(
        "targets",
        nargs="+",
        metavar="RUN",
        help="a run directory that train.py wrote, a directory of save_pretrained, the name of a "
        "model, or module:function that returns one",
    )
    known = ", ".join(probes.names())
    add("--probes", nargs="+", metavar="NAME", help=f"what to measure (default: all): {known}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="few images and settings: minutes")
    how.add_argument("--full", action="store_true", help="what a publication needs: hours")
    add("--limit", type=positive, metavar="N", help="use N test images, evenly spaced")
    named = "the data set, or an .npz file of images and labels (default: that of the run)"
    add("--data", metavar="NAME", help=named)
    add("--data-dir", metavar="DIR", help="the directory with the files of data sets")
    add("--baseline", metavar="RUN", help="an evaluated run that corruption errors are relative to")
    add(
        "--standard",
        nargs="+",
        metavar="RUN",
        help=f"{LEAST} evaluated runs or more of networks that were trained for accuracy alone, which "
        "effective robustness is relative to",
    )
    add("--out", type=Path, metavar="DIR", help="where to write the report, or the comparison")
    add("--fresh", action="store_true", help="forget what was found before")
    add("--batch-size", type=positive, default=256, metavar="N", help="images at a time")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to run (default: cpu)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number from 1 on, got '{text}'")
    return int(text)


def evaluate(args: argparse.Namespace, console: Console) -> None:
    """Examines each network and writes its report; of several, writes how they compare."""
    chosen = settings_of(args)
    standard = standard_of(args.standard or ())
    device = find_device(args.device)
    several = len(args.targets) > 1
    if args.out and several:
        refuse_unless_writable(args.out)
    targets = [
        open_target(
            each,
            data_name=args.data,
            data_dir=args.data_dir,
            out=None if several else args.out,
        )
        for each in dict.fromkeys(args.targets)
    ]
    named = dict(zip(names_of(targets), targets, strict=True))
    refuse_incomparable(named, chosen)
    found = {
        name: examine(target, chosen, standard, args, device, console)
        for name, target in named.items()
    }
    if len(found) > 1:
        write_comparison_of(found, args.out or comparison_home(targets), console)


def settings_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings of each probe that was asked for, in the order of the report."""
    if args.probes is not None:
        names = list(dict.fromkeys(args.probes))
    else:
        names = [*probes.ORDER, *(["smoothing"] if args.full else [])]
    preset = "quick" if args.quick else "full" if args.full else ""
    chosen = {name: dict(PRESETS.get(name, {}).get(preset, {})) for name in names}
    if args.baseline and "corruptions" in chosen:
        chosen["corruptions"]["baseline"] = baseline_of(args.baseline)
    for name, settings in chosen.items():
        try:
            probes.build(name, **settings)
        except ValueError as error:
            raise ExperimentError(str(error)) from None
    return chosen


def baseline_of(run: str) -> Path:
    """The records of the run that corruption errors are relative to."""
    path = Path(run) / "evaluation" / "records.jsonl"
    if not path.is_file():
        raise ExperimentError(
            f"the baseline {run} should have been evaluated, with the probe corruptions: there is "
            f"no {path}"
        )
    return path


def standard_of(runs: Sequence[str]) -> list[list[Record]]:
    """The records of the runs that effective robustness is relative to."""
    different = list(dict.fromkeys(runs))
    if different and len(different) < LEAST:
        raise ExperimentError(
            f"--standard should name {LEAST} runs at least, got {len(different)}: through fewer, "
            "a line says little"
        )
    try:
        return [read_records(run) for run in different]
    except ValueError as error:
        raise ExperimentError(f"--standard should name evaluated runs. {error}") from None


def find_device(name: str) -> torch.device:
    """The device of that name."""
    try:
        device = torch.device(name)
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise ExperimentError(f"there is no device '{name}' that computes here: {first}") from None
    return device


def names_of(targets: Sequence[Target]) -> list[str]:
    """A name for each, by as much of its path as tells it from the others."""
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        names = [str(target.out.parent) for target in targets]
    return names


def comparison_home(targets: Sequence[Target]) -> Path:
    """Where a comparison is written: beside the first run."""
    return targets[0].out.parent.parent / f"comparison_{'_'.join(t.name for t in targets)}"[:200]


def examine(
    target: Target,
    chosen: Mapping[str, Mapping[str, Any]],
    standard: Sequence[Sequence[Record]],
    args: argparse.Namespace,
    device: torch.device,
    console: Console,
) -> list[Record]:
    """Runs the probes on one network, and writes its report."""
    started = time.monotonic()
    refuse_unless_writable(target.out)
    with progress(console) as track:
        examination = Examination(
            target,
            limit=args.limit,
            batch_size=args.batch_size,
            device=device,
            data_dir=target.data_dir,
            track=track,
            fresh=args.fresh,
        )

        def tell(name: str, seconds: float | None) -> None:
            took = "found before" if seconds is None else f"{seconds:.1f} s"
            console.print(f"  {name}: {took}", highlight=False)

        console.print(f"{target.name}: {target.title} on {target.dataset.name}", highlight=False)
        try:
            records = examination.examine(chosen, tell)
            if standard:
                records += effective_robustness(records, standard)
            report = write_evaluation(target, records)
            certificate = examination.save_certificate()
        except ValueError as error:
            raise ExperimentError(str(error)) from error
    count, whole = examination.counts()
    images = f"{count} of {whole}" if count < whole else str(count)
    print_results(console, f"{images} test images of {target.dataset.name}", records)
    pairs = sum(r.count or 0 for r in records if r.name.startswith("check/"))
    for line in (
        "Brackets are 95 % intervals. Radii are l2, in pixels of [0, 1].",
        f"{pairs:,} checks of what must be true held. Took {time.monotonic() - started:.0f} s.",
        f"Certificate: python -m lipnets.verify {certificate}" if certificate else why_not(records),
        f"Report: {report}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    return records


def refuse_unless_writable(out: Path) -> None:
    """Refuses a directory that nothing can be written to, before hours are spent."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ExperimentError(
            f"the report should go to the directory '{out}', to which nothing can be written "
            f"({error.strerror}): name another with --out"
        ) from error


def why_not(records: Sequence[Record]) -> str:
    """Why there is no certificate."""
    said = [record.details["says"] for record in records if record.name == "uncertified"]
    return f"Nothing is proved of this network: {said[0] if said else 'no rule covers it.'}"


@contextmanager
def progress(console: Console) -> Iterator[Tracker]:
    """Shows how far loops are: bars on a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:

            def on_bar(items: Sequence[T], what: str) -> Iterable[T]:
                return bar.track(items, description=what)

            yield on_bar
        return

    def in_lines(items: Sequence[T], what: str) -> Iterable[T]:
        said = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - said > 5 or done == len(items):
                print(f"{what}: {done}/{len(items)}", flush=True)
                said = time.monotonic()

    yield in_lines


def print_results(console: Console, title: str, records: Sequence[Record]) -> None:
    """Prints the numbers that fit on a screen."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for what, number, remark in summary(records):
        table.add_row(what, number, remark)
    console.print(table)


def write_comparison_of(found: Mapping[str, Sequence[Record]], out: Path, console: Console) -> None:
    """Writes how networks compare, image by image."""
    try:
        compared = compare(found)
    except ValueError as error:
        raise ExperimentError(f"these runs cannot be compared: {error}") from error
    drawn = comparison_figures(found, compared)
    files = {
        "comparison.jsonl": format_records(compared),
        "report.html": comparison_page(list(found), found, compared),
    }
    report = write_comparison(out, files, drawn)
    console.print(f"Comparison: {report}", highlight=False, soft_wrap=True)
