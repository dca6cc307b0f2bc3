"""Trains every family and every convolution on Fashion-MNIST for as long as each other, and ranks them.

    python benchmarks/leaderboard.py --data-dir DIR              all that is missing, seed 0, for hours
    python benchmarks/leaderboard.py --data-dir DIR --seeds 0 1 2 --jobs 2
    python benchmarks/leaderboard.py --data-dir DIR conv/bcop    what begins so
    python benchmarks/leaderboard_page.py                        docs/leaderboard.md and its figures

The budget is of CPU time of one thread, ten minutes, so that another program on the machine changes
little: the time of a step is measured first, and the number of steps follows; the learning rate falls
to zero with the last.  The time of starting, and of what is recorded and certified, comes on top.
All seeds of an entry take as many steps as its first.  Nothing was tuned for this table: entries of
`family/` are the configs of `configs/fashion_mnist`, those of `conv/` are `lipconvnet_bcop.yaml` with
another convolution, those of `budget/` are `freqnet.yaml` with other gains for its bands of frequencies.

Results are added to `benchmarks/leaderboard.json`; those that are there are not measured again, and a
training that was interrupted goes on from its last state in `runs/leaderboard`.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "leaderboard.json"
CONFIGS = ROOT / "configs" / "fashion_mnist"
BACKBONE = CONFIGS / "lipconvnet_bcop.yaml"
RUNS = ROOT / "runs" / "leaderboard"

CONVOLUTIONS = (
    *("antialiased", "aoc", "aol", "band", "bro", "cayley", "frobenius", "lires", "lot", "octave"),
    *("pip", "radial", "rko", "sandwich", "sll_aoc", "soc", "spectral", "svcm"),
)  # bcop is family/lipconvnet_bcop; cpl and sll are residual, eco has no kernels of 3 on 7 × 7
BUDGETS = {  # gains below, between and above 1/8 and 1/4 cycles per pixel; family/freqnet has 1, ½, ¼
    "flat": "[1.0, 1.0, 1.0]",
    "low": "[1.0, 0.25, 0.0]",
    "high": "[0.25, 0.5, 1.0]",
}
RADII = {"36": 36 / 255, "72": 72 / 255, "108": 108 / 255, "255": 1.0}
PROBES: dict[str, dict[str, Any]] = {
    "certified": {"local": 0, "tightened": 0},
    "attacked": {"radii": tuple(RADII.values()), "limit": 200, "steps": 20, "rounds": 0},
    "corruptions": {"limit": 200},
    "jacobian": {"limit": 100},
    "response": {"severities": (3,), "limit": 100},
    "frequency": {"limit": 100},
    "tightness": {"images": 2, "noise": 2, "points": 16, "steps": 40, "pairs": 30},
    "cost": {"repeats": 20, "batch_size": 256},
}
SILENT = (
    *("record.bounds_every=100000", "record.ledger=null", "record.drivers=null"),
    *("record.frequencies=false", "record.geometry=false", "record.state_minutes=2"),
)


@dataclass(frozen=True)
class Entry:
    """A line of the table: a config, and what differs from it."""

    name: str
    config: Path
    changes: tuple[str, ...] = ()


def entries() -> list[Entry]:
    """All lines, families and convolutions by turns, the one they share first."""
    families = [Entry(f"family/{path.stem}", path) for path in sorted(CONFIGS.glob("*.yaml"))]
    families.sort(key=lambda each: each.config != BACKBONE)
    convs = [
        Entry(f"conv/{name}", BACKBONE, (f"model.conv={name}_conv2d",)) for name in CONVOLUTIONS
    ]
    convs += [
        Entry(f"budget/{name}", CONFIGS / "freqnet.yaml", (f"model.budgets={gains}",))
        for name, gains in BUDGETS.items()
    ]
    pairs = [each for pair in zip(families[1:], convs, strict=False) for each in pair]
    rest = [*families[1 + len(convs) :], *convs[len(families) - 1 :]]
    return [families[0], *pairs, *rest]


def main() -> None:
    args = parse()
    for child in ("calibrate", "examine"):
        if what := getattr(args, child):
            print(json.dumps({"calibrate": calibrate, "examine": examine}[child](what, args)))
            return
    chosen = [e for e in entries() if not args.names or e.name.startswith(tuple(args.names))]
    known = {(each["entry"], each["seed"]) for each in load() if each["minutes"] == args.minutes}
    todo = [(e, seed) for seed in args.seeds for e in chosen if (e.name, seed) not in known]
    deadline = time.monotonic() + 60 * args.stop_after if args.stop_after else math.inf
    board = Board(args)
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda each: board.measure(each[0], each[1], deadline), todo))
    if False in done:
        sys.exit("not everything could be measured: see above")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("names", nargs="*", help="what names of entries begin with (default: all)")
    add("--data-dir", help="the directory with the files of Fashion-MNIST")
    add("--seeds", nargs="+", type=int, default=[0])
    add("--minutes", type=float, default=10.0, help="of training, CPU time of one thread")
    add("--jobs", type=int, default=1, help="how many to train side by side, a thread each")
    add("--stop-after", type=float, metavar="MINUTES", help="begin no other training after these")
    add("--calibrate", metavar="ENTRY", help=argparse.SUPPRESS)
    add("--examine", metavar="RUN", help=argparse.SUPPRESS)
    return parser.parse_args()


class Board:
    """Measures entries, several at a time, and keeps what came out."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.lock = threading.Lock()

    def measure(self, entry: Entry, seed: int, deadline: float) -> bool:
        """Trains and examines one entry; says whether that could be done."""
        if time.monotonic() > deadline:
            return True
        try:
            result = self.result(entry, seed)
        except subprocess.CalledProcessError as error:
            print(f"{entry.name} seed {seed}: failed\n{error.stderr[-2000:]}", flush=True)
            return False
        with self.lock:
            keep(result)
        certified = " ".join(f"{value:6.2f}" for value in result["certified"].values())
        print(
            f"{entry.name:28} seed {seed}  {result['steps']:6} steps  {result['cpu_seconds']:5.0f} s"
            f"  clean {result['clean']:6.2f}  certified {certified}",
            flush=True,
        )
        return True

    def result(self, entry: Entry, seed: int) -> dict[str, Any]:
        pace = self.pace(entry)
        run = RUNS / f"{entry.name.replace('/', '-')}-{self.args.minutes:g}-{seed}"
        epochs = math.ceil(pace["steps"] / pace["steps_per_epoch"])
        command = [str(ROOT / "train.py")]
        resumed = (run / "config.yaml").is_file()
        if resumed:
            command += ["--resume"]
        else:
            command += [str(entry.config), *entry.changes, f"seed={seed}", *SILENT]
            command += [f"schedule.epochs={epochs}", f"schedule.max_steps={pace['steps']}"]
        before = time.monotonic()
        used = self.run([*command, "--out", str(run), *self.data()])[1]
        wall = time.monotonic() - before
        found = json.loads(self.run([__file__, "--examine", str(run)])[0].splitlines()[-1])
        return {
            "entry": entry.name,
            "seed": seed,
            "minutes": self.args.minutes,
            **pace,
            "epochs": round(pace["steps"] / pace["steps_per_epoch"], 2),
            "cpu_seconds": None if resumed else round(used, 1),
            "wall_seconds": None if resumed else round(wall, 1),
            **found,
        }

    def pace(self, entry: Entry) -> dict[str, Any]:
        """How many steps fit into the budget: what was measured for another seed, or now."""
        keys = ("steps", "steps_per_epoch", "seconds_per_step", "images_per_second")
        with self.lock:
            for each in load():
                if each["entry"] == entry.name and each["minutes"] == self.args.minutes:
                    return {key: each[key] for key in keys}
        return json.loads(self.run([__file__, "--calibrate", entry.name])[0].splitlines()[-1])

    def data(self) -> list[str]:
        return ["--data-dir", self.args.data_dir] if self.args.data_dir else []

    def run(self, command: Sequence[str]) -> tuple[str, float]:
        """Runs a script in a process of one thread; returns what it printed, and its CPU seconds."""
        if command[0] == __file__:
            command = [*command, "--minutes", str(self.args.minutes), *self.data()]
        child = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        out, errors = _communicate(child)
        status, used = _wait(child)
        if status:
            raise subprocess.CalledProcessError(status, command, out, errors)
        return out, used


