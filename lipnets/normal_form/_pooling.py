"""Pools of windows, as gathers around sorts and norms of groups of channels."""

__all__: list[str] = []

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Shape, output_shape
from ..layers.groupsort import GroupSort
from ..layers.parallel import Parallel
from ..layers.pooling import AdaptiveL2NormPool2d, L2NormPool2d
from ..operations import GroupNorms
from ..program import Affine, Gather
from ._rewriting import Parts, picked, rewriting

_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


@rewriting(L2NormPool2d, AdaptiveL2NormPool2d)
def _l2_pool(module: Any, shape: Shape) -> Parts:
    """Norms of windows, with zeros for pixels that they lack."""
    outs = output_shape(module, shape)
    index, shared = _windows(module, shape, outs)
    divisor = int(getattr(module, "shared", None) or shared)
    pool = [picked(index.flatten()), GroupNorms(index.shape[1]), Gather(None, outs)]
    return [*pool, Affine(torch.tensor(divisor**-0.5).double())] if divisor > 1 else pool


@rewriting(*_MAX, *_ADAPTIVE)
def _max_pool(module: Any, shape: Shape) -> Parts:
    """The first of each window when it is sorted: windows of one size after those of another."""
    outs = output_shape(module, shape)
    index, _ = _windows(module, shape, outs)
    sizes = (index >= 0).sum(dim=1)
    kinds = sizes.unique().tolist()
    rows = [(sizes == size).nonzero()[:, 0] for size in kinds]
    read = [index[some][index[some] >= 0] for some in rows]  # in order: the same number of each
    firsts = [
        nn.Sequential(GroupSort(size), Gather(size * torch.arange(len(some)), (len(some),)))
        for size, some in zip(kinds, rows, strict=True)
    ]
    sorts = firsts[0] if len(firsts) == 1 else Parallel(firsts, [len(each) for each in read])
    back = torch.cat(rows).argsort()
    return [picked(torch.cat(read)), sorts, Gather(back, outs)]


def _windows(module: Any, shape: Shape, outs: Shape) -> tuple[Tensor, int]:
    """The coordinates in each window, −1 for those that are none; and how many share one at the most."""
    index, shared = torch.arange(shape[0])[:, None], 1  # (outputs, window)
    for axis, (n, m) in enumerate(zip(shape[1:], outs[1:], strict=True)):
        windows = _along_axis(module, axis, n, m)
        shared *= max(sum(i in window for window in windows) for i in range(n))
        line = torch.full((m, max(map(len, windows))), -1)
        for row, window in zip(line, windows, strict=True):
            inside = [i for i in window if 0 <= i < n]
            row[: len(inside)] = torch.tensor(inside, dtype=torch.long)
        joint = index[:, None, :, None] * n + line[None, :, None, :]
        fits = (index[:, None, :, None] >= 0) & (line[None, :, None, :] >= 0)
        index = joint.where(fits, -1).flatten(2).flatten(0, 1)
    return index, shared


def _along_axis(module: Any, axis: int, n: int, m: int) -> list[range]:
    """The pixels of windows along an axis, some of which may be outside of the image."""
    if isinstance(module, (*_ADAPTIVE, AdaptiveL2NormPool2d)):
        return [range(j * n // m, -(-(j + 1) * n // m)) for j in range(m)]
    given = (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    k, s, p, e = (int(v[axis]) if isinstance(v, Sequence) else int(v) for v in given)
    return [range(j * s - p, j * s - p + e * (k - 1) + 1, e) for j in range(m)]
