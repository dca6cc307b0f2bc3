"""Differentiable estimates of the Lipschitz constants of margins, for losses: never a `Bound`.

References:
    | Globally-Robust Neural Networks (Leino, Wang & Fredrikson, 2021)
    | https://arxiv.org/abs/2102.08452: constants of the network as it is, inside the loss

Power iteration approaches a norm from below, and what is kept may be older than the weights: nothing
is proved here.  `certify` proves.
"""

__all__ = ["MarginSlopes"]

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .bounds import Shape, chain, forward_owner, output_shape, without_autocast
from .export import export
from .layers import Concat, ConcatResidual, ConvexResidual, Parallel, Residual
from .rules import lipschitz

Estimate = Callable[[], Tensor]  # a scalar, of the weights as they are
Part = Callable[..., Estimate]  # name of a child, shape of its input if it is another -> estimate


class MarginSlopes:
    """Estimates of the Lipschitz constants of zᵢ − zⱼ, the differences of logits of a classifier.

    Only what training changes is computed in each call: norms of linear layers and convolutions of
    torch.nn with free weights, a step of power iteration each, which starts where it stopped the call
    before; largest gains of batch normalization; and distances of the rows of a last `nn.Linear`.
    These have gradients.  Any other layer counts with its proved bound at the last `refresh`, which
    for layers whose parametrization guarantees a constant is that constant.

    Arguments:
        model: A classifier of images in [0, 1], in any mode.  If it is an `nn.Sequential` that ends
            in an `nn.Linear`, its head is taken by pairs of classes, as `certify` does.
        shape: The shape of one image, without batch dimension.
        steps: The number of steps of power iteration in a call.
        start: The number of these after `refresh`, when it starts from noise.

    Raises:
        NotCertifiedError: If no rule covers a layer without free weights.
        ValueError: If the model does not give one row of logits.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
        >>> _ = nn.init.eye_(model[1].weight)
        >>> MarginSlopes(model, (1, 2, 2))()[0].detach()
        tensor([0.0000, 1.4142, 1.4142])
    """

    def __init__(self, model: nn.Module, shape: Shape, *, steps: int = 1, start: int = 20) -> None:
        if steps < 1 or start < 1:
            raise ValueError(f"'steps' and 'start' should be positive, got {steps} and {start}.")
        self._model, self._shape = model, tuple(shape)
        self._steps = (start, steps)
        self._memory = _Memory()
        self.refresh()

    def refresh(self) -> None:
        """Bounds anew the layers without free weights, and restarts power iteration from noise.

        After it, estimates are a function of the weights alone: called at the start of each epoch, it
        lets a training that was interrupted there go on as if it had not been.

        Raises:
            NotCertifiedError: As the constructor.
        """
        model, shape = self._model, self._shape
        devices = {each.device for each in model.parameters() if each.is_cuda}
        with torch.random.fork_rng(devices), torch.no_grad():
            plain = export(model, shape)
            logits = output_shape(plain, shape)
            if len(logits) != 1:
                raise ValueError(f"A classifier should give a row of logits, got shape {logits}.")
            self._num_classes = logits[0]
            self._head = _linear_head(model, plain)
            if self._head is not None:
                model = nn.Sequential(*list(model.children())[:-1])
                plain = nn.Sequential(*list(plain.children())[:-1]).eval()
            self._memory = _Memory(*self._steps)
            self._body = _estimate(model, plain, shape, self._memory)

    def state_dict(self) -> dict[str, Any]:
        """What the next call depends on besides the weights: tensors and plain data."""
        return {
            "constants": [each.value for each in self._memory.constants],
            "vectors": [each.vector for each in self._memory.norms],
            "steps": [each.next_steps for each in self._memory.norms],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where another `MarginSlopes` of the same model was."""
        for constant, value in zip(self._memory.constants, state["constants"], strict=True):
            constant.value = value
        for norm, vector, steps in zip(
            self._memory.norms, state["vectors"], state["steps"], strict=True
        ):
            norm.vector, norm.next_steps = vector, steps

    def __call__(self) -> Tensor:
        """The estimates, with shape (K, K): in logits per unit of the ℓ2 norm of images, 0 for i = j."""
        with without_autocast(self._model):
            constant = self._body()
            if self._head is not None:
                rows = _full(self._head.weight)
                # Not by products of rows: their square root has no derivative on the diagonal.
                exact = "donot_use_mm_for_euclid_dist"
                return torch.cdist(rows, rows, compute_mode=exact) * constant
            weight = next(self._model.parameters(), torch.empty(0))
            pairs = 1 - torch.eye(self._num_classes, device=weight.device)
            return pairs * (constant * math.sqrt(2))


class _Constant:
    """What was proved at the last refresh."""

    def __init__(self, value: float) -> None:
        self.value = torch.tensor(value)

    def __call__(self) -> Tensor:
        return self.value


@dataclass
class _Memory:
    """All estimates that remember something, in the order in which they were made.

    Arguments:
        start: The number of steps of power iteration in a first call.
        steps: That in others.
    """

    start: int = 1
    steps: int = 1
    constants: list[_Constant] = field(default_factory=list)
    norms: list["_Norm"] = field(default_factory=list)

    def constant(self, value: float) -> _Constant:
        self.constants.append(_Constant(value))
        return self.constants[-1]

    def norm(self, layer: nn.Module, plain: nn.Module, shape: Shape) -> "_Norm":
        self.norms.append(_Norm(layer, plain, shape, self.start, self.steps))
        return self.norms[-1]


class _Norm:
    """The norm of the linear part of a layer with a free weight, by power iteration.

    Arguments:
        layer: The layer, whose weight is read in each call.
        plain: A copy without bias, of which everything but the weight is used.
        shape: The shape of an input.
        start: The number of steps of the first call.
        steps: That of others.
    """

    def __init__(
        self, layer: nn.Module, plain: nn.Module, shape: Shape, start: int, steps: int
    ) -> None:
        self._layer, self._plain = layer, copy.deepcopy(plain).to("meta")
        self._plain.register_parameter("bias", None)
        if isinstance(plain, nn.Linear):
            shape = (plain.in_features,)  # of all the vectors that it maps alike
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        self.vector = noise / noise.norm()
        self.next_steps, self._steps = start, steps

    def __call__(self) -> Tensor:
        weight = _full(self._layer.get_parameter("weight"))
        vector, fixed = self.vector.to(weight), weight.detach()
        for _ in range(self.next_steps):
            with torch.enable_grad():
                vector.requires_grad_()
                out = self._apply(fixed, vector)
                (back,) = torch.autograd.grad(out, vector, out.detach())  # Wᵀ W v
            size = back.norm()
            vector = torch.where(size > 0, back / size, vector.detach())
        self.vector, self.next_steps = vector.detach(), self._steps
        return self._apply(weight, self.vector).norm()

    def _apply(self, weight: Tensor, vector: Tensor) -> Tensor:
        return functional_call(self._plain, {"weight": weight}, (vector,))


_LINEAR = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _is_free(module: nn.Module) -> bool:
    """Whether a layer has a weight that training changes as it likes: parametrized ones do not.

    A parametrized layer is of a class that its parametrization makes for it.
    """
    if type(module) not in (*_LINEAR, *_BATCH_NORMS):
        return False
    return isinstance(module.weight, Tensor) and module.weight.requires_grad


def _linear_head(model: nn.Module, plain: nn.Module) -> nn.Linear | None:
    """The last layer, if it is taken by pairs of classes."""
    if not chain(plain):
        return None
    (_, last), (_, stored) = chain(model)[-1], chain(plain)[-1]
    return last if isinstance(last, nn.Linear) and type(stored) is nn.Linear else None


def _estimate(module: nn.Module, plain: nn.Module, shape: Shape, memory: _Memory) -> Estimate:
    """The estimate of a module, from it and from its export, by the theorems of its rule.

    Without free weights in it, and for blocks that hold weights in a proof of their own, it is what
    the rule proves.
    """
    if _is_free(module):
        if isinstance(module, _BATCH_NORMS):
            return partial(_largest_gain, module)
        return memory.norm(module, plain, shape)
    combine = _COMBINATORS.get(forward_owner(type(plain)))
    if combine is None or not any(map(_is_free, module.modules())):
        return memory.constant(lipschitz(plain, shape).value)

    def part(name: str, shape: Shape = shape) -> Estimate:
        return _estimate(module.get_submodule(name), plain.get_submodule(name), shape, memory)

    return combine(module, plain, shape, part)


def _sequential(module: nn.Sequential, plain: nn.Sequential, shape: Shape, part: Part) -> Estimate:
    parts = []
    for name, child in plain.named_children():
        parts.append(part(name, shape))
        shape = output_shape(child, shape)
    return lambda: math.prod((each() for each in parts), start=torch.tensor(1.0))


def _residual(module: Residual, plain: Residual, shape: Shape, part: Part) -> Estimate:
    branch = part("branch")
    if plain.shortcut is None:
        return lambda: 1 + branch()
    shortcut = part("shortcut")
    return lambda: shortcut() + branch()


def _convex_residual(
    module: ConvexResidual, plain: ConvexResidual, shape: Shape, part: Part
) -> Estimate:
    branch = part("branch")
    return lambda: 1 - module.alpha + module.alpha * branch()


def _concat_residual(
    module: ConcatResidual, plain: ConcatResidual, shape: Shape, part: Part
) -> Estimate:
    (here, there), branch = plain.weights, part("branch")
    return lambda: (here**2 + (there * branch()).square()).sqrt()


def _concat(module: Concat, plain: Concat, shape: Shape, part: Part) -> Estimate:
    parts = [part(f"branches.{index}") for index in range(len(plain.branches))]
    # Kept off zero, where the root has no derivative.
    return lambda: torch.stack([each().square() for each in parts]).sum().clamp_min(1e-24).sqrt()


def _parallel(module: Parallel, plain: Parallel, shape: Shape, part: Part) -> Estimate:
    groups = enumerate(plain.split_sizes)
    parts = [part(f"branches.{index}", (size, *shape[1:])) for index, size in groups]
    return lambda: reduce(torch.maximum, [each() for each in parts])


_COMBINATORS: dict[type[nn.Module], Callable[[Any, Any, Shape, Part], Estimate]] = {
    nn.Sequential: _sequential,
    Residual: _residual,
    ConvexResidual: _convex_residual,
    ConcatResidual: _concat_residual,
    Concat: _concat,
    Parallel: _parallel,
}


def _largest_gain(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> Tensor:
    """The largest |γ| / √(variance + ε); a copy, as the next forward overwrites the variance."""
    variance = norm.get_buffer("running_var").clone()
    return (norm.weight / (variance + norm.eps).sqrt()).abs().amax()


def _full(weight: Tensor) -> Tensor:
    """The weight in float32 at least."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))
