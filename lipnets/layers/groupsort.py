"""Activations that sort channels: MaxMin, GroupSort and FullSort.

References:
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381
    | The Art of Computer Programming, volume 3 (Knuth, 1998), algorithm 5.2.2M: merge exchange

What differs: groups of 16 at most pass through a sorting network, whose comparators are minima and
maxima of whole channels; which of them kept their order is saved for the derivative, not the input.
"""

__all__ = ["FullSort", "GroupSort", "MaxMin"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..bounds import Bound, Shape, rule
from ..rounding import Analysis, Ball, rounding_rule
from ._parts import compare, fuses, marks, parts, weights, writes
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
        return _sorted(x, 2)


class GroupSort(nn.Module):
    """Sorts the channels within groups, in decreasing order.

    Arguments:
        group_size: The number g of channels in a group; channels kg, ..., kg + g − 1 are a group.
            Groups of 2 are MaxMin; one group is a full sort.

    Raises:
        ValueError: If a group is smaller than 1.

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
        return _sorted(x, self.group_size)


class FullSort(nn.Module):
    """Sorts all channels, in decreasing order: one group.

    Example:
        >>> FullSort()(torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float32)).tolist()
        [[3.0, 2.0, 1.0]]
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return _sorted(x, x.shape[1] if x.ndim > 1 else 1)


@rule(MaxMin, GroupSort, FullSort)
def _sorting(module: nn.Module, shape: Shape) -> Bound:
    """Sorting is 1-Lipschitz.

    Let a = sort(x) and b = sort(y), in the same order.  By the rearrangement inequality the sum
    Σ xᵢyᵢ is at most Σ aᵢbᵢ, while sorting keeps ‖x‖ and ‖y‖.  Hence ‖a − b‖² = ‖x‖² + ‖y‖² − 2aᵀb
    ≤ ‖x‖² + ‖y‖² − 2xᵀy = ‖x − y‖².  Groups are disjoint coordinates: their squares add up.  Where
    no two entries are equal, the map is a permutation near x: the constant is attained.
    """
    return Bound(1.0, f"{type(module).__name__}: sorting is 1-Lipschitz")


