"""Optimizers that keep orthogonal weights orthogonal, and train all else as AdamW does.

References:
    | LipNeXt: Scaling up Lipschitz-based Certified Robustness to Billion-parameter Models
    | (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513
    | Riemannian Adaptive Optimization Methods (Bécigneul & Ganea, 2019)
    | https://arxiv.org/abs/1810.00760
    | Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024)
    | https://kellerjordan.github.io/posts/muon/
    | Muon is Scalable for LLM Training (Liu et al., 2025) https://arxiv.org/abs/2502.16982
    | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019)
    | https://arxiv.org/abs/1711.05101

From LipNeXt, whose code is not public: Adam of the skew matrix XᵀG − GᵀX, up to a factor, and a step
X exp(−ηΔ) by a few terms of its series.  Ours: two terms at any step length, and a Newton-Schulz step
of X after every step in place of an SVD of X at the end of each epoch, so that the same products
bound the error of the series and that of rounding at once; weights that are not square; momentum
alone; and Muon, whose orthogonalized momentum turns a square weight by equal angles.
"""

__all__ = ["ManifoldOptimizer"]

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from ..layers.manifold import manifold_weights
from ._registry import optimizer, parameter_groups
from ._stiefel import grams, retract, tangent

Betas = tuple[float, float]
Method = Literal["adam", "sgd", "muon"]

_MUON = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: singular values to [0.7, 1.2]
_MUON_STEPS = 5
_BATCHED = 256  # columns up to which matrices of a shape are multiplied as a batch on a CPU


