"""Trains the configs of a data set, and keeps what came out in `benchmarks/recipes.json`.

    python benchmarks/recipes.py --data-dir DIR                one epoch of each Fashion-MNIST config
    python benchmarks/recipes.py digits --whole --seeds 0 1 2  each config of digits as it stands
    python benchmarks/recipes.py digits cpl sll                some of them
    python benchmarks/recipes.py --headers                     results into the headers of all configs

Each config runs in a process of its own, one after another, by `train.py`.  What is recorded is
what the run directory holds: the certified network on all images that are held out.  Results are
added to those of the file, a result of the same config, seed and number of epochs replaced.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lipnets import data
from lipnets.atomic import write_atomic
from lipnets.certify import certify
from lipnets.metrics import accuracy, certified_accuracy
from lipnets.runs import Run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "recipes.json"
TITLE = "# Measured by benchmarks/recipes.py: per cent, radii in 255ths, one thread, means of the seeds:"
RADII = {"36": 36 / 255, "72": 72 / 255, "108": 108 / 255, "255": 1.0}
MNIST = {**RADII, "403": 1.58}  # where the field compares on MNIST


def main() -> None:
    args = parse()
    if args.headers:
        write_headers()
        return
    paths = sorted((ROOT / "configs" / args.data).glob("*.yaml"))
    if args.names:
        paths = [path for path in paths if any(path.stem.startswith(n) for n in args.names)]
    failed = []
    for path in paths:
        for seed in args.seeds:
            try:
                result = run(path, seed, args)
            except subprocess.CalledProcessError as error:
                failed.append(path.stem)
                print(f"{path.stem}: failed\n{error.stderr[-2000:]}", flush=True)
                continue
            keep(result)
            shown = " ".join(f"{value:6.2f}" for value in result["certified"].values())
            epochs, seconds = result["epochs"], result["seconds"]
            print(
                f"{path.stem:32} seed {seed}  {epochs} epochs  {seconds:5.0f} s  "
                f"clean {result['clean']:6.2f}  certified {shown}  bound {result['bound']:.5f}",
                flush=True,
            )
    if failed:
        sys.exit(f"failed: {', '.join(sorted(set(failed)))}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="fashion_mnist", help="a directory of configs/")
    parser.add_argument("names", nargs="*", help="what names of configs begin with (default: all)")
    parser.add_argument("--data-dir", help="the directory with the files of the data set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--headers", action="store_true", help="write results into the configs")
    parser.add_argument("--whole", action="store_true", help="all epochs, instead of one")
    return parser.parse_args()


def run(path: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains one config in a process of its own, and evaluates what it left."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        command = [sys.executable, str(ROOT / "train.py"), str(path), f"seed={seed}"]
        if not args.whole:
            command += ["schedule.epochs=1", "schedule.warmup_epochs=0.1"]
        command += ["--out", str(out)]
        command += ["--data-dir", args.data_dir] if args.data_dir else []
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        seconds = time.monotonic() - started
        opened = Run.open(out)
        model, config = opened.load_model(), opened.config()
        spec = config.data
        dataset = data.load(spec.name, data_dir=spec.dir, verify=spec.verify, **spec.arguments)
        test = dataset.test
        certificate = certify(model, tuple(test.images.shape[1:]))
        logits = certificate.logits(test.images)
        radii = certificate.radii_of(logits, test.labels)
    return {
        "config": f"{path.parent.name}/{path.stem}",
        "model": config.model.name,
        "seed": seed,
        "epochs": config.schedule.epochs,
        "seconds": round(seconds, 1),
        "parameters": sum(each.numel() for each in model.parameters()),
        "images": len(test),
        "bound": certificate.lipschitz,
        "clean": round(100 * accuracy(logits, test.labels), 2),
        "certified": {
            name: round(100 * certified_accuracy(radii, radius), 2)
            for name, radius in (MNIST if spec.name == "mnist" else RADII).items()
        },
        "threads": int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__.split("+")[0],
    }


def keep(result: dict[str, Any]) -> None:
    """Adds a result to the file."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    same = ("config", "seed", "epochs")
    others = [each for each in results if any(each[key] != result[key] for key in same)]
    results = sorted([*others, result], key=lambda each: [str(each[key]) for key in same])
    write_atomic(RESULTS, (json.dumps(results, indent=1) + "\n").encode())


def write_headers() -> None:
    """Writes what was measured of each config into its header."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = path.read_text()
        if (new := with_results(text, results_of(path))) != text:
            write_atomic(path, new.encode())


def results_of(path: Path) -> list[dict[str, Any]]:
    """The results of a config, of all numbers of epochs and seeds."""
    name = f"{path.parent.name}/{path.stem}"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return [each for each in results if each["config"] == name]


def with_results(text: str, results: list[dict[str, Any]]) -> str:
    """The text of a config with a table of results at the end of its header."""
    lines = text.splitlines()
    if TITLE in lines:  # what was there before
        start = lines.index(TITLE)
        stop = start + 1
        while stop < len(lines) and lines[stop].startswith("#   "):
            stop += 1
        lines[start - 1 : stop] = []
    header = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    table = ["#", TITLE, *(f"#   {line}" for line in tabulate(results))] if results else []
    return "\n".join([*lines[:header], *table, *lines[header:]]) + "\n"


def tabulate(results: list[dict[str, Any]]) -> list[str]:
    """A line for each number of epochs: means over seeds, in per cent, and the slowest run."""
    radii = list(results[0]["certified"])
    named = "".join(f"{radius:>7}" for radius in radii)
    lines = [f"epochs  seeds    clean{named}  bound   seconds  commit"]
    for epochs in sorted({each["epochs"] for each in results}):
        runs = [each for each in results if each["epochs"] == epochs]
        seeds = " ".join(str(each["seed"]) for each in runs)
        columns = [[each["clean"] for each in runs]]
        columns += [[each["certified"][radius] for each in runs] for radius in radii]
        figures = "".join(f"{statistics.mean(column):7.2f}" for column in columns)
        bound = max(each["bound"] for each in runs)
        seconds = max(each["seconds"] for each in runs)
        commits = " ".join(dict.fromkeys(each["commit"] for each in runs))
        lines.append(f"{epochs:6}  {seeds:6} {figures} {bound:6.4g} {seconds:9.0f}  {commits}")
    return lines


def commit(*paths: str) -> str:
    """The commit that is measured, with a plus if files differ from it: any, or those of some paths."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno", "--", *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


if __name__ == "__main__":
    main()
