"""The form of certificates in files: the program as data, and what is claimed of it.

A file is an `.npz` without pickles: a description in JSON, and arrays.  It holds the program itself, an
operation a node, each with the bound that was proved of it and by what rule, so that whoever reads
it can run the program and prove everything again: `lipnets.verify` does, with numpy alone.  See
docs/certificate-file.md.

**Room.**  A checker proves the same theorems with other roundings.  The file claims a little less than
was proved: bounds of norms grow by 2⁻²⁷ of themselves (what follows from them by 2⁻³⁶), and radii are those of errors `_ROOM` times as large.
"""

__all__ = ["FORMAT", "describe", "read", "refuse_claims", "restore", "same_program", "write"]

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import conv

from .bounds import (
    NotCertifiedError,
    Shape,
    chain,
    class_name,
    forward_owner,
    lipschitz,
    output_shape,
    remembering,
)
from .exact import Round
from .layers.absolute import Abs, BetaAbs, SoftHuber
from .layers.concat import Concat
from .layers.groupsort import FullSort, GroupSort, MaxMin
from .layers.householder_activation import StoredHouseholder
from .layers.n_activation import NActivation
from .layers.parallel import Parallel
from .layers.pooling import AdaptiveL2NormPool2d, L2NormPool2d
from .layers.potential import PotentialConv2d, PotentialLinear
from .layers.residual import Residual
from .layers.sandwich import SandwichConv2d, SandwichLinear
from .layers.spline import LinearSpline
from .linalg import U, row_distances
from .program import Affine, AxisMaps, Gather
from .rounding import FLOAT64, Analysis, Ball, norms
from .verify import FORMAT, STATEMENT

Node = dict[str, Any]
Arrays = dict[str, np.ndarray]

_PAD = 1 + 2.0**-27  # of norms, for which a checker has another proof
_NEAR = 1 + 2.0**-36  # of what follows from them
_ROOM = 8.0


class _Writer:
    """Collects the arrays of a program, under the names of their modules."""

    def __init__(self, *, prove: bool = True) -> None:
        self.arrays: Arrays = {}
        self.prove = prove

    def proved(self, module: nn.Module, shape: Shape) -> Node:
        """What is proved of a module, with room; nothing if programs are but compared."""
        if not self.prove:
            return {"lip": 1.0, "rule": ""}
        bound = lipschitz(module, shape)
        norm = isinstance(module, nn.Linear | AxisMaps | conv._ConvNd)  # noqa: SLF001
        return {"lip": bound.value * (_PAD if norm else _NEAR), "rule": bound.rule}

    def add(self, name: str, tensor: Tensor | None) -> str | None:
        """Stores a tensor: in float32 if that is exact, else in float64, integers as they are."""
        if tensor is None:
            return None
        array = tensor.detach().cpu().contiguous().numpy()
        if array.dtype.kind == "f":
            array = array.astype("<f8")
            with np.errstate(over="ignore"):
                single = array.astype("<f4")
            array = single if np.array_equal(single.astype("<f8"), array) else array
        else:
            array = array.astype("<i8")
        self.arrays[name] = array
        return name


Describe = Callable[[Any, Shape, str, _Writer], Node]
_FORMS: dict[type[nn.Module], Describe] = {}


def _form(*owners: type[nn.Module]) -> Callable[[Describe], Describe]:
    """Registers the form of operations in files."""

    def register(fn: Describe) -> Describe:
        _FORMS.update(dict.fromkeys(owners, fn))
        return fn

    return register


@torch.no_grad()
def describe(module: nn.Module, shape: Shape) -> tuple[Node, Arrays]:
    """Writes a program of operations as data.

    Arguments:
        module: The program, in float64 and in evaluation mode, as `lower` gives it.
        shape: The shape of one example, without batch dimension.

    Returns:
        The node of the module, with those of its parts and what is proved of each; and its arrays.

    Raises:
        NotCertifiedError: If an operation has no form in files, or no bound.
    """
    writer = _Writer()
    return _describe(module, tuple(shape), "program", writer), writer.arrays


