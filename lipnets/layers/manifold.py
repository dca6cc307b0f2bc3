"""Layers whose weight is orthonormal itself, and is kept so by the optimizer that trains it.

References:
    | LipNeXt: Scaling up Lipschitz-based Certified Robustness to Billion-parameter Models
    | (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513
    | Optimization Algorithms on Matrix Manifolds (Absil, Mahony & Sepulchre, 2008)

What a parametrization does in every forward, an optimizer of `lipnets.optim` whose name begins with
`manifold_` does once in every step: the weight is a plain parameter with orthonormal rows, or columns
where there are fewer of them.  Any other optimizer leaves the manifold, and is refused for a model with
such layers.  Certificates do not trust either: they bound the weight as it is.  An average of such
weights is no longer orthogonal, but has norm 1 or less.
"""

__all__ = ["ManifoldConv2d", "ManifoldLinear", "manifold_weights"]

import torch
from torch import Tensor, nn

from ..parametrizations._dense import gram
from ._registry import Card, named

_PAPER = "Hu, Hu & Fredrikson, 2026"
_URL = "https://arxiv.org/abs/2601.18513"
_CHOOSE = (
    "Orthogonal while an optimizer `manifold_...` trains it, by products of matrices alone, once a "
    "step; its certificate is that of whatever its weights are."
)


@named(
    "manifold_linear",
    Card(
        kind="dense",
        guarantee="none",
        paper=_PAPER,
        url=_URL,
        choose=_CHOOSE,
        arguments={"in_features": 6, "out_features": 6},
        shape=(6,),
    ),
)
class ManifoldLinear(nn.Linear):
    """A linear layer that starts at a random orthonormal weight, with a bias of zeros.

    The arguments are those of `nn.Linear`.  Train it with `manifold_adam` or its kin.
    """

    def reset_parameters(self) -> None:
        """Draws an orthonormal weight, uniformly among all of them."""
        _reset(self)


@named(
    "manifold_conv2d",
    Card(
        kind="convolution",
        guarantee="none",
        paper=_PAPER,
        url=_URL,
        choose=_CHOOSE,
        arguments={"in_channels": 4, "out_channels": 4, "kernel_size": 1},
        shape=(4, 5, 6),
    ),
)
class ManifoldConv2d(nn.Conv2d):
    """A convolution of kernel 1 × 1, a linear layer at each pixel, that starts orthonormal.

    The arguments are those of `nn.Conv2d`.

    Raises:
        ValueError: If kernels are larger, or channels in groups.
    """

    def reset_parameters(self) -> None:
        """Draws an orthonormal weight, uniformly among all of them."""
        if self.kernel_size != (1, 1) or self.groups != 1:
            raise ValueError(
                "ManifoldConv2d should have a kernel of 1 × 1 and one group, whose weights are a "
                f"matrix, got kernel_size={self.kernel_size} and groups={self.groups}: take a "
                "parametrized convolution such as 'bcop_conv2d' or 'cayley_conv2d'."
            )
        _reset(self)


def manifold_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a model that belong on the Stiefel manifold, by name, frozen ones included."""
    weights = {}
    for name, module in model.named_modules():
        if isinstance(module, ManifoldLinear | ManifoldConv2d):
            weight = module.weight
            if isinstance(weight, nn.Parameter):  # not parametrized
                weights[f"{name}.weight".removeprefix(".")] = weight
    return weights


def _reset(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if not layer.weight.is_meta:
        _correct(layer.weight)


@torch.no_grad()
def _correct(weight: Tensor) -> None:
    """A step of Newton and Schulz: a factorization in float32 leaves errors of many units of it."""
    matrix = weight.flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    frame = matrix.mT if wide else matrix
    errors = gram(frame)
    errors.diagonal().sub_(1)
    frame = frame - frame @ errors.mul_(0.5)
    weight.copy_((frame.mT if wide else frame).reshape(weight.shape))
