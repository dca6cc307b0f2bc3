"""The shape of weights in use, and how steep the network is, over training."""

__all__ = ["geometry"]

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..data import ByteSplit, Split
from ..dynamics import follow
from ..dynamics.geometry import geometry as shape_of
from ..estimates import attained_slope
from ..export import export
from ..records import Record
from ..training import Step
from ._registry import registry

_UNBOUNDED = ("UnitNorm", "_WeightNorm")  # parametrizations that do not promise a norm of 1
_STEPS = 5  # of power iteration from each image


@registry.register
def geometry(split: Split | ByteSplit, limit: int = 8) -> "Geometries":
    """Builds the recorder of the shape of weights, and of the slope of the network.

    Of each linear layer and convolution of torch.nn, with the weight in use in evaluation, it yields
    `geometry/largest`, `geometry/smallest`, `geometry/frobenius`, `geometry/stable_rank`,
    `geometry/condition` and `geometry/orthogonality_defect`, see `lipnets.dynamics.geometry`; of a
    convolution, over the frequencies of a torus.  Then `geometry/slack`, 1 − σ₁, of layers whose
    parametrization promises a norm of 1, and `geometry/update_ratio`, ‖ΔW‖ / ‖W‖ since the last record.
    `geometry/active` is the share of outputs of a ReLU that are positive.

    `slope/attained` is the steepest slope found at some images, and `slope/tightness` what it is of the
    bound that is proved.

    Weights and activations are those of the model that is trained; slopes are those of the one that is
    kept, and certified.

    Arguments:
        split: Images; the first ones are taken, the same each time.
        limit: The number of images.
    """
    return Geometries(
        split[torch.arange(min(limit, len(split)), device=split.labels.device)].images
    )


class Geometries:
    """The recorder that `geometry` builds."""

    def __init__(self, images: Tensor) -> None:
        self._images = images
        self._before: dict[str, Tensor] = {}

    def __call__(self, step: Step) -> Iterator[Record]:
        when = {"step": step.index, "epoch": step.epoch}
        trained = step.model if step.trained is None else step.trained
        plain = _plain(trained)
        weights: dict[str, Tensor] = {}
        for each in follow(plain, step.shape):
            promised = _promises(trained.get_submodule(each.name))
            role = "effective" if _constrained(trained.get_submodule(each.name)) else "free"
            found, weight = shape_of(each.lens, each.read()), each.read().detach()
            details = {"layer": each.name, "role": role, "places": found.places}
            values = {
                "largest": found.largest,
                "smallest": found.smallest,
                "frobenius": found.frobenius,
                "stable_rank": found.stable_rank,
                "condition": found.condition,
                "orthogonality_defect": found.defect,
                **({"slack": 1 - found.largest} if promised else {}),
                **self._moved(each.name, weight),
            }
            for name, value in values.items():
                yield Record(f"geometry/{name}", value, "1", details=details, **when)
            weights[each.name] = weight.clone()
        self._before = weights
        for layer, share in self._active(plain):
            details = {"layer": layer}
            count = len(self._images)
            yield Record("geometry/active", share, "fraction", count, details=details, **when)
        yield from self._slopes(step, plain if trained is step.model else _plain(step.model), when)

    def state_dict(self) -> dict[str, Any]:
        """The weights at the last record."""
        return {"before": dict(self._before)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from these."""
        self._before = dict(state["before"])

    def _moved(self, name: str, weight: Tensor) -> dict[str, float]:
        """How far a weight has moved; from zeros, infinitely far."""
        if name not in self._before:
            return {}
        before = self._before[name].to(weight).double()
        moved, size = (weight.double() - before).norm().item(), before.norm().item()
        ratio = moved / size if size else math.inf if moved else 0.0
        return {"update_ratio": ratio}

    def _active(self, plain: nn.Module) -> list[tuple[str, float]]:
        """The share of positive outputs of each ReLU, in a copy of the model."""
        shares: dict[str, list[float]] = {}

        def watch(name: str, module: nn.Module) -> Any:
            def note(module: nn.Module, arguments: Any, output: Tensor) -> None:
                shares.setdefault(name, []).append((output > 0).double().mean().item())

            return module.register_forward_hook(note)

        units = [(name, m) for name, m in plain.named_modules() if isinstance(m, nn.ReLU)]
        handles = [watch(name, module) for name, module in units]
        like = next(plain.parameters(), torch.empty(0))
        if handles:
            with torch.no_grad():
                plain(self._images.to(like))
        for handle in handles:
            handle.remove()
        return [(name, sum(each) / len(each)) for name, each in shares.items()]

    def _slopes(self, step: Step, plain: nn.Module, when: dict[str, Any]) -> Iterator[Record]:
        double = plain.double().requires_grad_(False)
        like = next(double.parameters(), torch.empty(0, dtype=torch.float64))
        slope = attained_slope(double, self._images.to(like), steps=_STEPS, ascents=0)
        bound, count = step.certificate.lipschitz, len(self._images)
        yield Record("slope/attained", slope, "logits / l2 pixels", count, **when)
        if bound:
            yield Record("slope/tightness", slope / bound, "1", count, **when)


def _plain(model: nn.Module) -> nn.Module:
    """A copy with stored weights, which leaves the random state as it is."""
    devices = {each.device for each in model.parameters() if each.is_cuda}
    with torch.random.fork_rng(devices):
        return export(model)


def _constrained(layer: nn.Module) -> bool:
    return is_parametrized(layer, "weight")


def _promises(layer: nn.Module) -> bool:
    """Whether the last parametrization of a layer promises a norm of 1."""
    if not _constrained(layer):
        return False
    *_, last = layer.get_submodule("parametrizations.weight").children()
    return type(last).__name__ not in _UNBOUNDED