def _describe(module: nn.Module, shape: Shape, path: str, writer: _Writer) -> Node:
    owner = forward_owner(type(module))
    if owner not in _FORMS:
        raise NotCertifiedError(
            f"{class_name(module)} has no form in certificate files: its program cannot be stored."
        )
    node = _FORMS[owner](module, shape, path, writer)
    if "lip" not in node:  # of containers it follows from those of their parts
        node |= writer.proved(module, shape)
    return node


def restore(node: Node, arrays: Arrays, shape: Shape) -> nn.Module:
    """Builds the program that a node describes, in float64 and in evaluation mode.

    Arguments:
        node: The node of the program.
        arrays: The arrays of its file.
        shape: The shape of one example, without batch dimension.

    Raises:
        ValueError: If it describes none.
    """
    try:
        return _restore(node, _Reader(arrays), tuple(shape)).double().eval()
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"a node describes no operation: {error!r}") from error


class _Reader:
    """The arrays of a file, as tensors of their own."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __call__(self, name: str | None) -> Tensor | None:
        if name is None:
            return None
        tensor = torch.from_numpy(self.arrays[name].copy())
        return tensor.double() if tensor.is_floating_point() else tensor

    def some(self, name: str) -> Tensor:
        tensor = self(name)
        assert tensor is not None
        return tensor


Restore = Callable[[Node, _Reader, Shape], nn.Module]
_RESTORE: dict[str, Restore] = {}


def _restored(name: str) -> Callable[[Restore], Restore]:
    def register(fn: Restore) -> Restore:
        _RESTORE[name] = fn
        return fn

    return register


def _restore(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return _RESTORE[node["op"]](node, read, shape)


# Containers


def _product(values: Sequence[float]) -> float:
    return math.prod(values) * _NEAR if len(values) > 1 else math.prod(values)


@_form(nn.Sequential)
def _sequential(module: nn.Sequential, shape: Shape, path: str, writer: _Writer) -> Node:
    children = []
    for name, child in module._modules.items():  # noqa: SLF001 - named_children skips repetitions
        if child is not None:
            children.append(_describe(child, shape, f"{path}.{name}", writer))
            shape = output_shape(child, shape)
    lip = _product([child["lip"] for child in children])
    return {"op": "sequential", "children": children, "lip": float(lip), "rule": "product"}


@_restored("sequential")
def _sequential_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    built = nn.Sequential()
    for child in node["children"]:
        built.append(_restore(child, read, shape))
        shape = output_shape(built[-1].double().eval(), shape)
    return built


_KEEP = {"op": "sequential", "children": [], "lip": 1.0, "rule": "keeps its input"}


@_form(nn.Identity)
def _identity(module: nn.Identity, shape: Shape, path: str, writer: _Writer) -> Node:
    return {**_KEEP, "children": []}


@_form(Residual)
def _residual(module: Residual, shape: Shape, path: str, writer: _Writer) -> Node:
    first = nn.Identity() if module.shortcut is None else module.shortcut
    branches = [
        _describe(first, shape, f"{path}.shortcut", writer),
        _describe(module.branch, shape, f"{path}.branch", writer),
    ]
    lip = sum(branch["lip"] for branch in branches) * _NEAR
    return {"op": "sum", "branches": branches, "lip": lip, "rule": "triangle inequality"}


@_restored("sum")
def _sum_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    first, second = node["branches"]
    empty = first["op"] == "sequential" and not first["children"]
    shortcut = None if empty else _restore(first, read, shape)
    return Residual(_restore(second, read, shape), shortcut)


@_form(Concat)
def _concat(module: Concat, shape: Shape, path: str, writer: _Writer) -> Node:
    branches = [
        _describe(branch, shape, f"{path}.{i}", writer) for i, branch in enumerate(module.branches)
    ]
    lip = math.sqrt(sum(branch["lip"] ** 2 for branch in branches)) * _NEAR
    rule = "root of the sum of squares, on one input"
    return {"op": "branches", "sizes": None, "branches": branches, "lip": lip, "rule": rule}


@_form(Parallel)
def _parallel(module: Parallel, shape: Shape, path: str, writer: _Writer) -> Node:
    sizes = [int(size) for size in module.split_sizes]
    branches = [
        _describe(branch, (size, *shape[1:]), f"{path}.{i}", writer)
        for i, (branch, size) in enumerate(zip(module.branches, sizes, strict=True))
    ]
    lip = max(branch["lip"] for branch in branches)
    rule = "largest, on channels of their own"
    return {"op": "branches", "sizes": sizes, "branches": branches, "lip": lip, "rule": rule}


@_restored("branches")
def _branches_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    sizes = [shape[0]] * len(node["branches"]) if node["sizes"] is None else node["sizes"]
    branches = [
        _restore(branch, read, (size, *shape[1:]))
        for branch, size in zip(node["branches"], sizes, strict=True)
    ]
    return Concat(*branches) if node["sizes"] is None else Parallel(branches, sizes)


# What moves, scales and shifts


@_form(Gather)
def _gather(module: Gather, shape: Shape, path: str, writer: _Writer) -> Node:
    index = writer.add(f"{path}.index", module.index)
    return {"op": "gather", "index": index, "shape": [int(n) for n in module.shape]}


@_restored("gather")
def _gather_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return Gather(read(node["index"]), node["shape"])


@_form(Affine)
def _affine(module: Affine, shape: Shape, path: str, writer: _Writer) -> Node:
    scale = writer.add(f"{path}.scale", module.scale)
    return {"op": "affine", "scale": scale, "shift": writer.add(f"{path}.shift", module.shift)}


@_restored("affine")
def _affine_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return Affine(read(node["scale"]), read(node["shift"]))


# Linear maps


@_form(nn.Linear)
def _linear(module: nn.Linear, shape: Shape, path: str, writer: _Writer) -> Node:
    weight = writer.add(f"{path}.weight", module.weight)
    bias = writer.add(f"{path}.bias", module.bias)
    return {"op": "linear", "weight": weight, "bias": bias, "axis": -1}


@_restored("linear")
def _linear_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    weight, bias = read.some(node["weight"]), read(node["bias"])
    if node["axis"] >= 0:
        return AxisMaps([None] * node["axis"] + [weight])
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


@_form(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape, path: str, writer: _Writer) -> Node:
    """A chain of matrices, each along an axis."""
    children = []
    for axis, matrix in zip(module.axes, module.matrices, strict=True):
        single = AxisMaps([None] * axis + [matrix]).eval()
        weight = writer.add(f"{path}.axis{axis}", matrix)
        node = {"op": "linear", "weight": weight, "bias": None, "axis": axis}
        children.append({**node, **writer.proved(single, shape)})
        shape = output_shape(single, shape)
    if len(children) == 1:
        return children[0]
    lip = float(_product([child["lip"] for child in children]))
    rule = "product of matrices along axes"
    return {"op": "sequential", "children": children, "lip": lip, "rule": rule}


@_form(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    axes = len(module.kernel_size)
    if module.padding_mode not in ("zeros", "circular"):
        raise NotCertifiedError(f"Padding mode '{module.padding_mode}' has no form in files.")
    pads = [[int(p), int(p)] for p in _pads(module.padding, axes)]
    if module.padding == "same":
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        pads = [[total // 2, total - total // 2] for total in reach]
    circular = module.padding_mode == "circular"
    return {
        **_geometry(module, path, writer),
        "padding": pads,
        "circular": circular,
        "transposed": None,
    }


@_form(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transpose(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    pads = [[int(p), int(p)] for p in module.padding]
    sizes = list(output_shape(module, shape)[1:])
    return {
        **_geometry(module, path, writer),
        "padding": pads,
        "circular": False,
        "transposed": sizes,
    }


def _pads(padding: Any, axes: int) -> tuple[int, ...]:
    return (0,) * axes if isinstance(padding, str) else tuple(padding)


def _geometry(module: Any, path: str, writer: _Writer) -> Node:
    return {
        "op": "conv",
        "weight": writer.add(f"{path}.weight", module.weight),
        "bias": writer.add(f"{path}.bias", module.bias),
        "stride": [int(s) for s in module.stride],
        "dilation": [int(d) for d in module.dilation],
        "groups": int(module.groups),
    }


@_restored("conv")
def _conv_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    weight, bias = read.some(node["weight"]), read(node["bias"])
    axes, groups, pads = weight.ndim - 2, node["groups"], node["padding"]
    common: dict[str, Any] = {
        "stride": tuple(node["stride"]),
        "dilation": tuple(node["dilation"]),
        "groups": groups,
        "bias": bias is not None,
    }
    kernel: Any = tuple(weight.shape[2:])
    if node["transposed"] is not None:
        spare = _TransposeSpare(node["transposed"])
        turned = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
        padding = tuple(p for p, _ in pads)
        spare_pixels: Any = spare.of(common["stride"], common["dilation"], kernel, padding)
        built = turned(
            weight.shape[0], weight.shape[1] * groups, kernel, padding=padding,
            output_padding=spare_pixels, **common,
        )  # fmt: skip
        return _filled(built, weight, bias)
    common["padding_mode"] = "circular" if node["circular"] else "zeros"
    even = all(before == after for before, after in pads)
    padding = tuple(before for before, _ in pads) if even else "same"
    plain = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    built = plain(weight.shape[1] * groups, weight.shape[0], kernel, padding=padding, **common)
    return _filled(built, weight, bias)


@dataclass(frozen=True)
class _TransposeSpare:
    """Pixels that a transposed convolution appends: what its stride leaves open of the size of its output."""

    sizes: Sequence[int]

    def of(
        self,
        stride: Sequence[int],
        dilation: Sequence[int],
        kernel: Sequence[int],
        padding: Sequence[int],
    ) -> tuple[int, ...]:
        axes = zip(self.sizes, stride, dilation, kernel, padding, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) % s for n, s, d, k, p in axes)


def _filled(module: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A module with these weights, and not those it was built with."""
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    return module


