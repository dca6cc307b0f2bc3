"""Runs a study, or goes on with it, and prints what it found."""

import argparse
import inspect
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from ..config import ConfigError, load_tree, merge, read_overrides
from ..experiment import ExperimentError
from ..registry import closest
from ..runs import RunError
from . import names, registry
from .lab import Lab

EXAMPLES = """examples:
  python -m lipnets.studies batch_size --jobs 2
  python -m lipnets.studies label_noise late=20000 "shares=[0, 0.5]"
  python -m lipnets.studies drivers --config configs/studies/fashion_mnist.yaml --data-dir DIR
  python -m lipnets.studies --list               what there is, with settings
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; mistakes are told in a sentence."""
    args = parse(arguments)
    console = Console()
    if args.list:
        for name in names():
            console.print(describe(name), highlight=False, soft_wrap=True)
        return 0
    try:
        settings = read_settings(args.study, args.settings)
        base = load_tree(args.config)
        if args.data_dir:
            base = merge(base, {"data": {"dir": args.data_dir}})
        lab = Lab(args.out or Path("runs/studies") / args.study, base, args.jobs)
        finding = registry.build(args.study, lab=lab, **settings)
    except KeyboardInterrupt:
        tell("interrupted: the same command goes on")
        return 130
    except (ConfigError, ExperimentError, RunError, OSError, ValueError) as error:
        tell(f"error: {error}")
        return 1
    lab.out.mkdir(parents=True, exist_ok=True)
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = shlex.join(["python", "-m", "lipnets.studies", *given])
    finding.write(lab.out, args.study, command)
    lines = finding.markdown(args.study, command).splitlines()
    shown = [line for line in lines if not line.startswith("![")]  # what a terminal can show
    console.print(Markdown("\n".join(shown)))
    console.print(
        f"Written to {lab.out / args.study}.md and .png.", highlight=False, soft_wrap=True
    )
    return 0


def tell(message: str) -> None:
    """Writes a line to the terminal's stream of errors."""
    Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m lipnets.studies",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", nargs="?", metavar="NAME", choices=[None, *names()], help="see --list")
    add("settings", nargs="*", metavar="KEY=VALUE", help="settings of the study, in YAML")
    add(
        "--config",
        type=Path,
        default=Path("configs/studies/digits.yaml"),
        metavar="FILE",
        help="the experiment that it changes (default: configs/studies/digits.yaml)",
    )
    add("--data-dir", metavar="DIR", help="the directory with the files of data sets")
    add("--out", type=Path, metavar="DIR", help="where to write (default: runs/studies/NAME)")
    add("--jobs", type=int, default=1, metavar="N", help="trainings at a time (default: 1)")
    add("--list", action="store_true", help="list the studies and their settings, and stop")
    args = parser.parse_intermixed_args(arguments)
    if args.study is None and not args.list:
        parser.error("which study? See --list.")
    if args.jobs < 1:
        parser.error(f"--jobs should be at least 1, got {args.jobs}.")
    return args


def describe(name: str) -> str:
    """A study in a few lines: what it does, and its settings with their defaults."""
    study = registry[name]
    settings = inspect.signature(study).parameters.values()
    shown = " ".join(
        f"{each.name}={each.default}" for each in settings if each.kind is each.KEYWORD_ONLY
    )
    first = (inspect.getdoc(study) or "").partition("\n\n")[0].replace("\n", " ")
    return f"{name}: {first}\n    {shown}"


def read_settings(name: str, assignments: Sequence[str]) -> dict[str, Any]:
    """The settings of a study that a command line gives.

    Raises:
        ConfigError: If the study has no setting of such a name.
    """
    problems: list[str] = []
    settings = read_overrides(assignments, problems)
    known = [
        p.name
        for p in inspect.signature(registry[name]).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]
    problems += [
        f"the study '{name}' has no setting '{key}'{closest(key, known)}"
        for key in settings
        if key not in known
    ]
    if problems:
        raise ConfigError("", problems)
    return settings


if __name__ == "__main__":
    sys.exit(main())
