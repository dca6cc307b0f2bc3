"""Certifies every model by name, as it starts and after steps of training: `python benchmarks/models.py`.

    python benchmarks/models.py                     all of them: hours on two cores, the large ones most
    python benchmarks/models.py "lipconvnet*" cpl_s some of them
    python benchmarks/models.py --largest 5e6       those with at most so many parameters
    python benchmarks/models.py --steps 0           as they start alone

Images are noise of 3 × 32 × 32, with ten classes.  Of a family that is sold as 1-Lipschitz the backbone
is proved to be at most 1 + 1e-4, or the command fails.  Results go to `benchmarks/models.json`, those of
the same name replaced.
"""

import argparse
import json
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from recipes import commit
from torch.nn import functional as F

import lipnets
from lipnets import models, optim
from lipnets.atomic import write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "models.json"
SHAPE = (3, 32, 32)


def main() -> None:
    args = parse()
    broken = []
    for name in models.names():
        if args.names and not any(fnmatchcase(name, pattern) for pattern in args.names):
            continue
        count = parameters(name)
        if count > args.largest:
            continue
        result = measure(name, args.steps)
        keep(result)
        bounds = [state["backbone"] for state in result["states"].values()]
        if models.card(name).guarantee == "1-Lipschitz" and max(bounds) > 1 + 1e-4:
            broken.append(name)
        shown = "  ".join(
            f"{key}: {state['backbone']:.8f} in {state['seconds']:.0f} s"
            for key, state in result["states"].items()
        )
        print(f"{name:20} {count / 1e6:7.2f}M  {shown}", flush=True)
    if broken:
        sys.exit(f"above 1 + 1e-4: {', '.join(broken)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="names, or patterns of them (default: all)")
    parser.add_argument("--largest", type=float, default=float("inf"), help="number of parameters")
    parser.add_argument("--steps", type=int, default=3, help="steps of training (default: 3)")
    return parser.parse_args()


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in models.build(name).parameters())


def measure(name: str, steps: int) -> dict[str, Any]:
    """Proves the bounds of one model, before and after training."""
    torch.manual_seed(0)
    model = models.build(name).eval()
    states = {"start": proved(model)}
    if steps:
        train(model, steps)
        states[f"{steps} steps"] = proved(model)
    return {
        "model": name,
        "parameters": sum(each.numel() for each in model.parameters()),
        "states": states,
        "commit": commit(),
        "torch": torch.__version__.split("+")[0],
    }


def proved(model: torch.nn.Module) -> dict[str, float]:
    """The bounds of the backbone and of the logits, and how long both took."""
    started = time.monotonic()
    certificate = lipnets.certify(model, SHAPE)
    seconds = time.monotonic() - started
    backbone = certificate.bound.parts[0].value
    return {
        "backbone": backbone,
        "logits": certificate.lipschitz,
        "seconds": round(seconds, 1),
    }


def train(model: torch.nn.Module, steps: int) -> None:
    """Takes steps on noise, large enough to leave the initialization."""
    images, labels = torch.rand(4, *SHAPE), torch.arange(4)
    try:
        optimizer = optim.create_optimizer(model, "adam", lr=1e-2)
    except ValueError:  # weights on a manifold
        optimizer = optim.create_optimizer(model, "manifold_adam", lr=1e-2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(4 * model(images), labels).backward()
        optimizer.step()
    model.eval()


def keep(result: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    others = [each for each in results if each["model"] != result["model"]]
    results = sorted([*others, result], key=lambda each: each["model"])
    write_atomic(RESULTS, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