# Piecewise linear functions


@_form(nn.ReLU, nn.LeakyReLU, nn.PReLU, Abs, BetaAbs)
def _prelu(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """One slope below 0 for each channel, or for all."""
    if isinstance(module, BetaAbs):
        slopes = torch.ones(shape[0], dtype=torch.float64)
        slopes[: int(module.beta * shape[0])] = -1
    elif isinstance(module, nn.PReLU):
        slopes = module.weight.double()
    else:
        slope = {nn.ReLU: 0.0, Abs: -1.0}.get(type(module), getattr(module, "negative_slope", 0.0))
        slopes = torch.tensor([slope], dtype=torch.float64)
    return {"op": "prelu", "slopes": writer.add(f"{path}.slopes", slopes)}


@_restored("prelu")
def _prelu_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    slopes = read.some(node["slopes"])
    if slopes.numel() == 1 and slopes.item() in (0, -1):
        return Abs() if slopes.item() else nn.ReLU()
    if slopes.numel() == 1:
        return nn.LeakyReLU(slopes.item())
    count = int((slopes == -1).sum())
    if (slopes[:count] == -1).all() and (slopes[count:] == 1).all():
        return BetaAbs(min((count + 0.5) / len(slopes), 1.0))
    module = nn.PReLU(len(slopes))
    module.weight = nn.Parameter(slopes)
    return module


@_form(nn.Hardtanh, nn.Softshrink, NActivation)
def _clamp(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Slopes outside and inside of an interval, of each channel or of all."""
    if isinstance(module, NActivation):
        slopes, ends = (1.0, -1.0), module.thresholds.double().sort(dim=0).values
    elif isinstance(module, nn.Softshrink):
        width = float(module.lambd)
        slopes, ends = (1.0, 0.0), torch.tensor([[-width], [width]], dtype=torch.float64)
    else:
        pair = [[float(module.min_val)], [float(module.max_val)]]
        slopes, ends = (0.0, 1.0), torch.tensor(pair, dtype=torch.float64)
    low, high = (
        writer.add(f"{path}.{name}", end) for name, end in zip(("low", "high"), ends, strict=True)
    )
    return {"op": "clamp", "low": low, "high": high, "outside": slopes[0], "inside": slopes[1]}


@_restored("clamp")
def _clamp_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    low, high = read.some(node["low"]), read.some(node["high"])
    if node["inside"] == -1:
        module = NActivation(len(low))
        module.thresholds = nn.Parameter(torch.stack([low, high]))
        return module
    if node["inside"] == 0:
        return nn.Softshrink(high.item())
    return nn.Hardtanh(low.item(), high.item())


@_form(LinearSpline)
def _spline(module: LinearSpline, shape: Shape, path: str, writer: _Writer) -> Node:
    slopes = writer.add(f"{path}.slopes", module.slopes)
    offset = writer.add(f"{path}.offset", module.offset)
    return {"op": "spline", "slopes": slopes, "offset": offset, "limit": float(module.limit)}


@_restored("spline")
def _spline_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    slopes, offset = read.some(node["slopes"]), read.some(node["offset"])
    module = LinearSpline(len(offset), slopes.shape[1] - 1, node["limit"])
    module.slopes, module.offset = nn.Parameter(slopes), nn.Parameter(offset)
    return module


# Sorting, reflections, pooling


@_form(MaxMin, GroupSort, FullSort)
def _sort(module: nn.Module, shape: Shape, path: str, writer: _Writer) -> Node:
    size = {MaxMin: 2, FullSort: shape[0]}.get(type(module), getattr(module, "group_size", 2))
    return {"op": "sort", "size": int(size)}


@_restored("sort")
def _sort_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return MaxMin() if node["size"] == 2 else GroupSort(node["size"])


@_form(StoredHouseholder)
def _householder(module: StoredHouseholder, shape: Shape, path: str, writer: _Writer) -> Node:
    return {"op": "householder", "normals": writer.add(f"{path}.normals", module.normals)}


@_restored("householder")
def _householder_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return StoredHouseholder(read.some(node["normals"]))


_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


@_form(*_MAX, *_ADAPTIVE, L2NormPool2d, AdaptiveL2NormPool2d)
def _pool(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Windows along each axis, as ranges of pixels, of which those outside of the image do not count."""
    sizes, counts = shape[1:], output_shape(module, shape)[1:]
    norm = isinstance(module, L2NormPool2d | AdaptiveL2NormPool2d)
    if isinstance(module, (*_ADAPTIVE, AdaptiveL2NormPool2d)):
        windows = [
            [[j * n // m, -(-(j + 1) * n // m), 1] for j in range(m)]
            for n, m in zip(sizes, counts, strict=True)
        ]
    else:
        windows = []
        for axis, count in enumerate(counts):
            k, s, p, d = (
                int(value[axis]) if isinstance(value, Sequence) else int(value)
                for value in (
                    module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1),
                )
            )  # fmt: skip
            windows.append([[j * s - p, j * s - p + d * (k - 1) + 1, d] for j in range(count)])
    shared = getattr(module, "shared", None)
    if norm and shared is None:
        shared = math.prod(
            max(sum(i in range(*w) for w in axis) for i in range(n))
            for axis, n in zip(windows, sizes, strict=True)
        )
    kind = "l2" if norm else "max"
    return {"op": "pool", "kind": kind, "windows": windows, "shared": int(shared or 1)}


@_restored("pool")
def _pool_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    windows = node["windows"]
    axes, counts = len(windows), tuple(len(axis) for axis in windows)
    strides, lengths, steps = [], [], []
    for axis in windows:
        starts = [w[0] for w in axis]
        apart = {b - a for a, b in pairwise(starts)} or {axis[0][1] - axis[0][0]}
        sides = {(w[1] - w[0], w[2]) for w in axis}
        if len(apart) > 1 or len(sides) > 1:
            kind = AdaptiveL2NormPool2d if node["kind"] == "l2" else _ADAPTIVE[axes - 1]
            size: Any = counts if axes > 1 else counts[0]
            return kind(size)
        strides.append(max(1, *apart))
        [(length, step)] = sides
        lengths.append((length - 1) // step + 1)
        steps.append(step)
    padding = tuple(-axis[0][0] for axis in windows)
    for ceil_mode in (False, True):
        common: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
        if node["kind"] == "l2":
            module = L2NormPool2d(tuple(lengths), tuple(strides), **common)  # pyright: ignore
            module.shared = node["shared"]
        else:
            module = _MAX[axes - 1](tuple(lengths), tuple(strides), dilation=tuple(steps), **common)
        if output_shape(module, shape)[1:] == counts:
            return module
    raise ValueError(f"there are no windows {windows} on images of shape {shape}")


# Smooth functions, which rest on a library of elementary functions: `lipnets.verify` refuses them

_SMOOTH: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "tanh": (nn.Tanh, ()),
    "sigmoid": (nn.Sigmoid, ()),
    "softplus": (nn.Softplus, ("beta", "threshold")),
    "gelu": (nn.GELU, ("approximate",)),
    "silu": (nn.SiLU, ()),
    "elu": (nn.ELU, ("alpha",)),
    "softsign": (nn.Softsign, ()),
    "logsigmoid": (nn.LogSigmoid, ()),
    "tanhshrink": (nn.Tanhshrink, ()),
    "softhuber": (SoftHuber, ("delta",)),
}


@_form(*(cls for cls, _ in _SMOOTH.values()))
def _smooth(module: nn.Module, shape: Shape, path: str, writer: _Writer) -> Node:
    owner = forward_owner(type(module))
    name, names = next((op, names) for op, (cls, names) in _SMOOTH.items() if cls is owner)
    return {"op": name, **{each: getattr(module, each) for each in names}}


def _smooth_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    cls, names = _SMOOTH[node["op"]]
    return cls(**{name: node[name] for name in names})


_RESTORE.update(dict.fromkeys(_SMOOTH, _smooth_of))


# Blocks, and rounding


@_form(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Around a map W = [A, B] and an activation of slopes in [0, 1]; `outputs` are those of A, or none."""
    outputs, joint, axis = None, list(shape), 0 if isinstance(module, SandwichConv2d) else -1
    if isinstance(module, SandwichLinear | SandwichConv2d):
        spatial = isinstance(module, SandwichConv2d)
        outputs = int(module.out_channels if spatial else module.out_features)
        joint[axis] += outputs
    inner = _describe(module.inner, tuple(joint), f"{path}.inner", writer)
    hidden = output_shape(module.inner, tuple(joint))
    activation = _describe(module.activation, hidden, f"{path}.activation", writer)
    square = inner["lip"] ** 2
    lip = max(1.0, (square - 1) * _NEAR) if outputs is None else square / 2 * _NEAR
    rule = "potential: max(1, |W|^2 - 1)" if outputs is None else "sandwich: |[A, B]|^2 / 2"
    node = {"op": "block", "inner": inner, "activation": activation, "outputs": outputs}
    return {**node, "lip": lip, "rule": rule}


@_restored("block")
def _block_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    outs, spatial = node["outputs"], node["inner"]["op"] == "conv"
    weight, bias = read.some(node["inner"]["weight"]), read(node["inner"]["bias"])
    hidden = (len(weight), *shape[1:]) if spatial else (*shape[:-1], len(weight))
    common: dict[str, Any] = {
        "bias": bias is not None,
        "activation": _restore(node["activation"], read, hidden),
    }
    ins = shape[0] if spatial else shape[-1]
    if not spatial:
        cls = PotentialLinear if outs is None else SandwichLinear
        block = cls(ins, outs or ins, hidden_features=len(weight), **common)
        _filled(block.inner, weight, bias)
        return block
    kernel: Any = tuple(weight.shape[2:])
    block = (PotentialConv2d if outs is None else SandwichConv2d)(
        ins, outs or ins, kernel, hidden_channels=len(weight), **common
    )  # pyright: ignore
    joint = (ins + (outs or 0), *shape[1:])
    block.inner = _restore(node["inner"], read, joint)  # pyright: ignore
    return block


@_form(Round)
def _round(module: Round, shape: Shape, path: str, writer: _Writer) -> Node:
    return {"op": "round", "bits": int(module.bits)}


@_restored("round")
def _round_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return Round(node["bits"])


# Files


def write(certificate: Any, images: Tensor | None = None, labels: Tensor | None = None) -> bytes:
    """The content of a file that holds a certificate.

    Arguments:
        certificate: The certificate, with its program.
        images: Images to say the radii of, with shape (B, *shape), in [0, 1].
        labels: Their classes, with shape (B,).

    Raises:
        ValueError: If images are out of [0, 1], or without labels.
    """
    shape, program = certificate.shape, certificate.program
    meta: dict[str, Any] = {
        "format": FORMAT,
        "statement": STATEMENT,
        "program": "float64",
        "arithmetic": certificate.arithmetic,
        "shape": [int(n) for n in shape],
        "classes": certificate.num_classes,
        "weights": certificate.weights,
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
        "pixels": None,
    }
    try:
        with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
            node, arrays = describe(_as_sequential(program), shape)
    except NotCertifiedError as error:
        if images is not None:
            raise
        node, arrays = {"op": "none", "reason": str(error)}, {}
    analysis = Analysis(FLOAT64, certificate._facts)  # noqa: SLF001 - what is known of its program
    meta |= {"network": node, "lipschitz": node.get("lip", certificate.lipschitz * _PAD)}
    diagonal = math.sqrt(math.prod(shape))
    sizes = torch.full((1,), diagonal, dtype=torch.float64)
    kept: dict[str, np.ndarray] = {}
    if images is not None:
        if labels is None or len(labels) != len(images):
            raise ValueError("Images to be stored should have a label each.")
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError("Images to be stored should be in [0, 1].")
        logits = certificate.logits(images)
        radii, exact = _radii(certificate, node, analysis, images, labels.cpu(), logits)
        meta["program"] = "exact" if exact else "float64"
        kept, meta["pixels"] = _pixels(images)
        kept |= {"labels": labels.cpu().numpy().astype("<i8"), "logits": logits.numpy()}
        kept["radii"] = radii.numpy()
    else:
        try:
            exact = analysis(program, shape, Ball(norm=sizes)).grid is not None
            meta["program"] = "exact" if exact else "float64"
        except NotCertifiedError:  # of a rounding: radii are refused, bounds are not
            exact = False
    meta |= {"domain": diagonal, "error": _error(analysis, program, shape, sizes, exact)}
    arrays = {**arrays, **kept}
    meta["arrays"] = {name: _digest(array) for name, array in arrays.items()}
    text = json.dumps(meta, allow_nan=False).encode()
    buffer = io.BytesIO()
    members: dict[str, Any] = {"meta": np.frombuffer(text, dtype=np.uint8), **arrays}
    np.savez_compressed(buffer, **members)
    return buffer.getvalue()


def read(content: bytes) -> tuple[dict[str, Any], nn.Module]:
    """Reads what `write` gave: the description, and the program.

    Raises:
        ValueError: If it is not of this format, or damaged, or its program has no form.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    if meta["format"] != FORMAT:
        raise ValueError(
            f"its format is {meta['format']!r}, not {FORMAT!r}: certify the model and save it anew"
        )
    if meta["arrays"] != {name: _digest(array) for name, array in arrays.items()}:
        raise ValueError("its arrays are not those that it has the hashes of")
    if meta["network"]["op"] == "none":
        raise ValueError(f"{meta['network']['reason']} Certify the model itself")
    return meta, restore(meta["network"], arrays, tuple(meta["shape"]))


def refuse_claims(certificate: Any, meta: dict[str, Any]) -> None:
    """Makes sure that a program supports what a file claims of it.

    Raises:
        ValueError: If a bound of the file is below the one that is proved.
    """
    with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
        proved, _ = describe(_as_sequential(certificate.program), certificate.shape)
    claims, found = list(_claims(meta["network"])), list(_claims(proved))
    if [name for name, _ in claims] != [name for name, _ in found]:
        raise ValueError("its program is not the one that it describes")
    claims.append(("the whole", meta["lipschitz"]))
    found.append(("the whole", proved["lip"]))
    for (name, claim), (_, lip) in zip(claims, found, strict=True):
        if not (isinstance(claim, float) and lip <= claim * _PAD):
            raise ValueError(f"it claims a bound of {claim} for {name!r}, and {lip:.9g} is proved")


def _claims(node: Node) -> Iterator[tuple[str, Any]]:
    """Operations and their bounds, from the outside in."""
    yield node["op"], node["lip"]
    for key in ("children", "branches"):
        for child in node.get(key, []):
            yield from _claims(child)
    for key in ("inner", "activation"):
        if key in node:
            yield from _claims(node[key])


def same_program(one: nn.Module, other: nn.Module, shape: Shape) -> bool:
    """Whether two programs are the same operations with the same numbers, bit by bit."""
    (a, arrays), (b, others) = (_plain(program, shape) for program in (one, other))
    return a == b and arrays == others


def _plain(program: nn.Module, shape: Shape) -> tuple[str, list[str]]:
    """A program without what is proved of it, nor how its modules are called."""
    writer = _Writer(prove=False)
    node = _describe(_as_sequential(program), tuple(shape), "program", writer)
    names = {name: f"a{i}" for i, name in enumerate(writer.arrays)}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: renamed(v) for k, v in value.items() if k not in ("lip", "rule")}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    return json.dumps(renamed(node)), [_digest(array) for array in writer.arrays.values()]


def _as_sequential(program: nn.Module) -> nn.Module:
    return program if chain(program) else nn.Sequential(program).eval()


def _digest(array: np.ndarray) -> str:
    """The SHA-256 of the dtype, the shape and the bytes of an array."""
    data = f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()
    return hashlib.sha256(data).hexdigest()


def _error(
    analysis: Analysis, program: nn.Module, shape: Shape, sizes: Tensor, exact: bool
) -> float | None:
    """What the program rounds on inputs of a norm, with room; None where nothing is known of it."""
    try:
        after = analysis(program, shape, Ball(norm=sizes))
    except NotCertifiedError:
        return None
    error = float(torch.as_tensor(after.error).max()) * _room(exact) + 2.0**-500
    return error if math.isfinite(error) else None


def _room(exact: bool) -> float:
    """By how much errors of rounding are enlarged: those of exact programs are known, but for rounding."""
    return 1 + 2.0**-10 if exact else _ROOM


def _pixels(images: Tensor) -> tuple[dict[str, np.ndarray], str | None]:
    """Images as bytes, and the format that they are divided by 255 in; or, where they are not that, as floats."""
    array = images.detach().cpu().numpy()
    kind = str(array.dtype) if array.dtype in (np.float32, np.float64) else "float32"
    array = array.astype(kind)
    bytes_ = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if np.array_equal(bytes_.astype(kind) / np.dtype(kind).type(255), array):
        return {"images": bytes_}, kind
    return {"images": array}, None


def _radii(
    certificate: Any,
    node: Node,
    analysis: Analysis,
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
) -> tuple[Tensor, bool]:
    """Radii from the bounds in the file, with room, and whether the program is exact at all these images."""
    children, classes = node["children"], certificate.num_classes
    diagonal = math.sqrt(math.prod(certificate.shape))
    slopes = torch.full((classes, classes), node["lip"] * _ROOT_2_UP, dtype=torch.float64)
    if children[-1].get("axis") == -1:  # a matrix and a bias
        before = float(_product([child["lip"] for child in children[:-1]]))
        head: Any = chain(_as_sequential(certificate.program))[-1][1]
        slopes = torch.minimum(slopes, row_distances(head.weight) * before * _NEAR)
    sizes = norms(images)
    known = certificate.radii_of(logits, labels, images=images)
    around = known.clamp(0, diagonal) + 2.0**-100
    reach = Ball(norm=(sizes + around) * (1 + 2.0**-40))
    after = analysis(certificate.program, certificate.shape, reach)
    exact = after.grid is not None
    errors = certificate.errors(labels, sizes) + certificate.errors(labels, sizes, around)
    margins = logits.gather(1, labels[:, None]) - logits
    quotients = (margins * (1 - 8 * U) - errors * _room(exact)) / (slopes[labels] * (1 + 8 * U))
    quotients[slopes[labels] == 0] = math.inf
    constant = (margins - errors * _room(exact) <= 0) & (slopes[labels] == 0)
    quotients[constant] = 0.0
    own = torch.arange(classes) == labels[:, None]
    quotients = quotients.masked_fill(own, math.inf).amin(dim=1) * (1 - 2.0**-30)
    right = quotients.nan_to_num(0.0).clamp(0, diagonal * (1 - 8 * U))
    return torch.minimum(right, around).where(known > 0, 0.0), exact


_ROOT_2_UP = math.nextafter(math.sqrt(2.0), 2.0)
