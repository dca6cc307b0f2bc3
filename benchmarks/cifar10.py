r"""Certified accuracy on CIFAR-10 against the time of training, by the clock.

    OMP_NUM_THREADS=2 python benchmarks/cifar10.py --data-dir DIR                   an hour of two cores
    python benchmarks/cifar10.py --data-dir DIR --device cuda --minutes 25 compute.dtype=bfloat16 \
        compute.channels_last=true compute.compile=true                             on a GPU
    python benchmarks/cifar10.py                                                    draws what was measured

The config is `configs/cifar10/lipconvnet_bcop.yaml`, with the values that are given.  Steps are timed
first, for a hundredth of the budget, and the schedule is made as long as the budget.  The clock stands still
while the network is looked at: each look certifies all test images, in float64.  Results are added to
`benchmarks/cifar10.json`, those of the same budget, device, values and seed replaced; the figure is
`docs/cifar10.png`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from leaderboard import RADII, processor
from matplotlib.figure import Figure
from recipes import commit

from lipnets import experiment
from lipnets.atomic import write_atomic
from lipnets.commands.train import find_device
from lipnets.config import Config, load_config
from lipnets.data import Dataset
from lipnets.metrics import accuracy, certified_accuracy
from lipnets.report import png
from lipnets.report.drawing import COLORS, axes, frame, name_ends, styled
from lipnets.training import Step

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "cifar10" / "lipconvnet_bcop.yaml"
RESULTS = ROOT / "benchmarks" / "cifar10.json"
FIGURE = ROOT / "docs" / "cifar10.png"
WARM = 5  # steps that are not timed


def main() -> None:
    args = parse()
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    if args.data_dir:
        result = measure(args)
        same = ("minutes", "device", "changes", "seed")
        known = [each for each in known if any(each[key] != result[key] for key in same)]
        known.append(result)
        write_atomic(RESULTS, json.dumps(known, indent=1) + "\n")
    if not known:
        sys.exit(
            "nothing was measured yet: give --data-dir, the directory with the files of CIFAR-10"
        )
    write_atomic(FIGURE, png(draw(known)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "changes",
        nargs="*",
        metavar="KEY.SUB=VALUE",
        help="values that replace those of the config",
    )
    add("--data-dir", help="the directory with the files of CIFAR-10")
    add("--device", default="cpu")
    add("--minutes", type=float, default=60.0, help="of training, by the clock")
    add("--looks", type=int, default=12, help="how often to certify all test images")
    add("--seed", type=int, default=0)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Trains for as long as the budget, and says what was certified when."""
    device = find_device(args.device)
    where = f"data.dir={json.dumps(args.data_dir)}"
    changes = [f"seed={args.seed}", where, *args.changes]
    config = load_config(CONFIG, changes)
    dataset = experiment.load_data(config)
    pace = timed(config.fitted_to(dataset), dataset, device, 0.6 * args.minutes)
    steps = int(60 * args.minutes / pace)
    per_epoch = -(-len(dataset.train) // config.data.batch_size)
    length = [f"schedule.epochs={-(-steps // per_epoch)}", f"schedule.max_steps={steps}"]
    config = load_config(CONFIG, [*changes, *length]).fitted_to(dataset)
    print(f"{steps} steps of {1000 * pace:.0f} ms, {steps / per_epoch:.1f} epochs", flush=True)

    dues = [round(steps * (i + 1) / args.looks) for i in range(args.looks)]
    curve: list[dict[str, Any]] = []
    spent, since = 0.0, time.monotonic()
    for step, _ in experiment.train(None, config, dataset, untrained(config, dataset, device)):
        if step.index not in dues:
            continue
        finish(device)
        spent += time.monotonic() - since
        curve.append({"minutes": round(spent / 60, 2), "epochs": round(step.epoch, 2)})
        curve[-1] |= look(step, dataset)
        print(json.dumps(curve[-1]), flush=True)
        since = time.monotonic()
    parameters = sum(each.numel() for each in step.model.parameters())
    return {
        "config": f"{CONFIG.parent.name}/{CONFIG.stem}",
        "changes": args.changes,
        "seed": args.seed,
        "minutes": args.minutes,
        "parameters": parameters,
        "images": len(dataset.test),
        "curve": curve,
        "commit": commit("lipnets", "configs", "train.py"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, {processor()}",
        "torch": torch.__version__.split("+")[0],
    }


def untrained(config: Config, dataset: Dataset, device: torch.device) -> Step:
    """The network before the first step."""
    model = experiment.build_model(config, device)
    return Step(0, 0.0, model, tuple(dataset.train.images.shape[1:]))


def timed(config: Config, dataset: Dataset, device: torch.device, seconds: float) -> float:
    """Seconds of a step, by the clock: of a training that is thrown away."""
    taken, started = 0, 0.0
    for step, _ in experiment.train(None, config, dataset, untrained(config, dataset, device)):
        if step.index == WARM:
            finish(device)
            started = time.monotonic()
        taken = step.index - WARM
        if taken >= 10 and time.monotonic() - started > seconds:
            break
    finish(device)
    return (time.monotonic() - started) / taken


def finish(device: torch.device) -> None:
    """Waits for what a device has not done yet."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def look(step: Step, dataset: Dataset) -> dict[str, Any]:
    """What is certified of all test images now."""
    test = dataset.test
    logits = step.certificate.logits(test.images)
    radii = step.certificate.radii_of(logits, test.labels)
    shares = {name: certified_accuracy(radii, radius) for name, radius in RADII.items()}
    return {
        "clean": round(100 * accuracy(logits, test.labels), 2),
        "certified": {name: round(100 * share, 2) for name, share in shares.items()},
        "bound": step.certificate.lipschitz,
    }


@styled
def draw(known: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws what is certified over minutes, a line for each radius, of the longest training."""
    figure, ax = axes(6.0, 3.4)
    curve = max(known, key=lambda each: each["minutes"])["curve"]
    minutes = [each["minutes"] for each in curve]
    colors = [COLORS[name] for name in ("ink", "first", "second", "third", "fourth")]
    ends = []
    for name, color in zip(("clean", *RADII), colors, strict=True):
        values = [each["clean"] if name == "clean" else each["certified"][name] for each in curve]
        heights = [value / 100 for value in values]
        ax.plot(minutes, heights, "o-", color=color, markersize=3, lw=1.4)
        label = name if name == "clean" else f"{name}/255"
        ends.append((f"{label}  {values[-1]:.1f}", minutes[-1], heights[-1]))
    frame(ax, "minutes of training", "right, and certified, per cent", percent=True)
    ax.set_xlim(left=0)
    name_ends(figure, ax, ends)
    return figure


if __name__ == "__main__":
    main()