@rounding_rule(MaxMin, GroupSort, FullSort)
def _sorting_rounds(module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: maxima and minima are exact, and so is what moves numbers: they stay on a grid."""
    return analysis.step(module, shape, ball, 0.0, grid=ball.grid)


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
add(
    "fullsort",
    FullSort,
    Card(choose="Dense layers of few channels, where any order of them may matter.", **_ANIL),
)

_LARGEST, _LARGEST_DENSE = 16, 4  # groups, up to which a network is quicker than torch.sort


def _sorted(x: Tensor, group_size: int) -> Tensor:
    """Sorts groups of channels, in decreasing order, in dimension 1."""
    if x.ndim < 2 or x.shape[1] % group_size:
        raise ValueError(
            f"The number of channels should be a multiple of {group_size}, got a tensor of shape "
            f"{tuple(x.shape)}, with channels in dimension 1."
        )
    small = group_size <= (_LARGEST if x.ndim > 2 else _LARGEST_DENSE)
    if small and torch.compiler.is_compiling():  # it fuses what is written plainly
        if fuses(x):
            return _FusedSort.apply(x, group_size)  # pyright: ignore[reportReturnType]
        return _fused(x, group_size)[0]
    if not small or not writes(x):
        groups = x.unflatten(1, (-1, group_size))
        return groups.sort(dim=2, descending=True).values.flatten(1, 2)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Sort.apply(x, group_size)  # pyright: ignore[reportReturnType]
    return _sort(x, group_size, [])


def comparators(size: int) -> tuple[tuple[int, int], ...]:
    """A sorting network: pairs (i, j) of wires, the larger of which comes to i < j.

    Merge exchange: 1, 3, 5, 19 and 63 comparators for 2, 3, 4, 8 and 16 wires.
    """
    found: list[tuple[int, int]] = []
    top = 1 << (size - 1).bit_length() >> 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            found += [(i, i + d) for i in range(size - d) if i & p == r]
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(found)


def _wires(x: Tensor, size: int) -> list[Tensor]:
    """The channels at each place of the groups, with shape (B, C / size, ...) each."""
    return list(x.reshape(x.shape[0], x.shape[1] // size, size, *x.shape[2:]).unbind(2))


def _sort(x: Tensor, size: int, masks: Sequence[Tensor]) -> Tensor:
    """Sorts, and writes into `masks`, if there are any, which comparators kept their order."""
    pairs = comparators(size)
    if not pairs:
        return x.clone()
    out, last = torch.empty_like(x), _last(pairs)
    for part in parts(x):
        wires, ends = _wires(x[part], size), _wires(out[part], size)
        for k, (i, j) in enumerate(pairs):
            first, second = wires[i], wires[j]
            wires[i] = torch.maximum(first, second, out=ends[i] if last[i] == k else None)
            wires[j] = torch.minimum(first, second, out=ends[j] if last[j] == k else None)
            if masks:
                compare(first, second, masks[k][part])
    return out


def _unsort(grad: Tensor, size: int, masks: Sequence[Tensor]) -> Tensor:
    """Swaps the wires of comparators that have not kept their order, the last of them first."""
    pairs = comparators(size)
    if not pairs:
        return grad.clone()
    out, last = torch.empty_like(grad), _last(pairs[::-1])
    for part in parts(grad):
        wires, ends = _wires(grad[part], size), _wires(out[part], size)
        for step, (i, j) in enumerate(pairs[::-1]):
            first, second = wires[i], wires[j]
            kept = weights(masks[-1 - step][part], grad.dtype)
            # Exact for weights 0 and 1.
            wires[i] = torch.lerp(second, first, kept, out=ends[i] if last[i] == step else None)
            wires[j] = torch.lerp(first, second, kept, out=ends[j] if last[j] == step else None)
    return out


def _last(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The last of some comparators that each wire passes."""
    return {wire: k for k, pair in enumerate(pairs) for wire in pair}


def _fused(x: Tensor, size: int) -> tuple[Tensor, list[Tensor]]:
    """Sorts, and says which comparators kept their order, in operations that a compiler fuses."""
    wires, masks = _wires(x, size), []
    for i, j in comparators(size):
        first, second = wires[i], wires[j]
        masks.append(marks(first, second))
        wires[i], wires[j] = first.maximum(second), first.minimum(second)
    return torch.stack(wires, dim=2).flatten(1, 2), masks


def _unfused(grad: Tensor, size: int, masks: Sequence[Tensor]) -> Tensor:
    """What `_unsort` does, in operations that are fused, and of which derivatives are taken."""
    wires = _wires(grad, size)
    for (i, j), mask in zip(comparators(size)[::-1], masks[::-1], strict=True):
        first, second, kept = wires[i], wires[j], weights(mask, grad.dtype)
        wires[i], wires[j] = torch.lerp(second, first, kept), torch.lerp(first, second, kept)
    return torch.stack(wires, dim=2).reshape(grad.shape)


class _Sort(Function):
    """Sorting by a network, of which it saves a bit for each comparator: whether it kept the order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        wires = _wires(x, size)
        masks = [torch.empty_like(wires[i], dtype=torch.bool) for i, _ in comparators(size)]
        ctx.size = size
        ctx.save_for_backward(*masks)
        return _sort(x, size, masks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, size, masks = grads[0], ctx.size, ctx.saved_tensors
        if writes(grad) and not torch.is_grad_enabled():
            return _unsort(grad, size, masks), None
        return _unfused(grad, size, masks), None


class _FusedSort(Function):
    """`_Sort` in operations that a compiler fuses.

    Minima and maxima alone have derivatives that save three booleans for each comparator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        out, masks = _fused(x, size)
        ctx.size = size
        ctx.save_for_backward(*masks)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _unfused(grads[0], ctx.size, ctx.saved_tensors), None
