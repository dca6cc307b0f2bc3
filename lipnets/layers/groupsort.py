"""Activations that sort channels: MaxMin and GroupSort.

References:
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381
"""

__all__ = ["GroupSort", "MaxMin"]

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, Shape, rule
from ._registry import Card, add


class MaxMin(nn.Module):
    """Sorts pairs of channels: of channels 2k and 2k + 1, the larger comes first.

    A permutation of its input, chosen by its input: unlike ReLU, it preserves the norm of
    activations and of gradients.  The same function as `GroupSort(2)`, several times faster.

    Example:
        >>> MaxMin()(torch.tensor([[3.0, 1.0, 2.0, 4.0]], dtype=torch.float32)).tolist()
        [[3.0, 1.0, 4.0, 2.0]]
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...), with C even
        _check_channels(x, 2)
        if torch.is_grad_enabled() and x.requires_grad:
            return _MaxMin.apply(x, 1)[0]  # pyright: ignore[reportReturnType]
        first, second = _pairs(x, 1)
        pairs = torch.stack([first.maximum(second), first.minimum(second)], dim=2)
        return pairs.reshape(x.shape)


class GroupSort(nn.Module):
    """Sorts the channels within groups, in decreasing order.

    Arguments:
        group_size: The number g of channels in a group; channels kg, ..., kg + g − 1 are a group.
            Groups of 2 are MaxMin; one group is a full sort.

    Example:
        >>> GroupSort(4)(torch.tensor([[3.0, 1.0, 2.0, 4.0]], dtype=torch.float32)).tolist()
        [[4.0, 3.0, 2.0, 1.0]]
    """

    def __init__(self, group_size: int = 2) -> None:
        super().__init__()
        if group_size < 1:
            raise ValueError(f"'group_size' should be at least 1, got {group_size}.")
        self.group_size = group_size

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...), where g divides C
        _check_channels(x, self.group_size)
        groups = x.unflatten(1, (-1, self.group_size))
        return groups.sort(dim=2, descending=True).values.flatten(1, 2)


@rule(MaxMin, GroupSort)
def _sorting(module: nn.Module, shape: Shape) -> Bound:
    """Sorting is 1-Lipschitz.

    Let a = sort(x) and b = sort(y), in the same order.  By the rearrangement inequality the sum
    Σ xᵢyᵢ is at most Σ aᵢbᵢ, while sorting keeps ‖x‖ and ‖y‖.  Hence ‖a − b‖² = ‖x‖² + ‖y‖² − 2aᵀb
    ≤ ‖x‖² + ‖y‖² − 2xᵀy = ‖x − y‖².  Groups are disjoint coordinates: their squares add up.  Where
    no two entries are equal, the map is a permutation near x: the constant is attained.
    """
    return Bound(1.0, f"{type(module).__name__}: sorting is 1-Lipschitz")


_ANIL = {
    "kind": "activation",
    "guarantee": "1-Lipschitz",
    "paper": "Anil, Lucas & Grosse, 2019",
    "url": "https://arxiv.org/abs/1811.05381",
    "shape": (4, 3),
}
add("maxmin", MaxMin, Card(choose="The default of most published networks.", **_ANIL))
add(
    "groupsort",
    GroupSort,
    Card(choose="Groups above 2, where expressiveness matters more than speed.", **_ANIL),
)


def _check_channels(x: Tensor, group_size: int) -> None:
    if x.ndim < 2 or x.shape[1] % group_size:
        raise ValueError(
            f"The number of channels should be a multiple of {group_size}, got a tensor of shape "
            f"{tuple(x.shape)}, with channels in dimension 1."
        )


def _pairs(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Views of the even and of the odd channels, in dimension `dim`."""
    return x.reshape(*x.shape[:dim], -1, 2, *x.shape[dim + 1 :]).unbind(dim + 1)


class _MaxMin(Function):
    """MaxMin, and which pairs kept their order, as numbers 1 and 0 in the dtype of the input.

    On a CPU `torch.where` takes ten times as long as `torch.lerp`, which is exact for weights 0
    and 1, and keeping the order costs half the memory of keeping the input.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        first, second = _pairs(x, dim)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        larger, smaller = _pairs(out, dim)
        torch.maximum(first, second, out=larger)
        torch.minimum(first, second, out=smaller)
        return out, torch.ge(first, second, out=torch.empty_like(first))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.dim = inputs[1]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _permute(grads[0], ctx.saved_tensors[0], ctx.dim), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _permute(tangents[0], ctx.saved_tensors[0], ctx.dim), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        x, dim = args
        return _MaxMin.apply(x.movedim(in_dims[0], 0), dim + 1), (0, 0)


def _permute(x: Tensor, kept: Tensor, dim: int) -> Tensor:
    """Swaps the channels of the pairs whose weight is 0: linear, and its own adjoint."""
    first, second = _pairs(x, dim)
    pairs = torch.stack([second.lerp(first, kept), first.lerp(second, kept)], dim=dim + 1)
    return pairs.reshape(x.shape)
