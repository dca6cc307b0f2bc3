"""What the network costs: its size, its operations, and times on this machine."""

__all__ = ["cost"]

import copy
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..certify import certify
from ..records import Record
from ._registry import Probe, presets, registry
from .subject import Subject


@registry.register
def cost(repeats: int = 5, batch_size: int = 64) -> Probe:
    """Builds the probe of what the network costs.

    It yields `cost/parameters`, as `stored` in training and as "exported", without parametrizations;
    `cost/operations`, the floating-point operations of one image in products and convolutions, a
    multiplication and an addition counted as two, as torch counts them; and times, which are those of this
    machine while it was as busy as it was: `cost/latency`, the median of one image at a time, with quantiles
    `low` and `high` of 5 % and 95 %, in each `arithmetic`; `cost/throughput`, in batches; and
    `cost/certification`, the seconds that the proof takes, once for all images.

    Records of times have the detail `timing`, and name the `machine`, its `threads` and the `device`.

    Arguments:
        repeats: How often each is timed, after a first time that is not.
        batch_size: The number of images in a batch, for throughput.

    Raises:
        ValueError: If there are fewer than two repeats, or no image in a batch.
    """
    if repeats < 2 or batch_size < 1:
        raise ValueError(
            f"'repeats' should be at least 2 and 'batch_size' 1, got {repeats} and {batch_size}."
        )

    def probe(subject: Subject) -> Iterator[Record]:
        plain = subject.fast
        for form, module in (("stored", subject.model), ("exported", plain)):
            number = sum(each.numel() for each in module.parameters())
            yield subject.record("cost/parameters", float(number), "1", form=form)
        image = subject.images[:1].to(subject.device)
        operations = _operations(plain, image)
        yield subject.record("cost/operations", float(operations), "1", form="exported")

        here = _here(subject.device)
        for name, module in (("float32", plain), ("float64", subject.precise)):
            one = image.to(torch.float64 if name == "float64" else torch.float32)
            times = _times(module, one, repeats, subject.device)
            low, *_, high = quantiles(times, n=20, method="inclusive")
            details = {"arithmetic": name, "low": low, "high": high, **here}
            yield subject.record("cost/latency", median(times), "seconds", repeats, **details)
            batch = one.expand(batch_size, -1, -1, -1).contiguous()
            speed = batch_size / median(_times(module, batch, repeats, subject.device))
            details = {"arithmetic": name, "batch_size": batch_size, **here}
            yield subject.record(
                "cost/throughput", speed, "images per second", repeats * batch_size, **details
            )
        if subject.proved:
            seconds = _seconds(lambda: certify(subject.model, subject.shape))
            yield subject.record("cost/certification", seconds, "seconds", 1, **here)

    return probe


presets(
    "cost",
    quick={"repeats": 20, "batch_size": 256},
    full={"repeats": 200, "batch_size": 256},
)


def _operations(module: nn.Module, image: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        copy.deepcopy(module)(image)  # the counter leaves hooks behind if it is interrupted
    return int(counter.get_total_flops())


def _times(module: nn.Module, images: Tensor, repeats: int, device: torch.device) -> list[float]:
    """Seconds of a forward, so many times."""

    def forward() -> None:
        with torch.inference_mode():
            module(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    forward()
    return [_seconds(forward) for _ in range(repeats)]


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _here(device: torch.device) -> dict[str, object]:
    """What times depend on, besides what else the machine does."""
    machine = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    elif listed.exists():
        names = [line for line in listed.read_text().splitlines() if line.startswith("model name")]
        machine = names[0].partition(":")[2].strip() if names else machine
    threads = torch.get_num_threads()
    return {"timing": True, "machine": machine, "threads": threads, "device": device.type}