class ManifoldOptimizer(Optimizer):
    """AdamW, and on the Stiefel manifold Adam, gradient descent or Muon.

    Arguments:
        groups: Groups of parameters; those with `"manifold": True` hold matrices, or kernels of
            1 × 1, with orthonormal rows or columns.
        method: What is done on the manifold.
        lr: The learning rate.
        betas: Decay rates of the moments of AdamW, and of Adam on the manifold.
        eps: What is added to the roots of second moments.
        momentum: The momentum of gradient descent and of Muon on the manifold, of Nesterov's kind.

    Raises:
        ValueError: If weights of a manifold are not orthonormal to begin with, or not in float32 or
            float64.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        method: Method,
        lr: float,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.9,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum, "weight_decay": 0.0}
        super().__init__(groups, {**defaults, "method": method, "manifold": False, "step": 0})
        for group in self.param_groups:
            if group["manifold"]:
                for weight in group["params"]:
                    _refuse_outside(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """Takes a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] += 1
            parameters = [each for each in group["params"] if each.grad is not None]
            if not group["manifold"]:
                self._adamw(group, parameters)
                continue
            shapes: dict[Any, list[nn.Parameter]] = defaultdict(list)
            for weight in parameters:
                alone = weight.device.type == "cpu" and min(weight.shape[:2]) > _BATCHED
                key = id(weight) if alone else (weight.shape[:2], weight.dtype, weight.device)
                shapes[key].append(weight)
            for weights in shapes.values():
                self._move(group, weights)
        return loss

    def _adamw(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32)
        first = [self._buffer(each, "exp_avg", each) for each in parameters]
        second = [self._buffer(each, "exp_avg_sq", each) for each in parameters]
        steps = [self.state[each]["step"] for each in parameters]
        adamw(
            *(list[Tensor](parameters), _gradients(parameters), first, second, [], steps),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _move(self, group: dict[str, Any], weights: list[nn.Parameter]) -> None:
        """Moves weights of one shape, stacked."""
        wide = weights[0].shape[0] < weights[0].shape[1]
        frames = _stacked(weights, wide)
        coordinates = tangent(frames, _stacked(_gradients(weights), wide))
        direction = self._adam if group["method"] == "adam" else self._momentum
        pairs = zip(weights, coordinates, strict=True)
        updates = torch.stack([direction(group, weight, each) for weight, each in pairs])
        if group["method"] == "muon":
            # Entries are then of about the size of those of Adam: one learning rate fits all.
            updates = _orthogonalized(updates).mul_(0.2 * frames.shape[-2] ** 0.5)
        moved = retract(frames, updates.mul_(-group["lr"]))
        for weight, matrix in zip(weights, moved, strict=True):
            weight.copy_((matrix.mT if wide else matrix).reshape(weight.shape))

    def _adam(self, group: dict[str, Any], weight: nn.Parameter, gradient: Tensor) -> Tensor:
        """The step of Adam in units of the learning rate."""
        beta1, beta2 = group["betas"]
        first = self._buffer(weight, "exp_avg", gradient).lerp_(gradient, 1 - beta1)
        second = self._buffer(weight, "exp_avg_sq", gradient).mul_(beta2)
        second.addcmul_(gradient, gradient, value=1 - beta2)
        root = second.sqrt().div_((1 - beta2 ** group["step"]) ** 0.5).add_(group["eps"])
        return first.div(root).div_(1 - beta1 ** group["step"])

    def _momentum(self, group: dict[str, Any], weight: nn.Parameter, gradient: Tensor) -> Tensor:
        """The gradient with Nesterov's momentum."""
        buffer = self._buffer(weight, "momentum_buffer", gradient)
        buffer.mul_(group["momentum"]).add_(gradient)
        return gradient.add(buffer, alpha=group["momentum"])

    def _buffer(self, parameter: nn.Parameter, name: str, like: Tensor) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(like, memory_format=torch.preserve_format)
        return state[name]


@optimizer
def manifold_adam(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Builds Adam on the manifold of orthogonal weights, as in LipNeXt; AdamW for all others.

    Entries of a square weight's rotation are about `lr`: it turns by some √n times that in a step.
    """
    groups = _groups(model, weight_decay)
    return ManifoldOptimizer(groups, "adam", lr, betas=betas, eps=eps)


@optimizer
def manifold_sgd(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    betas: Betas = (0.9, 0.999),
) -> Optimizer:
    """Builds gradient descent with momentum on the manifold of orthogonal weights; AdamW for others."""
    groups = _groups(model, weight_decay)
    return ManifoldOptimizer(groups, "sgd", lr, betas=betas, momentum=momentum)


@optimizer
def manifold_muon(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    betas: Betas = (0.9, 0.999),
) -> Optimizer:
    """Builds Muon on the manifold of orthogonal weights, and AdamW for all others.

    A square weight of n rows turns in all planes by the same angle, about 0.2 √n times `lr`.
    """
    groups = _groups(model, weight_decay)
    return ManifoldOptimizer(groups, "muon", lr, betas=betas, momentum=momentum)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    on_manifold = [w for w in manifold_weights(model).values() if w.requires_grad]
    known = set(map(id, on_manifold))
    groups = parameter_groups(model, weight_decay)
    for group in groups:
        group["params"] = [each for each in group["params"] if id(each) not in known]
    groups.append({"params": on_manifold, "manifold": True})
    return [group for group in groups if group["params"]]


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [each.grad for each in parameters if each.grad is not None]


def _stacked(tensors: list[Any], wide: bool) -> Tensor:
    """Matrices with at least as many rows as columns, with shape (B, N, P)."""
    flat = torch.stack([each.flatten(1) for each in tensors])
    return flat.mT if wide else flat


def _orthogonalized(matrices: Tensor) -> Tensor:
    """About the polar factors of matrices, skew ones of skew matrices; 0 of 0."""
    a, b, c = _MUON
    sizes = torch.linalg.matrix_norm(matrices)[:, None, None]
    matrices = matrices / sizes.clamp_min(torch.finfo(matrices.dtype).tiny)
    for _ in range(_MUON_STEPS):
        product = grams(matrices)
        factor = grams(product).mul_(c).add_(product, alpha=b)
        matrices = torch.baddbmm(matrices, matrices, factor, beta=a)
    return matrices


def _refuse_outside(weight: nn.Parameter) -> None:
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"Weights on a manifold should be float32 or float64, got {weight.dtype}: train with "
            "autocast for faster products."
        )
    if weight.is_meta:
        return
    frame = _stacked([weight.detach()], weight.shape[0] < weight.shape[1])[0]
    errors = frame.mT @ frame - torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device)
    distance = float(torch.linalg.matrix_norm(errors))
    if not distance < 0.1:
        raise ValueError(
            f"Weights on a manifold should start orthonormal, got ‖WᵀW − I‖ = {distance:.2g}: leave "
            "them as they are initialized, or call reset_parameters() of their layers."
        )
