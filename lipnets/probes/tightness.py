"""How close proved bounds are to slopes that are attained."""

__all__ = ["tightness"]

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks import steepest_pairs
from ..audit import audit, named_layers
from ..bounds import chain, output_shape
from ..estimates import attained_slope
from ..records import Record
from ..rules import lipschitz
from ..seeds import derived_seed
from ._registry import Probe, presets, registry
from .invariants import require
from .subject import Subject

_CLASSES = 64  # of more, Jacobians are not taken whole
_EXACT = "donot_use_mm_for_euclid_dist"  # products of rows would round differences of near ones
_FEATURES = "feature map"


@registry.register
def tightness(
    images: int = 4, noise: int = 4, points: int = 32, steps: int = 100, pairs: int = 40
) -> Probe:
    """Builds the probe of bounds against slopes: see `lipnets.audit`.

    For each layer, then the `"feature map"`, all before the last layer, then the `"network"`, it yields
    `audit/bound`, `audit/slope`, the largest that any `method` attained, and `audit/ratio`; details are
    the `layer`, its `module`, the `shape` of its input and the `rule` of its bound.  Methods are power
    iteration on JᵀJ at test images and noise, moved to where it is steep (`"power"`); singular values of
    whole Jacobians, of the network (`"jacobian"`); and pairs of near points (`"pairs"`).  What each of
    them attained is a record `attained_slope`.

    `attained_margin` is the largest ‖∇(z_i − z_j)‖ / L_ij over pairs of `classes`, with the `slope` and
    the proved `bound` of that pair.

    Of a network that is not certified it yields slopes of the network alone.

    Arguments:
        images: The number of test images to search at, evenly spaced.
        noise: The number of images of uniform noise to search at as well.
        points: The number of test images, and as many of noise, at which whole Jacobians are taken.
        steps: The number of power iterations at each point.
        pairs: The number of steps of pairs.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        there = _points(subject, images, noise)
        found = _Slopes(subject)
        jacobians = list(_jacobians(subject, _points(subject, points, points)))
        for jacobian in jacobians:
            slopes = torch.linalg.matrix_norm(jacobian, 2)
            found.add("network", "jacobian", float(slopes.max()))
        network = subject.precise
        found.add("network", "pairs", float(steepest_pairs(network, there, steps=pairs).max()))
        if not jacobians:
            found.add("network", "power", attained_slope(network, there, steps=steps))
        if not subject.proved:
            yield from found.records()
            return
        for row in audit(subject.model, subject.shape, there, steps=steps):
            layer = row.name or "network"
            found.bounds[layer] = (row.bound, row.rule, row.module, row.shape)
            found.add(layer, "power", row.slope)
        inputs = there
        for name, layer, _ in named_layers(network, subject.shape):
            found.add(
                name or "network", "pairs", float(steepest_pairs(layer, inputs, steps=pairs).max())
            )
            with torch.no_grad():
                inputs = layer(inputs.clone())
        _feature_map(found, network, there, steps, pairs)
        closest, count = found.check()
        yield from found.records()
        for record, ratio in _margins(subject, jacobians):
            closest, count = max(closest, ratio), count + len(subject.proved.slopes) ** 2
            yield record
        yield subject.record(
            "check/slopes",
            closest,
            "1",
            count,
            says="no slope that was attained exceeds the bound of its layer, of the network, or of "
            "the margin of two classes; closest: the largest ratio",
        )

    return probe


presets(
    "tightness",
    quick={"images": 2, "noise": 2, "points": 16, "steps": 40, "pairs": 30},
    full={"images": 16, "noise": 16, "points": 256, "steps": 300, "pairs": 200},
)


@dataclass
class _Slopes:
    """What was attained, by layer and method, and what is proved."""

    subject: Subject
    slopes: dict[str, dict[str, float]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, str, str, tuple[int, ...]]] = field(default_factory=dict)

    def add(self, layer: str, method: str, slope: float) -> None:
        attained = self.slopes.setdefault(layer, {})
        attained[method] = max(attained.get(method, 0.0), slope)

    def records(self) -> Iterator[Record]:
        # The network, whose slopes were the first, comes last.
        for layer in sorted(self.slopes, key=lambda name: (name == "network", name == _FEATURES)):
            attained, details = self.slopes[layer], {"layer": layer}
            largest = max(attained.values())
            # The first of those that are as good but for rounding.
            method = next(name for name in attained if attained[name] >= largest * (1 - 1e-9))
            whole: dict[str, Any] = {**details, "method": method}
            proved = self.bounds.get(layer)
            if proved:
                bound, rule, module, shape = proved
                whole |= {"module": module, "shape": list(shape), "rule": rule}
                yield self._record("audit/bound", bound, "proved", whole)
                yield self._record("audit/ratio", _ratio(largest, bound), "attained", whole)
            yield self._record("audit/slope", largest, "attained", whole)
            for name, slope in attained.items():
                yield self._record("attained_slope", slope, "attained", {**details, "method": name})

    def check(self) -> tuple[float, int]:
        """The largest ratio of a slope and its bound, and the number of slopes."""
        closest, count = 0.0, 0
        for layer, (bound, *_) in self.bounds.items():
            for method, slope in self.slopes[layer].items():
                require(
                    slope <= bound * (1 + 1e-9),
                    law="no slope exceeds its bound",
                    came=f"that of {layer} is {slope:.9g}, above {bound:.9g}, by {method}",
                )
                closest, count = max(closest, _ratio(slope, bound)), count + 1
        return closest, count

    def _record(self, name: str, value: float, kind: str, details: dict[str, Any]) -> Record:
        return self.subject.record(name, value, "1", kind=kind, **details)


def _ratio(slope: float, bound: float) -> float:
    return slope / bound if bound else float(slope > 0)


def _points(subject: Subject, images: int, noise: int) -> Tensor:
    """Test images and images of uniform noise, in float64."""
    drawn = []
    for index in range(noise):
        generator = torch.Generator().manual_seed(derived_seed(0, "tightness", index))
        drawn.append(torch.rand(subject.shape, generator=generator, dtype=torch.float64))
    parts = [subject.sample(images).images.double()] if images else []
    return torch.cat([*parts, *(each[None] for each in drawn)]).to(subject.device)


def _jacobians(subject: Subject, points: Tensor) -> Iterator[Tensor]:
    """The Jacobians of the network at points, with shapes (·, K, d): none if there are many classes."""
    classes = subject.certificate.num_classes
    if classes > _CLASSES:
        return
    for batch in points.split(max(subject.batch_size // classes, 1)):
        batch = batch.detach().requires_grad_()
        with torch.enable_grad():
            logits = subject.precise(batch.clone())
            rows = []
            for k in range(classes if logits.requires_grad else 0):
                (row,) = torch.autograd.grad(
                    logits[:, k].sum(), batch, retain_graph=True, materialize_grads=True
                )
                rows.append(row.flatten(1))
        if rows:
            yield torch.stack(rows, dim=1)


def _feature_map(
    found: _Slopes, network: nn.Module, points: Tensor, steps: int, pairs: int
) -> None:
    """Adds all that comes before the last layer, if that is more than one layer."""
    shape = found.subject.shape
    *before, _ = [module for _, module in chain(network)] or [network]
    features = nn.Sequential(*before).eval()
    if len(list(named_layers(features, shape))) < 2:
        return
    bound = lipschitz(features, shape)
    size = " × ".join(map(str, output_shape(features, shape)))
    found.bounds[_FEATURES] = (bound.value, bound.rule, f"{size} features", tuple(shape))
    found.add(_FEATURES, "power", attained_slope(features, points, steps=steps))
    found.add(_FEATURES, "pairs", float(steepest_pairs(features, points, steps=pairs).max()))


def _margins(subject: Subject, jacobians: list[Tensor]) -> Iterator[tuple[Record, float]]:
    """The pair of classes whose margin is steepest for its bound."""
    certificate = subject.proved
    if not certificate or not jacobians or certificate.vacuous:
        return
    slopes = (
        torch.cat([torch.cdist(each, each, compute_mode=_EXACT) for each in jacobians])
        .amax(dim=0)
        .cpu()
    )
    ratios = torch.where(certificate.slopes > 0, slopes / certificate.slopes, 0.0)
    place = int(ratios.argmax())
    i, j = divmod(place, len(slopes))
    slope, bound, ratio = float(slopes[i, j]), float(certificate.slopes[i, j]), float(ratios[i, j])
    require(
        bool((slopes <= certificate.slopes * (1 + 1e-9) + 1e-12).all()),
        law="no margin is steeper than its bound",
        came=f"that of classes {i} and {j} is {slope:.9g}, above {bound:.9g}",
    )
    details = {"classes": [i, j], "slope": slope, "bound": bound, "kind": "attained"}
    yield subject.record("attained_margin", ratio, "1", **details), ratio
