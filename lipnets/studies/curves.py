"""Networks that learn a curve: sums of sines on [0, 1), by all points at once."""

__all__ = ["Curve", "curves", "kinds", "measure", "scale"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, optim
from ..bounds import lipschitz
from ..export import export
from ..layers import Scale
from ..probes.invariants import require
from ..seeds import derived_seed
from ..training import fit
from .cells import Settings, computed
from .lab import Lab
from .sines import grid, open_ceiling, sines, spectrum

_SHAPE = (1, 1, 1)  # of an image of one pixel, which t is
_LOOKS = 60  # at a training, closer to each other at its beginning

Networks = Mapping[str, tuple[str, float | None]]


@dataclass(frozen=True)
class Curve:
    """How a network learned its target.

    Arguments:
        steps: The optimization steps after which it was measured, T of them.
        target: The amplitudes of the target, complex, with shape (N//2 + 1,).
        outputs: Those of the network over time, with shape (T, N//2 + 1).
        constants: The Lipschitz constants that were proved of it, with shape (T,).
        points: The number N of samples.
    """

    steps: list[int]
    target: Tensor
    outputs: Tensor
    constants: list[float]
    points: int

    def errors(self, k: int) -> list[float]:
        """The error |P − T| / |T| of frequency k over time: a wrong phase is an error."""
        return ((self.outputs[:, k] - self.target[k]).abs() / self.target[k].abs()).tolist()

    @property
    def residuals(self) -> Tensor:
        """The amplitudes of the error, with shape (T, N//2 + 1)."""
        return self.outputs - self.target


def kinds(layers: Sequence[str], budgets: Sequence[float]) -> Networks:
    """The networks of a study: a plain one, and for each budget one of each layer.

    Arguments:
        layers: The dense layers of constrained networks, by name.
        budgets: Their Lipschitz budgets L.

    Returns:
        The layer and the budget of each, by what to call it; the plain one has no budget.
    """
    constrained = {
        f"{each}, L = {budget:g}": (each, budget) for budget in budgets for each in layers
    }
    return {"plain": ("linear", None), **constrained}


def scale(
    frequencies: Sequence[int],
    points: int,
    widths: Sequence[int],
    steps: int,
    lr: float,
    seeds: Sequence[int],
) -> str:
    """At which scale curves were learned."""
    return (
        f"{len(frequencies)} frequencies up to {max(frequencies)}, {points} points, widths "
        f"{'-'.join(map(str, widths))}, {steps} steps of Adam at {lr:g}, {len(seeds)} seeds"
    )


def curves(
    lab: Lab,
    networks: Networks,
    *,
    frequencies: Sequence[int],
    amplitudes: Sequence[float] | None,
    seeds: Sequence[int],
    **settings: Any,
) -> dict[str, list[Curve]]:
    """Trains networks of several kinds with several seeds, and checks every amplitude.

    Arguments:
        lab: Where files are.
        networks: By what they are called: the dense layers, by name, and the budget L; or None for a
            plain ReLU network.
        frequencies: The frequencies of the target.
        amplitudes: Their amplitudes, 1 each by default.
        seeds: The seeds of initial weights and of phases.
        **settings: `points`, `widths`, `lr` and `steps`.

    Raises:
        InvariantError: If an amplitude is above what the constant that was proved allows.
        ValueError: If frequencies and amplitudes are not as many.
    """
    given = list(amplitudes or [1.0] * len(frequencies))
    if len(given) != len(frequencies):
        raise ValueError(
            f"There should be an amplitude for each of {len(frequencies)} frequencies, got {len(given)}."
        )
    cells = {
        f"curve,{linear},L={budget},seed={seed}": {
            **settings,
            "linear": linear,
            "budget": budget,
            "seed": seed,
            "frequencies": list(frequencies),
            "amplitudes": given,
        }
        for linear, budget in networks.values()
        for seed in seeds
    }
    found = computed(lab, measure, cells)
    read = {cell: _read(result, settings["points"]) for cell, result in found.items()}
    for cell, result in found.items():
        _check(read[cell], result["jumps"], cell)
    trained = iter(read.values())
    return {name: [next(trained) for _ in seeds] for name in networks}


def measure(settings: Settings) -> dict[str, Any]:
    """Trains one network, and keeps its spectrum over time: see `curves`."""
    points, steps, seed = settings["points"], settings["steps"], settings["seed"]
    frequencies = settings["frequencies"]
    draws = torch.Generator().manual_seed(derived_seed(seed, "phases"))
    phases = torch.rand(len(frequencies), generator=draws).tolist()
    target = sines(points, frequencies, settings["amplitudes"], phases)
    model = _build(settings["linear"], settings["budget"], settings["widths"], seed)
    optimizer = optim.create_optimizer(model, "adam", settings["lr"])
    scheduler = optim.create_scheduler(optimizer, steps, name="constant")
    times = grid(points).view(-1, *_SHAPE)
    batch = times.float(), target.float()[:, None]

    # No loss of the registry, which take classes: to `fit` any function of outputs and targets will do.
    squared: Any = nn.MSELoss()
    kept = [(0, *_look(model, times))]
    looks = {round(steps * (look / _LOOKS) ** 2) for look in range(1, _LOOKS + 1)}
    for step in fit(model, repeat(batch, steps), squared, optimizer, scheduler, steps_per_epoch=1):
        if step.index in looks:
            kept.append((step.index, *_look(model, times)))
    amplitudes = [spectrum(values) for _, values, _ in kept]
    return {
        "steps": [index for index, _, _ in kept],
        "constants": [constant for _, _, constant in kept],
        "jumps": [(values[0] - values[-1]).abs().item() for _, values, _ in kept],
        "outputs": [torch.view_as_real(each).tolist() for each in amplitudes],
        "target": torch.view_as_real(spectrum(target)).tolist(),
    }


def _build(linear: str, budget: float | None, widths: Sequence[int], seed: int) -> nn.Module:
    """A network of one input and one output: plain, or L times one of constant 1.

    The factor stands behind it: before it, the first layer would see inputs far from where its biases
    begin, and hardly any of its outputs would ever change their order.
    """
    torch.manual_seed(derived_seed(seed, "weights"))
    sizes = {"num_classes": 1, "in_chans": 1, "img_size": 1, "widths": list(widths)}
    if budget is None:
        return models.build("plain_mlp_s", **sizes, linear=linear, head=linear).float()
    model = models.build("lipmlp_s", **sizes, linear=linear, head=linear).float()
    return nn.Sequential(model, Scale(budget))


@torch.no_grad()
def _look(model: nn.Module, times: Tensor) -> tuple[Tensor, float]:
    """Outputs in float64, with shape (N,), and the constant that is proved of the weights in use."""
    plain = export(model.eval(), _SHAPE).double()
    model.train()
    return plain(times).flatten(), lipschitz(plain, _SHAPE).value


def _read(result: Mapping[str, Any], points: int) -> Curve:
    def amplitudes(pairs: Any) -> Tensor:
        return torch.view_as_complex(torch.tensor(pairs, dtype=torch.float64))

    target, outputs = amplitudes(result["target"]), amplitudes(result["outputs"])
    return Curve(result["steps"], target, outputs, result["constants"], points)


def _check(curve: Curve, jumps: Sequence[float], name: str) -> None:
    """Checks that no amplitude was ever above what the constant allows.

    Raises:
        InvariantError: If one was.
    """
    highest = curve.points // 2
    for row, (constant, jump) in enumerate(zip(curve.constants, jumps, strict=True)):
        bounds = [open_ceiling(constant, k, curve.points, jump=jump) for k in range(1, highest + 1)]
        share = curve.outputs[row, 1:].abs() / torch.tensor(bounds, dtype=torch.float64)
        at = int(share.argmax())
        require(
            bool(share[at] <= 1 + _ROUNDING) or math.isclose(constant, 0, abs_tol=_ROUNDING),
            law="no amplitude of samples is above the ceiling of the constant that was proved",
            came=f"{name} has {share[at]:.6f} times that of frequency {at + 1} after step "
            f"{curve.steps[row]}",
        )


_ROUNDING = 1e-9  # far above that of a forward pass in float64