def _communicate(child: "subprocess.Popen[str]") -> tuple[str, str]:
    """All that a process prints, read before anyone waits for its end, which takes its usage along."""
    kept: dict[str, str] = {}

    def read(name: str) -> None:
        stream = getattr(child, name)
        kept[name] = stream.read()
        stream.close()

    readers = [threading.Thread(target=read, args=(name,)) for name in ("stdout", "stderr")]
    for each in readers:
        each.start()
    for each in readers:
        each.join()
    return kept["stdout"], kept["stderr"]


def _wait(child: "subprocess.Popen[str]") -> tuple[int, float]:
    """The exit status of a process, and the CPU seconds that it used."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime


def calibrate(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The number of steps that an entry takes in the budget: trains it for a while."""
    from lipnets import experiment, losses
    from lipnets.config import load_config
    from lipnets.margin_slopes import MarginSlopes
    from lipnets.training import Step

    entry = next(each for each in entries() if each.name == name)
    where = [f"data.dir={json.dumps(args.data_dir)}"] if args.data_dir else []
    config = load_config(entry.config, [*entry.changes, *SILENT, *where])
    dataset = experiment.load_data(config)
    config = config.fitted_to(dataset)
    model = experiment.build_model(config)
    shape = tuple(dataset.train.images.shape[1:])
    refresh = 0.0  # the time of what losses ask for at the start of an epoch
    if getattr(losses.build(config.loss.name, **config.loss.arguments), "needs_slopes", False):
        before = time.process_time()
        MarginSlopes(model, shape)
        refresh = time.process_time() - before
    per_epoch = math.ceil(len(dataset.train) / config.data.batch_size)
    seconds = 60 * args.minutes
    taken, started = 0, 0.0
    for step, _ in experiment.train(None, config, dataset, Step(0, 0.0, model, shape)):
        if step.index == _WARM:
            started = time.process_time()
        taken = step.index - _WARM
        if taken >= 20 and time.process_time() - started > min(_SECONDS, seconds / 10):
            break
        if taken >= per_epoch - _WARM:
            break  # what comes next is not a step
    pace = (time.process_time() - started) / taken
    steps = max(1, int(seconds / (pace + refresh / per_epoch)))
    return {
        "steps": steps,
        "steps_per_epoch": per_epoch,
        "seconds_per_step": round(pace, 5),
        "images_per_second": round(config.data.batch_size / pace, 1),
    }


