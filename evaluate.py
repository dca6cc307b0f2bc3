"""Examines a trained network: measures, checks, and writes a report into its run directory."""

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

# Threads that wait by spinning make a busy machine ten times slower.  Torch reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import lipnets
from lipnets import probes
from lipnets.bounds import NotCertifiedError
from lipnets.config import Config, ConfigError
from lipnets.data import Dataset
from lipnets.experiment import ExperimentError, load_data
from lipnets.linalg import UnsoundArithmeticError
from lipnets.probes import InvariantError, Probe, Subject
from lipnets.probes.subject import Tracker
from lipnets.records import Record
from lipnets.report import Facts, data_uri, figures, page, png, summary
from lipnets.runs import Run, RunError, certificate_bytes, format_records, write_atomic

T = TypeVar("T")

PROBES = ("certified", "rounding", "bands", "tightness", "dynamics", "corruptions", "frequency")
CERTIFIED = 1000  # images of which the certificate holds the radii, at the most
EXAMPLES = """examples:
  python evaluate.py runs/digits_demo
  python evaluate.py runs/digits_demo --probes certified tightness --limit 1000

The report is runs/digits_demo/evaluation/report.html; its numbers are in records.jsonl beside it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; mistakes are told in a sentence."""
    args = parse(arguments)
    try:
        evaluate(args, Console())
    except KeyboardInterrupt:
        print("\ninterrupted: the report was left as it was", file=sys.stderr)
        return 130
    except (NotCertifiedError, UnsoundArithmeticError) as error:
        print(f"error: this network cannot be certified: {error}", file=sys.stderr)
        return 1
    except (ConfigError, ExperimentError, InvariantError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "evaluate.py", description=__doc__, epilog=EXAMPLES, formatter_class=raw
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN_DIR", help="a run directory that train.py wrote")
    known = ", ".join(probes.names())
    add("--probes", nargs="+", default=PROBES, metavar="NAME", help=f"what to measure: {known}")
    add("--limit", type=positive, metavar="N", help="use N test images, evenly spaced")
    add("--data-dir", metavar="DIR", help="the directory with the files of data sets")
    add("--batch-size", type=positive, default=256, metavar="N", help="images at a time")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to run (default: cpu)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number from 1 on, got '{text}'")
    return int(text)


def evaluate(args: argparse.Namespace, console: Console) -> None:
    """Examines the network of a run, and writes the report."""
    started = time.monotonic()
    chosen = build_probes(args.probes)
    device = find_device(args.device)
    run = Run.open(args.run)
    config, model = run.config(), run.load_model()
    if args.data_dir:
        section = config.data.model_copy(update={"dir": args.data_dir})
        config = config.model_copy(update={"data": section})
    dataset = load_data(config)
    weights = hashlib.sha256(run.read("model.safetensors")).hexdigest()

    with progress(console) as track:
        try:
            subject = Subject.of(
                model,
                dataset.test,
                limit=args.limit,
                batch_size=args.batch_size,
                device=device,
                history=run.history(),
                provenance={
                    "data": dataset.name,
                    "sha256": dataset.sha256,
                    "split": "test",
                    "weights": weights,
                },
                track=track,
            )
        except ValueError as error:
            raise ExperimentError(f"the network does not fit the data: {error}") from error
        records = [record for probe in chosen for record in probe(subject)]
        facts = find_facts(config, dataset, subject, records)
        write(run.path / "evaluation", records, facts)
        kept = subject.sample(CERTIFIED)
        content = certificate_bytes(subject.certificate, kept.images, kept.labels)
        write_atomic(run.path / "evaluation" / "certificate.npz", content)
    print_results(console, run, dataset, subject, records, time.monotonic() - started)


def build_probes(names: Sequence[str]) -> list[Probe]:
    """The probes of these names, each once."""
    try:
        return [probes.build(name) for name in dict.fromkeys(names)]
    except ValueError as error:
        raise ExperimentError(str(error)) from None


def find_device(name: str) -> torch.device:
    """The device of that name."""
    try:
        device = torch.device(name)
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise ExperimentError(f"there is no device '{name}' that computes here: {first}") from None
    return device


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


def find_facts(
    config: Config, dataset: Dataset, subject: Subject, records: Sequence[Record]
) -> Facts:
    """What the page says besides the records."""
    shown = {r.details["index"] for r in records if r.name == "example"}
    channels, height, width = subject.shape
    return Facts(
        model=config.model.name,
        data=dataset.name,
        classes=dataset.classes,
        shape=(channels, height, width),
        parameters=sum(each.numel() for each in subject.model.parameters()),
        config=config.to_yaml(),
        checksums={
            "the data": subject.provenance["sha256"],
            "the weights": subject.provenance["weights"],
        },
        versions={
            "lipnets": lipnets.__version__,
            "torch": torch.__version__,
            "Python": platform.python_version(),
        },
        pictures={index: data_uri(dataset.test.images[index]) for index in sorted(shown)},
    )


def write(directory: Path, records: Sequence[Record], facts: Facts) -> None:
    """Writes records, figures and the page, each whole or not at all; the page last."""
    drawn = figures(records)
    files: dict[str, bytes | str] = {"records.jsonl": format_records(records)}
    files |= {f"{name}.png": png(figure) for name, figure in drawn.items()}
    files["report.html"] = page(records, facts, drawn)
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        write_atomic(directory / name, content)
    for figure in directory.glob("*.png"):  # of the evaluation before
        if figure.name not in files:
            figure.unlink()


def print_results(
    console: Console,
    run: Run,
    dataset: Dataset,
    subject: Subject,
    records: Sequence[Record],
    seconds: float,
) -> None:
    """Prints the numbers that fit on a screen, and where the others are."""
    count = f"{len(subject)} of {subject.whole}" if len(subject) < subject.whole else len(subject)
    table = Table(title=f"{count} test images of {dataset.name}", title_justify="left")
    for heading in ("", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for what, number, remark in summary(records):
        table.add_row(what, number, remark)
    console.print(table)
    pairs = sum(r.count or 0 for r in records if r.name.startswith("check/"))
    for line in (
        "Brackets are 95 % intervals. Radii are l2, in pixels of [0, 1].",
        f"{pairs:,} checks of what must be true held. Took {seconds:.0f} s.",
        f"Certificate: python -m lipnets.verify {run.path / 'evaluation' / 'certificate.npz'}",
        f"Report: {run.path / 'evaluation' / 'report.html'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
