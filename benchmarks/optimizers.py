"""The time of a training step of an orthogonal layer: on its manifold, or parametrized.

    python benchmarks/optimizers.py           512 and 1024 features
    python benchmarks/optimizers.py 64 256    others
    python benchmarks/optimizers.py --drift 4000 64 256    the proved bound after as many steps

One run, interleaved: each round takes one step of every contender, so that what else the machine does
meets all of them alike.  A step is forward and backward of a square layer without bias on a batch of
128, and the step of the optimizer; its own share is timed apart.  Medians over rounds of the CPU time
of one thread.  At the end every layer is bounded.
"""

import argparse
import statistics
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


def drift(size: int, steps: int) -> None:
    """Prints how far weights leave the manifold in float32, under random gradients."""
    for name in optim.names("manifold_*"):
        for lr in (1e-3, 1e-2):
            torch.manual_seed(0)
            layer = layers.build("manifold_linear", in_features=size, out_features=size, bias=False)
            optimizer = optim.create_optimizer(layer, name, lr=lr)
            for _ in range(steps):
                layer.weight.grad = torch.randn(size, size)
                optimizer.step()
            least = torch.linalg.svdvals(layer.weight.detach().double())[-1].item()
            bound = lipnets.lipschitz(layer.eval(), (size,)).value
            print(
                f"| {size} | `{name}`, {lr:g} | {bound - 1:+.1e} | {least - 1:+.1e} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[512, 1024])
    parser.add_argument("--drift", type=int, metavar="STEPS", help="bounds after as many steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.drift:
        print("| features | optimizer, lr | bound − 1 | least singular value − 1 |")
        print("|---:|---|---:|---:|")
        for size in arguments.sizes:
            drift(size, arguments.drift)
        return
    print(
        "| features | layer, optimizer | step, ms | ratio | of it the optimizer, ms | bound − 1 |"
    )
    print("|---:|---|---:|---:|---:|---:|")
    for size in arguments.sizes:
        measure(size)


if __name__ == "__main__":
    main()
