"""The form of each operation in files, and what builds it again."""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import nn

from ..bounds import Shape, forward_owner, output_shape
from ..exact import Round
from ..layers.attention import TokenAverages, token_spread
from ..layers.concat import Concat
from ..layers.groupsort import GroupSort, MaxMin
from ..layers.parallel import Parallel
from ..layers.potential import PotentialConv2d, PotentialLinear
from ..layers.residual import Residual
from ..layers.sandwich import SandwichConv2d, SandwichLinear
from ..normal_form import conv, filled
from ..operations import GroupNorms, Mask, PiecewiseLinear
from ..program import Gather
from ._nodes import (
    NEAR,
    Node,
    Reader,
    Writer,
    describe_chain,
    form,
    product,
    restore_chain,
    restored,
)

# Branches


@form(Residual, Concat, Parallel)
def _branches(module: Any, shape: Shape, path: str, writer: Writer) -> Node:
    join: Any = "sum"
    if isinstance(module, Residual):
        first = nn.Sequential() if module.shortcut is None else module.shortcut
        parts, shapes = [first, module.branch], [shape, shape]
    elif isinstance(module, Concat):
        parts, join = list(module.branches), "stack"
        shapes = [shape] * len(parts)
    else:
        parts, join = list(module.branches), [int(size) for size in module.split_sizes]
        shapes = [(size, *shape[1:]) for size in join]
    branches = [
        describe_chain(part, own, f"{path}.{i}", writer)
        for i, (part, own) in enumerate(zip(parts, shapes, strict=True))
    ]
    lips = [product(branch) for branch in branches]
    lip, rule = {
        "sum": (sum(lips), "sum: triangle inequality"),
        "stack": (math.hypot(*lips), "on one input: root of the sum of squares"),
    }.get(str(join), (max(lips), "on channels of their own: the largest"))
    node = {"op": "branches", "join": join, "branches": branches}
    return {**node, "lip": float(lip) * NEAR, "rule": rule}


@restored("branches")
def _branches_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    join, branches = node["join"], node["branches"]
    sizes = join if isinstance(join, list) else [shape[0]] * len(branches)
    parts = [
        restore_chain(branch, read, (size, *shape[1:]))
        for branch, size in zip(branches, sizes, strict=True)
    ]
    if join == "sum":
        first, second = parts
        return Residual(second, first if len(first) else None)
    return Concat(*parts) if join == "stack" else Parallel(parts, sizes)


# Operations


@form(Gather)
def _gather(module: Gather, shape: Shape, path: str, writer: Writer) -> Node:
    every = torch.arange(math.prod(shape)) if module.index is None else module.index
    index = writer.add(f"{path}.index", every)
    return {"op": "gather", "index": index, "shape": [int(n) for n in module.shape]}


@restored("gather")
def _gather_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    index, own = read(node["index"]), torch.arange(math.prod(shape))
    if torch.equal(index, own):
        return Gather(None, node["shape"])
    if tuple(node["shape"]) == tuple(shape) and torch.equal(index, own.where(index >= 0, -1)):
        return Mask(index.view(shape) >= 0)
    return Gather(index, node["shape"])


@form(Mask)
def _mask(module: Mask, shape: Shape, path: str, writer: Writer) -> Node:
    index = torch.arange(math.prod(shape)).where(module.keep.flatten(), -1)
    return {"op": "gather", "index": writer.add(f"{path}.index", index), "shape": list(shape)}


@form(GroupNorms)
def _norms(module: GroupNorms, shape: Shape, path: str, writer: Writer) -> Node:
    return {"op": "groups", "size": module.size, "function": "norm"}


