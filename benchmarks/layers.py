"""Time and memory of layers, beside the implementations of other libraries and plain torch.nn.

    python benchmarks/layers.py                     all layers of ours and their peers
    python benchmarks/layers.py aol_conv2d maxmin   some of them
    python benchmarks/layers.py --quick aol_conv2d  the smallest size, few repetitions

One run, interleaved: each round takes one step of every contender, so that what else the machine
does meets all of them alike.  Figures are medians over rounds, of the time of a contender divided by
that of `nn.Conv2d` with zero padding, `nn.Linear` or `nn.ReLU` in the same round; CPU time of one
thread, or GPU time; with `--compile` against the plain layer as it is, too.  A training step is the parametrization, forward and backward, with a gradient
for the input; inference is the exported layer.  Weights are moved away from their initialization,
where some iterations would stop early.
"""

import argparse
import gc
import inspect
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peers import PEERS, Builder, allow_cpu
from torch import Tensor, nn

import lipnets
from lipnets import layers

Shape = tuple[int, ...]
CONVOLUTIONS = {"64@16": (64, 64, 16, 16), "128@8": (64, 128, 8, 8), "256@8": (32, 256, 8, 8)}
DENSE = {"512": (128, 512), "1024": (128, 1024)}
ACTIVATIONS = {"16@32": (256, 16, 32, 32)}


@dataclass(frozen=True)
class Result:
    """What was measured of one implementation at one size.

    Arguments:
        layer: The name of the layer in our registry.
        library: Whose implementation it is.
        size: The size, a key of the tables above.
        step: Time of a training step, in ratio to plain.
        inference: Time of the exported layer, in ratio to plain; nan for peers, which export in
            their own ways or not at all.
        memory: Peak memory of a training step beyond its input, in MB.
    """

    layer: str
    library: str
    size: str
    step: float
    inference: float
    memory: float


def sizes_of(name: str) -> dict[str, Shape]:
    kind = layers.card(name).kind
    if kind == "activation" or kind == "pooling and mixing":
        return ACTIVATIONS
    if "transpose" in name:
        return {}  # no plain layer is its counterpart at the same size
    return {1: DENSE, 3: CONVOLUTIONS}.get(len(layers.card(name).shape), {})


def plain(name: str, shape: Shape) -> nn.Module:
    if sizes_of(name) is ACTIVATIONS:
        return nn.ReLU()
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[1])
    return nn.Conv2d(shape[1], shape[1], 3, padding=1)


def ours(name: str, shape: Shape) -> nn.Module:
    """Our layer at a size, with zero padding where it takes that."""
    given = dict(layers.card(name).arguments)
    channels = shape[1]
    for key in ("in_channels", "out_channels", "in_features", "out_features", "channels"):
        if key in given:
            given[key] = channels
    if "kernel_size" in given:
        given["kernel_size"] = 3
        given.pop("stride", None)
        if "padding" in inspect.signature(layers.registry[name]).parameters:
            given["padding"] = 1
    for key in ("num_features", "num_parameters"):
        if key in given:
            given[key] = channels
    for key in ("size", "normalized_shape"):
        if key in given:
            given[key] = shape[2:]
    if name == "groupsort":
        given["group_size"] = 4
    if "padding_mode" in given:
        try:
            return layers.build(name, **{**given, "padding_mode": "zeros"})
        except ValueError:
            pass
    return layers.build(name, **given)


def moved(layer: nn.Module) -> nn.Module:
    """The layer with its parameters away from their initialization."""
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.numel() > 1:
                parameter += 0.3 * parameter.std() * torch.randn_like(parameter)
    return layer.train()