_WARM = 5  # steps that are not timed
_SECONDS = 20.0  # of steps that are


def examine(run: str, args: argparse.Namespace) -> dict[str, Any]:
    """What the evaluator finds of a trained network."""
    import torch
    from recipes import commit

    from lipnets.evaluation import Examination, open_target

    target = open_target(run, data_dir=args.data_dir)
    records = Examination(target, data_dir=target.data_dir).examine(PROBES)

    def number(name: str, **details: Any) -> float | None:
        for each in records:
            if each.name == name and all(each.details.get(k) == v for k, v in details.items()):
                return each.value
        return None

    def share(name: str, **details: Any) -> float | None:
        value = number(name, **details)
        return None if value is None else round(100 * value, 3)

    margin = [r for r in records if r.name == "jacobian_power" and r.details["of"] == "margin"]
    radii = next(r for r in records if r.name == "image/radius").details["values"]
    found = torch.tensor(radii, dtype=torch.float64)
    right = torch.tensor(
        [r.details["values"] for r in records if r.name in ("image/label", "image/prediction")]
    )
    correct = right[0] == right[1]
    grid = [step / 20 for step in range(61)]
    return {
        "model": target.title,
        "parameters": int(number("cost/parameters") or 0),
        "bound": number("bound/network"),
        "clean": share("accuracy"),
        "certified": {k: share("certified_accuracy", radius=r) for k, r in RADII.items()},
        "attacked": {k: share("attacked_accuracy", radius=r, norm="l2") for k, r in RADII.items()},
        "mean_radius": number("mean_radius"),
        "corrupted": share("corruption_mean", family="all"),
        "corrupted_certified": share("corruption_certified_mean", family="all"),
        "centroid": number("jacobian_centroid", of="margin"),
        "high_ratio": number("jacobian_high_ratio", of="margin"),
        "spectrum": [round(each, 5) for each in margin[0].details["shape"]] if margin else None,
        "forecast": {of: number("response_correlation", of=of) for of in ("change", "drop")},
        "half_accuracy_radius": {
            r.details["filter"]: r.value for r in records if r.name == "half_accuracy_radius"
        },
        "tightness": number("attained_margin"),
        "latency_ms": round(1000 * (number("cost/latency") or 0), 3),
        "curve": [round(100 * float((correct & (found > r)).double().mean()), 2) for r in grid],
        "images": len(radii),
        "corrupted_by": {
            f"{r.details['corruption']} {r.details['severity']}": round(100 * r.value, 1)
            for r in records
            if r.name == "corrupted_accuracy" and "corruption" in r.details
        },
        "commit": commit("lipnets", "configs", "train.py"),
        "machine": f"one thread, {os.cpu_count()} cores, {processor()}",
        "torch": torch.__version__.split("+")[0],
    }


def load() -> list[dict[str, Any]]:
    """All results."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def keep(result: dict[str, Any]) -> None:
    """Adds a result to the file."""
    from lipnets.atomic import write_atomic

    same = ("entry", "seed", "minutes")
    others = [each for each in load() if any(each[key] != result[key] for key in same)]
    results = sorted([*others, result], key=lambda each: [str(each[key]) for key in same])
    lines = ",\n".join(json.dumps(each) for each in results)
    write_atomic(RESULTS, f"[\n{lines}\n]\n".encode())


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


if __name__ == "__main__":
    main()
