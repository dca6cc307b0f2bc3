"""Measures how many images a second are corrupted: `python benchmarks/corruptions.py [--threads N]`."""

import argparse
import os
import time
from collections.abc import Callable

# As in train.py: threads that wait by spinning make a busy machine ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from lipnets.data import corruptions


def main() -> None:
    """Prints a table: corruptions, images a second by the clock and by the processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--images", type=int, default=256, help="images at a time (default: 256)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds; the best counts (default: 5)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    indices = range(args.images)
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(args.images, 3, 32, 32, generator=generator)
    digits = torch.rand(args.images, 1, 28, 28, generator=generator)

    print("| corruption | images | images/s, clock | images/s, processor |")
    print("|---|---|---:|---:|")
    for name in (*corruptions.MAIN, *corruptions.EXTRA, "frost_proc"):
        if name in corruptions.names():
            rates = measure(
                lambda name=name: corruptions.corrupt(colors, name, 5, indices),
                args.images,
                args.rounds,
            )
            print(f"| {name} | 3 × 32 × 32 | {rates[0]:,.0f} | {rates[1]:,.0f} |")
    for name in corruptions.mnist_c.MNIST_C:
        rates = measure(
            lambda name=name: corruptions.mnist_c.corrupt(digits, name, indices),
            args.images,
            args.rounds,
        )
        print(f"| {name}, MNIST-C | 1 × 28 × 28 | {rates[0]:,.0f} | {rates[1]:,.0f} |")


def measure(corrupt: Callable[[], Tensor], images: int, rounds: int) -> tuple[float, float]:
    """The best rates of some rounds: by the clock, and by the time that the processor worked."""
    corrupt()
    clock, work = [], []
    for _ in range(rounds):
        begun, worked = time.perf_counter(), time.process_time()
        corrupt()
        clock.append(time.perf_counter() - begun)
        work.append(time.process_time() - worked)
    return images / min(clock), images / max(min(work), 1e-9)


if __name__ == "__main__":
    main()