def trainer(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """A training step, with a gradient for the input."""
    with torch.no_grad():
        weights = torch.randn_like(layer(x))

    def step() -> None:
        for parameter in layer.parameters():
            parameter.grad = None
        torch.autograd.backward(layer(x.detach().requires_grad_()), weights)

    return step


def inferrer(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    def infer() -> None:
        with torch.inference_mode():
            layer(x)

    return infer


def seconds(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    run()
    return time.process_time() - start


def interleaved(
    runs: dict[str, Callable[[], None]], baseline: str, device: torch.device, budget: float
) -> dict[str, float]:
    """Median ratios of the times of some functions to that of one of them."""
    for run in runs.values():
        run()  # warm
    once = {name: seconds(run, device) for name, run in runs.items()}
    rounds = max(5, min(40, int(budget / max(sum(once.values()), 1e-6))))
    # Contenders that take a few milliseconds are repeated, for the clock.
    repeats = {name: max(1, min(20, int(5e-3 / max(t, 1e-6)))) for name, t in once.items()}
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    gc.disable()
    for _ in range(rounds):
        taken = {
            name: sum(seconds(run, device) for _ in range(repeats[name])) / repeats[name]
            for name, run in runs.items()
        }
        for name, time_taken in taken.items():
            ratios[name].append(time_taken / taken[baseline])
    gc.enable()
    return {name: statistics.median(values) for name, values in ratios.items()}


def peak_memory(step: Callable[[], None], device: torch.device) -> float:
    """Largest sum of allocations during a step, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        _silent(),
        torch.profiler.profile(activities=activities, profile_memory=True) as profile,
    ):
        step()
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    total = peak = 0
    for _, change in sorted(changes):
        total += change
        peak = max(peak, total)
    return peak / 2**20


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the libraries of the profiler from writing to the terminal."""
    saved = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def measure(
    name: str,
    size: str,
    shape: Shape,
    *,
    device: torch.device,
    budget: float,
    compiled: bool,
    peers: bool,
) -> list[Result]:
    """One layer at one size, beside its peers and the plain layer."""
    torch.manual_seed(0)
    x = torch.randn(shape, device=device)
    builders: dict[str, Builder] = {"lipnets": lambda _: ours(name, shape)}
    builders |= PEERS.get(name, {}) if peers else {}
    contenders = {"plain": plain(name, shape).to(device)}
    for library, build in builders.items():
        try:
            layer = moved(build(shape[1]).to(device))
            trainer(layer, x)()
        except Exception as error:  # a peer may raise anything
            if library == "lipnets":
                raise
            print(f"{library} at {size}: {type(error).__name__}: {error}", flush=True)
            continue
        contenders[library] = layer
    wrap = torch.compile if compiled else nn.Identity()
    steps = {library: trainer(wrap(layer), x) for library, layer in contenders.items()}
    steps["plain"] = trainer(
        contenders["plain"], x
    )  # compiled, ReLU takes 8 times as long on a CPU
    step = interleaved(steps, "plain", device, budget)
    exported = lipnets.export(contenders["lipnets"], shape[1:])
    inference = interleaved(
        {
            "plain": inferrer(contenders["plain"].eval(), x),
            "lipnets": inferrer(wrap(exported), x),
        },
        "plain",
        device,
        budget / 4,
    )
    return [
        Result(
            name,
            library,
            size,
            step[library],
            inference.get(library, float("nan")),
            peak_memory(steps[library], device),
        )
        for library in steps
    ]


def tables(results: Sequence[Result]) -> str:
    """Results as tables of Markdown, one for each set of sizes."""
    lines: list[str] = []
    for sizes in (CONVOLUTIONS, DENSE, ACTIVATIONS):
        chosen = [result for result in results if result.size in sizes]
        if not chosen:
            continue
        rows = dict.fromkeys((r.layer, r.library) for r in chosen if r.library != "plain")
        table = {(r.layer, r.library, r.size): r for r in chosen}
        head = [s for s in sizes if any(r.size == s for r in chosen)]
        lines += [
            "",
            "| layer | library | step | inference | peak MB |",
            "|---|---|---:|---:|---:|",
        ]
        for layer, library in rows:
            cells = [table.get((layer, library, size)) for size in head]
            columns = [
                " / ".join(
                    "—" if c is None or get(c) != get(c) else f"{get(c):.{d}f}" for c in cells
                )
                for get, d in ((_step, 2), (_inference, 2), (_memory, 0))
            ]
            lines.append(f"| {layer} | {library} | {' | '.join(columns)} |")
        plains = [r for r in chosen if r.library == "plain"]
        memory = {r.size: r.memory for r in plains}
        text = " / ".join(f"{memory[size]:.0f}" for size in head)
        lines += ["", f"Sizes {' / '.join(head)}; the plain layer takes {text} MB."]
    return "\n".join(lines)


def _step(result: Result) -> float:
    return result.step


def _inference(result: Result) -> float:
    return result.inference


def _memory(result: Result) -> float:
    return result.memory


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"one thread of {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="layers of ours (default: all with a size)")
    parser.add_argument("--quick", action="store_true", help="the smallest size, few rounds")
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile all contenders")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds for each measurement")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    allow_cpu()
    results: list[Result] = []
    for name in args.names or layers.names():
        for size, shape in list(sizes_of(name).items())[: 1 if args.quick else None]:
            budget = 1.0 if args.quick else args.budget
            try:
                results += measure(
                    name,
                    size,
                    shape,
                    device=device,
                    budget=budget,
                    compiled=args.compile,
                    peers=not args.alone,
                )
            except (ValueError, RuntimeError, TypeError) as error:
                print(f"{name} at {size}: {type(error).__name__}: {error}", flush=True)
                continue
            last = [r for r in results if (r.layer, r.size) == (name, size)]
            text = ", ".join(f"{r.library} {r.step:.2f}" for r in last if r.library != "plain")
            print(f"{name} {size}: {text}", flush=True)
    print(tables(results))
    if args.json:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        )
        record = {
            "command": "python benchmarks/layers.py" + (" --compile" if args.compile else ""),
            "commit": commit.stdout.strip(),
            "machine": machine(device),
            "torch": torch.__version__,
            "results": [asdict(result) for result in results],
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
