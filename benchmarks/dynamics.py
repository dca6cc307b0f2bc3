"""The ledger: whether it closes, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py closure
    OMP_NUM_THREADS=1 python benchmarks/dynamics.py cost

`closure` trains small networks on the digits for 1,500 steps of 64 images, and sets the remainder of the
ledger beside the change of log K, the sum of log σ₁ over the weights.  `cost` times steps of a plain network of ten
convolutions with 64 channels, on 32 × 32 images in batches of 128, interleaved in one run: each round takes
one step of every contender on a model of its own, and figures are medians over rounds.  What is done each
100th step is timed in each step, to be divided by 100.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

# As in train.py: threads that wait by spinning make a busy machine ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from lipnets import data, losses, optim, recorders
from lipnets.data import Split
from lipnets.dynamics import Ledger
from lipnets.training import Step, fit

OPTIMIZERS = {
    "SGD, 0.1": ("sgd", {"lr": 0.1, "momentum": 0.0}),
    "SGD, 0.05, momentum 0.9, decay 5e-3": ("sgd", {"lr": 0.05, "weight_decay": 5e-3}),
    "Adam, 1e-3": ("adam", {"lr": 1e-3}),
    "AdamW, 1e-3, decay 0.1": ("adamw", {"lr": 1e-3, "weight_decay": 0.1}),
}
SHAPE = (1, 8, 8)
KINDS = (
    "off",
    "ledger",
    "ledger, all frequencies each step (each 100th by default)",
    "ledger in 4 bands besides",
    "drivers each step (each 100th by default)",
)


def main() -> None:
    """Measures, and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=["closure", "cost"])
    parser.add_argument("--steps", type=int, default=1500, help="of each training, for closure")
    parser.add_argument("--rounds", type=int, default=20, help="for cost")
    parser.add_argument("--seeds", type=int, default=3, help="for closure")
    parser.add_argument("--device", default="cpu", help="for cost")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if args.what == "closure":
        closure(args.steps, args.seeds)
    else:
        cost(args.rounds, args.device)


def mlp() -> nn.Sequential:
    """A multilayer perceptron."""
    widths = (64, 48, 32, 10)
    linears = [nn.Linear(m, n) for m, n in pairwise(widths)]
    return nn.Sequential(nn.Flatten(), linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])


def convnet() -> nn.Sequential:
    """A convolutional network with a stride, zero and circular padding, and batch normalization."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def closure(steps: int, seeds: int) -> None:
    """Prints what the ledger leaves."""
    split = data.load("digits").train
    names = ("linear", "curvature", "square", "switch", "decay", "gain", "buffer")
    print(
        "| network | optimizer | seed | change of weights | remainder | of change | "
        + " | ".join(names)
        + " |"
    )
    print("|---|---|---:|---:|---:|---:|" + "---:|" * len(names))
    for network in (mlp, convnet):
        for name, (kind, arguments) in OPTIMIZERS.items():
            for seed in range(seeds):
                torch.manual_seed(seed)
                line = trained(network(), kind, arguments, split, steps, seed).network
                if line is None:
                    continue
                # Of weights: what batch normalization does is exact.
                change = line.log_norm - line.first - line.gain - line.buffer
                share = line.remainder / change
                terms = [getattr(line, each) for each in names]
                cells = ["" if each is None else f"{each:.3f}" for each in terms]
                print(
                    f"| {network.__name__} | {name} | {seed} | {change:.4f} | "
                    f"{line.remainder:.1e} | {share:.1e} | {' | '.join(cells)} |",
                    flush=True,
                )


def trained(
    model: nn.Module, kind: str, arguments: dict[str, float], split: Split, steps: int, seed: int
) -> Ledger:
    """The ledger of a training."""
    optimizer = optim.create_optimizer(model, kind, **arguments)
    ledger = Ledger(model, SHAPE, optimizer=optimizer)
    draws = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps):
            chosen = torch.randint(len(split), (64,), generator=draws)
            yield split.images[chosen].float(), split.labels[chosen]

    schedule = CosineAnnealingLR(optimizer, steps)
    loss = losses.build("cross_entropy")
    for _ in fit(model, batches(), loss, optimizer, schedule, steps_per_epoch=steps):
        ledger.advance()
    return ledger


def cost(rounds: int, device: str) -> None:
    """Prints what recorders cost of a step."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(9):
        convolutions += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    model = model.to(device)
    images, labels = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))
    batch = (images.to(device), labels.to(device))
    steppers = {kind: stepper(copy.deepcopy(model), batch, kind) for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    inside: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind, each in steppers.items():
            start = time.perf_counter()
            spent = next(each)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number:  # the first allocates
                seconds[kind].append(time.perf_counter() - start)
                inside[kind].append(spent)
    print("| recorders | s a step | to `off` | s in recorders | share of the rest of the step |")
    print("|---|---:|---:|---:|---:|")
    for kind, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(own, seconds["off"], strict=True))
        pairs = list(zip(inside[kind], own, strict=True))
        share = statistics.median(part / (whole - part) for part, whole in pairs)
        print(
            f"| {kind} | {statistics.median(own):.3f} | {ratio:.3f} | "
            f"{statistics.median(inside[kind]):.4f} | {share:.2%} |"
        )


def stepper(model: nn.Module, batch: tuple[Tensor, Tensor], kind: str) -> Iterator[float]:
    """Steps of training; yields what recorders took of each, in seconds."""
    optimizer = optim.create_optimizer(model, "sgd", lr=0.01, weight_decay=5e-4)
    shape = tuple(batch[0].shape[1:])
    record = recorders.together(list(chosen(model, shape, optimizer, batch, kind)))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield batch

    schedule = CosineAnnealingLR(optimizer, 1000)
    list(record(Step(0, 0.0, model, shape, trained=model)))
    loss = losses.build("cross_entropy")
    for step in fit(model, batches(), loss, optimizer, schedule, steps_per_epoch=100):
        start = time.perf_counter()
        list(record(step))
        yield time.perf_counter() - start


def chosen(
    model: nn.Module,
    shape: tuple[int, ...],
    optimizer: Optimizer,
    batch: tuple[Tensor, Tensor],
    kind: str,
) -> Iterator[recorders.Recorder]:
    """The recorders of a contender."""
    if "ledger" in kind:
        bands, scan_every = 4 if "bands" in kind else 0, 1 if "all frequencies" in kind else 100
        yield recorders.ledger(
            model, shape, lines=10, optimizer=optimizer, bands=bands, scan_every=scan_every
        )
    if "drivers" in kind:
        loss = recorders.loss_of_probes(losses.build("cross_entropy"))
        yield recorders.drivers(Split(*batch), loss, optimizer, 128, steps=1)


if __name__ == "__main__":
    main()
