"""Activations that sort channels: MaxMin, GroupSort and FullSort.

References:
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381
    | The Art of Computer Programming, volume 3 (Knuth, 1998), algorithm 5.2.2M: merge exchange

What differs: small groups pass through a sorting network, whose comparators are minima and maxima of
whole channels; which of them kept their order is saved for the derivative instead of the input.
"""

__all__ = ["FullSort", "GroupSort", "MaxMin"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
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
        return _sorted(x, 2)


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
        return _sorted(x, self.group_size)


class FullSort(nn.Module):
    """Sorts all channels, in decreasing order: one group.

    Example:
        >>> FullSort()(torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float32)).tolist()
        [[3.0, 2.0, 1.0]]
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        return x.sort(dim=1, descending=True).values


@rule(MaxMin, GroupSort, FullSort)
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
add(
    "fullsort",
    FullSort,
    Card(choose="Dense layers of few channels, where any order of them may matter.", **_ANIL),
)

_LARGEST = 8  # groups, up to which a network is quicker than torch.sort
_PART = 2**18  # entries that are sorted at once, so that they stay in the cache


def _check_channels(x: Tensor, group_size: int) -> None:
    if x.ndim < 2 or x.shape[1] % group_size:
        raise ValueError(
            f"The number of channels should be a multiple of {group_size}, got a tensor of shape "
            f"{tuple(x.shape)}, with channels in dimension 1."
        )


def _sorted(x: Tensor, group_size: int) -> Tensor:
    """Sorts groups of channels, in decreasing order, in dimension 1."""
    _check_channels(x, group_size)
    if group_size > _LARGEST:
        groups = x.unflatten(1, (-1, group_size))
        return groups.sort(dim=2, descending=True).values.flatten(1, 2)
    if torch.compiler.is_compiling():  # the compiler fuses what is written plainly
        wires = list(x.unflatten(1, (-1, group_size)).unbind(2))
        for i, j in comparators(group_size):
            wires[i], wires[j] = wires[i].maximum(wires[j]), wires[i].minimum(wires[j])
        return torch.stack(wires, dim=2).flatten(1, 2)
    saves = torch.is_grad_enabled()
    return _Sort.apply(x, group_size, 1, saves)[0]  # pyright: ignore[reportIndexIssue]


def comparators(size: int) -> tuple[tuple[int, int], ...]:
    """A sorting network: pairs (i, j) of wires, the larger of which comes to i < j.

    Merge exchange: 1, 3, 5 and 19 comparators for 2, 3, 4 and 8 wires.
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


def _wires(x: Tensor, size: int, dim: int) -> list[Tensor]:
    """Views of the channels at each place of the groups, in dimension `dim`."""
    groups = x.shape[dim] // size
    return list(x.reshape(*x.shape[:dim], groups, size, *x.shape[dim + 1 :]).unbind(dim + 1))


def _sort(x: Tensor, size: int, dim: int, masks: Tensor | None) -> Tensor:
    """Sorts, and writes into `masks` which comparators kept their order."""
    pairs = comparators(size)
    if not pairs:
        return x.clone()
    out, last = torch.empty_like(x), _last(pairs)
    for part in _parts(x):
        wires, ends = _wires(x[part], size, dim), _wires(out[part], size, dim)
        for k, (i, j) in enumerate(pairs):
            first, second = wires[i], wires[j]
            wires[i] = torch.maximum(first, second, out=ends[i] if last[i] == k else None)
            wires[j] = torch.minimum(first, second, out=ends[j] if last[j] == k else None)
            if masks is not None:
                torch.ge(first, second, out=masks[k][part])
    return out


def _swap(x: Tensor, masks: Tensor, size: int, dim: int, order: Sequence[int]) -> Tensor:
    """Swaps the wires of comparators whose mask is 0, one comparator after another."""
    if not order:
        return x.clone()
    table = comparators(size)
    out, last = torch.empty_like(x), _last([table[k] for k in order])
    for part in _parts(x):
        wires, ends = _wires(x[part], size, dim), _wires(out[part], size, dim)
        for step, k in enumerate(order):
            i, j = table[k]
            first, second, kept = wires[i], wires[j], masks[k][part]
            wires[i] = torch.lerp(second, first, kept, out=ends[i] if last[i] == step else None)
            wires[j] = torch.lerp(first, second, kept, out=ends[j] if last[j] == step else None)
    return out


def _swap_tangents(x: Tensor, masks: Tensor, size: int, dim: int, order: Sequence[int]) -> Tensor:
    """As `_swap`, without writing into a result: tangents and batches of gradients allow none."""
    wires = _wires(x, size, dim)
    for k in order:
        i, j = comparators(size)[k]
        first, second = wires[i], wires[j]
        wires[i], wires[j] = second.lerp(first, masks[k]), first.lerp(second, masks[k])
    return torch.stack(wires, dim=dim + 1).reshape(x.shape)


def _parts(x: Tensor) -> list[slice]:
    """Slices of the first dimension that fit in the cache of a processor core."""
    if x.device.type != "cpu" or not x.numel():
        return [slice(None)]
    step = max(1, _PART // x[0].numel())
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _last(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The last of some comparators that each wire passes."""
    return {wire: k for k, pair in enumerate(pairs) for wire in pair}


class _Sort(Function):
    """Sorting by a network, and which comparators kept their order: 1 or 0 in the dtype of x.

    On a CPU `torch.where` takes ten times as long as `torch.lerp`, which is exact for weights 0
    and 1.  For pairs, keeping the order costs half the memory of keeping the input.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, size: int, dim: int, saves: bool) -> tuple[Tensor, Tensor]:
        kept = _masks(x, size, dim) if saves else x.new_empty(0)
        return _sort(x, size, dim, kept if saves else None), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, ctx.size, ctx.dim, ctx.saves = inputs
        ctx.set_materialize_grads(False)  # else backward fills zeros for the masks
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad = grads[0]
        if grad is not None:
            grad = _Swap.apply(grad, ctx.saved_tensors[0], ctx.size, ctx.dim, True)
        return grad, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        if tangents[0] is None:
            return None, None
        if not ctx.saves:
            raise RuntimeError("Forward derivatives of sorting need gradients enabled.")
        kept = ctx.saved_tensors[0]
        return _swap_tangents(tangents[0], kept, ctx.size, ctx.dim, range(len(kept))), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        x, size, dim, saves = args
        out = _Sort.apply(x.movedim(in_dims[0], 0), size, dim + 1, saves)
        return out, (0, 1 if saves else None)


def _masks(x: Tensor, size: int, dim: int) -> Tensor:
    """Room for the masks of all comparators, laid out in memory as the channels of x are."""
    count, groups = len(comparators(size)), x.shape[dim] // size
    if x.ndim == 4 and dim == 1 and x.is_contiguous(memory_format=torch.channels_last):
        shape = (count * len(x), groups, *x.shape[2:])
        options = {"dtype": x.dtype, "device": x.device, "memory_format": torch.channels_last}
        return torch.empty(shape, **options).unflatten(0, (count, len(x)))
    return x.new_empty(count, *x.shape[:dim], groups, *x.shape[dim + 1 :])


class _Swap(Function):
    """The permutation that a sort was, or its inverse: linear, each the adjoint of the other."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, kept: Tensor, size: int, dim: int, inverse: bool) -> Tensor:
        order = range(len(kept))[::-1] if inverse else range(len(kept))
        if is_batchedtensor(x) or is_legacy_batchedtensor(x):  # of batched gradients
            return _swap_tangents(x, kept, size, dim, order)
        return _swap(x, kept, size, dim, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, kept, ctx.size, ctx.dim, ctx.inverse = inputs
        ctx.save_for_backward(kept)
        ctx.save_for_forward(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        kept = ctx.saved_tensors[0]
        grad = _Swap.apply(grads[0], kept, ctx.size, ctx.dim, not ctx.inverse)
        return grad, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        kept = ctx.saved_tensors[0]
        order = range(len(kept))[::-1] if ctx.inverse else range(len(kept))
        return _swap_tangents(tangents[0], kept, ctx.size, ctx.dim, order)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        x, kept, size, dim, inverse = args
        # The batch goes to the front of x, and behind the comparators of the masks.
        x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        if in_dims[1] is None:
            kept = kept[:, None].expand(-1, info.batch_size, *kept.shape[1:])
        else:
            kept = kept.movedim(in_dims[1], 1)
        return _Swap.apply(x, kept, size, dim + 1, inverse), 0
