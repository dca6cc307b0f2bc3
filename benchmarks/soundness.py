"""What layers of other libraries do to norms, beside the constant that they are sold with: `python benchmarks/soundness.py`.

The norm is the largest singular value of the whole Jacobian of the layer in evaluation mode, as it is after a
forward pass in training mode: the largest of some seeds.  Layers compute in float32, whose rounding is the last
digit shown; singular values are taken in float64.  All of these layers are documented as, or
named for, a constant of 1.  The last column is what `lipnets.lipschitz` makes of the same module: a bound, or a
refusal.  `pip install -e ".[bench]"` installs the peers.
"""

import argparse
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from peers import allow_cpu
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import lipnets

Shape = tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    allow_cpu()
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {seeds} seeds\n")
    print("| library | layer | input | norm | lipnets proves of it |")
    print("|---|---|---|---:|---|")
    for library, layer, build, shape in cases():
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            module = settled(build(), shape)
            found.append((norm(module, shape), verdict(module, shape)))
        largest, proved = max(found)
        size = " × ".join(map(str, shape))
        print(f"| {library} | {layer} | {size} | {largest:.7g} | {proved} |", flush=True)


def cases() -> list[tuple[str, str, Callable[[], nn.Module], Shape]]:
    """Library, layer in words, its builder, the shape of an example."""
    image, odd = (8, 8, 8), (8, 7, 7)
    aoc, aol = orthogonium("AOC.AdaptiveOrthoConv2d"), orthogonium("AOL.AOLConv2D")
    torchlip = importlib.import_module("deel.torchlip")
    spectral = torchlip.SpectralConv2d
    io = {"in_channels": 8, "out_channels": 8, "kernel_size": 3}
    same = {**io, "padding": 1}
    reflect = {**same, "padding_mode": "reflect"}
    zeros = {**same, "padding_mode": "zeros"}
    return [
        ("orthogonium", "AOC, circular (default)", lambda: aoc(**same), image),
        ("orthogonium", "AOC, zeros", lambda: aoc(**zeros), image),
        ("orthogonium", "AOC, zeros, stride 2", lambda: aoc(**zeros, stride=2), image),
        ("orthogonium", "AOC, circular, stride 2", lambda: aoc(**same, stride=2), odd),
        ("orthogonium", "AOC, reflect", lambda: aoc(**reflect), image),
        ("orthogonium", "AOL, zeros", lambda: aol(**zeros), image),
        ("orthogonium", "AOL, reflect", lambda: aol(**reflect), image),
        (
            "orthogonium",
            "adaptive SOC",
            lambda: orthogonium("adaptiveSOC.AdaptiveSOCConv2d")(**same),
            image,
        ),
        ("torchlip", "SpectralConv2d, zeros", lambda: spectral(**zeros), image),
        ("torchlip", "SpectralConv2d, reflect", lambda: spectral(**reflect), image),
        (
            "torchlip",
            "SpectralConv2d, reflect, raw weights of 1",
            lambda: ones(spectral(**reflect)),
            image,
        ),
        (
            "torchlip",
            "SpectralConv2d, stride and dilation 2",
            lambda: spectral(**io, padding=2, stride=2, dilation=2),
            image,
        ),
        ("torchlip", "SpectralLinear", lambda: torchlip.SpectralLinear(32, 32), (32,)),
        (
            "torchlip",
            "ScaledAvgPool2d(2, ceil_mode=True)",
            lambda: torchlip.ScaledAvgPool2d(2, ceil_mode=True),
            odd,
        ),
        ("torchlip", "GroupSort2", torchlip.GroupSort2, (32,)),
        (
            "torch",
            "spectral_norm of Conv2d",
            lambda: parametrizations.spectral_norm(nn.Conv2d(**zeros)),
            image,
        ),
        (
            "torch",
            "spectral_norm of Linear",
            lambda: parametrizations.spectral_norm(nn.Linear(32, 32)),
            (32,),
        ),
        (
            "torch",
            "orthogonal of Linear",
            lambda: parametrizations.orthogonal(nn.Linear(32, 32)),
            (32,),
        ),
        ("geotorch", "orthogonal of Linear", lambda: geotorch(nn.Linear(32, 32)), (32,)),
        ("geotorch", "orthogonal of Conv2d", lambda: geotorch(nn.Conv2d(**zeros)), image),
        ("lipnets", "aoc_conv2d, circular, stride 2", ours("aoc_conv2d", **same, stride=2), odd),
        ("lipnets", "aol_conv2d, zeros", ours("aol_conv2d", **zeros), image),
        ("lipnets", "soc_conv2d, zeros", ours("soc_conv2d", **zeros), image),
        ("lipnets", "spectral_conv2d, zeros", ours("spectral_conv2d", **zeros), image),
    ]


def orthogonium(path: str) -> Callable[..., nn.Module]:
    package, name = path.split(".")
    return getattr(importlib.import_module(f"orthogonium.layers.conv.{package}"), name)


def geotorch(module: nn.Module) -> nn.Module:
    importlib.import_module("geotorch").orthogonal(module, "weight")
    return module


def ones(module: nn.Module) -> nn.Module:
    """The layer with all raw weights at 1: an average, which reflected pixels strengthen most."""
    for name, parameter in module.named_parameters():
        if name.endswith(".original"):
            nn.init.ones_(parameter)
    return module


def ours(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    return lambda: lipnets.layers.build(name, **arguments)


def settled(module: nn.Module, shape: Shape) -> nn.Module:
    """The module as it is in use: after a batch in training mode, for those that keep vectors."""
    module.train()(torch.randn(4, *shape))
    return module.eval()


def norm(module: nn.Module, shape: Shape) -> float:
    """The largest singular value, in float64, of the Jacobian at an input."""
    x = torch.randn(1, *shape)
    jacobian = torch.autograd.functional.jacobian(module, x)
    assert isinstance(jacobian, torch.Tensor)
    return torch.linalg.matrix_norm(jacobian.double().reshape(-1, x.numel()), 2).item()


def verdict(module: nn.Module, shape: Shape) -> str:
    """The bound that is proved, with weights stored: some change while they are read."""
    for part in module.modules():
        for name in list(getattr(part, "parametrizations", {})):
            parametrize.remove_parametrizations(part, name)
    try:
        return f"{lipnets.lipschitz(module, shape).value:.7g}"
    except lipnets.NotCertifiedError as error:
        return f"refused: {str(error).split(':')[0].rstrip('.')}"


if __name__ == "__main__":
    main()