@form(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(module: Any, shape: Shape, path: str, writer: Writer) -> Node:
    """Weights by groups, with shape (G, O / G, I / G, *K)."""
    zeros = torch.zeros(len(module.weight), dtype=torch.float64)
    weight = module.weight.unflatten(0, (getattr(module, "groups", 1), -1))
    return {
        "op": "conv",
        "weight": writer.add(f"{path}.weight", weight),
        "bias": writer.add(f"{path}.bias", zeros if module.bias is None else module.bias),
    }


@restored("conv")
def _conv_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    weight, bias = read(node["weight"]), read(node["bias"])
    if weight.ndim == 3 and len(weight) == 1:
        return filled(nn.Linear(weight.shape[2], weight.shape[1]), weight[0], bias)
    return conv(weight.flatten(0, 1), bias, len(weight)).module


@form(nn.ReLU, PiecewiseLinear)
def _pieces(module: Any, shape: Shape, path: str, writer: Writer) -> Node:
    """Of ReLU, one knot at 0 and slopes of 0 and 1."""
    if isinstance(module, nn.ReLU):
        zero = torch.zeros(1, dtype=torch.float64)
        module = PiecewiseLinear(zero[:, None], torch.tensor([[0.0, 1.0]]).double(), zero)
    names = {name: writer.add(f"{path}.{name}", getattr(module, name)) for name in _PIECES}
    return {"op": "pieces", **names}


_PIECES = ("knots", "slopes", "first")


@restored("pieces")
def _pieces_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    knots, slopes, first = (read(node[name]) for name in _PIECES)
    relu = slopes.tolist() == [[0.0, 1.0]] and not knots.any() and not first.any()
    return nn.ReLU() if relu else PiecewiseLinear(knots, slopes, first)


@form(MaxMin, GroupSort)
def _sort(module: nn.Module, shape: Shape, path: str, writer: Writer) -> Node:
    return {"op": "groups", "size": int(getattr(module, "group_size", 2)), "function": "sort"}


@restored("groups")
def _groups_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    if node["function"] == "norm":
        return GroupNorms(node["size"])
    return MaxMin() if node["size"] == 2 else GroupSort(node["size"])


@form(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape, path: str, writer: Writer) -> Node:
    """Around a map W = [A, B] and an activation of slopes in [0, 1]; `outputs` are those of A, or 0."""
    outs = 0
    if isinstance(module, SandwichLinear | SandwichConv2d):
        spatial = isinstance(module, SandwichConv2d)
        outs = int(module.out_channels if spatial else module.out_features)
    joint = (outs + shape[0], *shape[1:])
    inner = _conv(module.inner, joint, f"{path}.inner", writer)
    inner |= writer.proved(module.inner, joint)
    hidden = output_shape(module.inner, joint)
    activation = describe_chain(module.activation, hidden, f"{path}.activation", writer)
    square = inner["lip"] ** 2
    lip = square / 2 * NEAR if outs else max(1.0, (square - 1) * NEAR) * NEAR
    rule = "sandwich: |[A, B]|^2 / 2" if outs else "potential: max(1, |W|^2 - 1)"
    node = {"op": "block", "inner": inner, "activation": activation, "outputs": outs}
    return {**node, "lip": lip, "rule": rule}


@restored("block")
def _block_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    outs = node["outputs"]
    inner: Any = _conv_of(node["inner"], read, shape).double().eval()
    hidden = output_shape(inner, (outs + shape[0], *shape[1:]))
    if isinstance(inner, nn.Linear):
        block: Any = SandwichLinear(shape[0], outs) if outs else PotentialLinear(shape[0], shape[0])
    elif outs:
        block = SandwichConv2d(shape[0], outs, 1)
    else:
        block = PotentialConv2d(shape[0], shape[0], 1)
    block.inner, block.activation = inner, restore_chain(node["activation"], read, hidden)
    return block


@form(Round)
def _round(module: Round, shape: Shape, path: str, writer: Writer) -> Node:
    return {"op": "round", "bits": int(module.bits)}


@restored("round")
def _round_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    return Round(node["bits"])


# Functions that rest on a library of elementary functions

_SMOOTH: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
    "softsign": nn.Softsign,
    "logsigmoid": nn.LogSigmoid,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


@form(*_SMOOTH.values())
def _smooth(module: nn.Module, shape: Shape, path: str, writer: Writer) -> Node:
    owner = forward_owner(type(module))
    name = next(name for name, cls in _SMOOTH.items() if cls is owner)
    by_tanh = getattr(module, "approximate", "none") == "tanh"
    return {"op": "smooth", "function": "gelu_tanh" if by_tanh else name}


@restored("smooth")
def _smooth_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    if node["function"] == "gelu_tanh":
        return nn.GELU("tanh")
    return _SMOOTH[node["function"]]()


@form(TokenAverages)
def _attention(module: TokenAverages, shape: Shape, path: str, writer: Writer) -> Node:
    """With a number c, c e¹⁺ᶜ ≥ N − 1, that its constant is a function of: whoever checks it need not solve."""
    return {
        "op": "attention",
        "sharpness": writer.add(f"{path}.sharpness", module.sharpness.flatten()),
        "heads": module.num_heads,
        "spread": token_spread(shape[1] - 1) * NEAR,
    }


@restored("attention")
def _attention_of(node: Node, read: Reader, shape: Shape) -> nn.Module:
    return TokenAverages(read(node["sharpness"]))
