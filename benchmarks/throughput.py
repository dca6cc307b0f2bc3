"""Speed of the training loop, beside the bare forward, backward and step on the same batches.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py
    python benchmarks/throughput.py --model lipconvnet5 --device cuda --batch-size 512

One run, interleaved: each round takes one step of every contender, so that what else the machine
does meets all of them alike.  A step of the loop draws its batch from 50,000 images of random bytes,
32 × 32 pixels, augments it, and does all that `lipnets.training.fit` does, with nothing recorded;
the bare one has its batches made before.  Figures are medians over rounds of wall time, in ratio to
the bare step of the same round.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

# As in train.py: threads that wait by spinning make a busy machine ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

import lipnets
from lipnets import losses, optim
from lipnets.data import ByteSplit, Mixed, augment, batches
from lipnets.training import fit, moving_average, training_forward

LOOPS: dict[str, dict[str, Any]] = {
    "loop": {},
    "crop, flip": {"names": ("crop", "flip")},
    "crop, flip, cutout": {"names": ("crop", "flip", "cutout")},
    "crop, flip, trivial_augment": {"names": ("crop", "flip", "trivial_augment")},
    "crop, flip, mixup": {"names": ("crop", "flip", "mixup")},
    "crop, flip; moving average": {"names": ("crop", "flip"), "ema": True},
}


def main() -> None:
    """Measures, and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lipconvnet_s", metavar="NAME")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20, help="of one step of each contender")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(0)
    model = lipnets.create_model(args.model).to(args.device)
    images = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8)
    split = ByteSplit(images, torch.randint(10, (50_000,))).to(args.device)
    steppers = {"bare": bare(copy.deepcopy(model), split, args)}
    steppers |= {name: loop(copy.deepcopy(model), split, args, **LOOPS[name]) for name in LOOPS}
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(args.rounds + 2):
        for name, stepper in steppers.items():
            spent = timed(lambda stepper=stepper: next(stepper), args.device)
            if number >= 2:  # the first two allocate, and compile
                seconds[name].append(spent)

    print(f"{args}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| step | ratio | images/s |\n|---|---:|---:|")
    for name, own in seconds.items():
        pairs = zip(own, seconds["bare"], strict=True)
        ratio = statistics.median(spent / plain for spent, plain in pairs)
        print(f"| {name} | {ratio:.3f} | {args.batch_size / statistics.median(own):,.0f} |")


def timed(action: Callable[[], Any], device: str) -> float:
    """Wall time of an action, in seconds, until the device is done."""
    start = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def pieces(model: nn.Module, args: argparse.Namespace) -> tuple[Any, ...]:
    """How images become logits, the loss, the optimizer, and its schedule."""
    dtype = getattr(torch, args.dtype)
    channels_last, compiled = args.channels_last, args.compile
    forward = training_forward(model, dtype=dtype, channels_last=channels_last, compiled=compiled)
    optimizer = optim.create_optimizer(model, "adam", lr=1e-3)
    loss = losses.build("cross_entropy", temperature=0.25, offset=0.4)
    return forward, loss, optimizer, optim.create_scheduler(optimizer, 10_000)


def bare(model: nn.Module, split: ByteSplit, args: argparse.Namespace) -> Iterator[None]:
    """Forward, backward and step, on batches that are there."""
    forward, loss_fn, optimizer, _ = pieces(model, args)
    source = batches(split, args.batch_size, torch.Generator().manual_seed(0))
    ready = [batch for batch, _ in zip(source, range(args.rounds + 2), strict=False)]
    model.train()

    def step(images: Tensor, labels: Tensor | Mixed) -> None:
        loss = loss_fn(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for images, labels in ready:
        yield step(images, labels)


def loop(
    model: nn.Module,
    split: ByteSplit,
    args: argparse.Namespace,
    names: tuple[str, ...] = (),
    ema: bool = False,
) -> Iterator[Any]:
    """The loop of `train.py`."""
    forward, loss_fn, optimizer, scheduler = pieces(model, args)
    average = moving_average(model, 0.999) if ema else None
    chain = augment.build(names) if names else None
    source = batches(split, args.batch_size, torch.Generator().manual_seed(0), augment=chain)
    return fit(
        *(model, source, loss_fn, optimizer, scheduler),
        steps_per_epoch=1,
        forward=forward,
        average=average,
    )


if __name__ == "__main__":
    main()
