"""The time of a training step of an orthogonal layer: on its manifold, or parametrized.

    python benchmarks/optimizers.py           512 and 1024 features
    python benchmarks/optimizers.py 64 256    others

One run, interleaved: each round takes one step of every contender, so that what else the machine does
meets all of them alike.  A step is forward and backward of a square layer without bias on a batch of
128, and the step of the optimizer; its own share is timed apart.  Medians over rounds of the CPU time
of one thread.  At the end every layer is bounded: the drift of thousands of steps is in the tests.
"""

import statistics
import sys
import time
from collections import defaultdict

import torch

import lipnets
from lipnets import layers, optim

CONTENDERS = [
    ("linear", "adam"),
    ("manifold_linear", "manifold_sgd"),
    ("manifold_linear", "manifold_adam"),
    ("manifold_linear", "manifold_muon"),
    ("cayley_linear", "adam"),
    ("bjorck_linear", "adam"),
    ("newton_schulz_linear", "adam"),
]
BATCH, ROUNDS, WARM_UP = 128, 20, 3


def measure(size: int) -> None:
    """Prints a row for each contender at a size."""
    torch.manual_seed(0)
    built = []
    for name, optimizer in CONTENDERS:
        layer = layers.build(name, in_features=size, out_features=size, bias=False)
        built.append((layer, optim.create_optimizer(layer, optimizer, lr=1e-3)))
    steps, shares = defaultdict(list), defaultdict(list)
    for index in range(WARM_UP + ROUNDS):
        x, weights = torch.randn(BATCH, size), torch.randn(BATCH, size)
        for contender, (layer, optimizer) in zip(CONTENDERS, built, strict=True):
            start = time.process_time()
            optimizer.zero_grad()
            ((layer(x) * weights).sum() / BATCH).backward()
            middle = time.process_time()
            optimizer.step()
            end = time.process_time()
            if index >= WARM_UP:
                steps[contender].append(end - start)
                shares[contender].append(end - middle)
    plain = steps[CONTENDERS[0]]
    for contender, (layer, _) in zip(CONTENDERS, built, strict=True):
        ratio = statistics.median(a / b for a, b in zip(steps[contender], plain, strict=True))
        bound = lipnets.lipschitz(lipnets.export(layer), (size,)).value
        print(
            f"| {size} | `{contender[0]}`, `{contender[1]}` "
            f"| {1e3 * statistics.median(steps[contender]):.1f} | {ratio:.1f} "
            f"| {1e3 * statistics.median(shares[contender]):.1f} | {bound - 1:+.1e} |",
            flush=True,
        )


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| features | layer, optimizer | step, ms | ratio | of it the optimizer, ms | bound − 1 |"
    )
    print("|---:|---|---:|---:|---:|---:|")
    for size in map(int, sys.argv[1:] or ["512", "1024"]):
        measure(size)


if __name__ == "__main__":
    main()
