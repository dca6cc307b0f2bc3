"""The form of certificates in files: the program as data, and what is claimed of it.

A file is an `.npz` without pickles: a description in JSON, and arrays.  It holds the program itself, in
the few operations of `normal_form`, each with the bound that was proved of it and by what rule, so that
whoever reads it can run the program and prove everything again: `lipnets.verify` does, with numpy
alone.  See docs/certificate-file.md.

**Room.**  A checker proves the same theorems with other roundings.  The file claims a little less than
was proved: bounds of norms grow by 2⁻²⁷ of themselves (what follows from them by 2⁻³⁶), and radii are
those of errors `_ROOM` times as large.
"""

__all__ = [
    "FORMAT",
    "describe",
    "read",
    "refuse_claims",
    "restore",
    "rewritten",
    "same_program",
    "write",
]

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .bounds import (
    NotCertifiedError,
    Shape,
    forward_owner,
    lipschitz,
    output_shape,
    remembering,
)
from .exact import Round
from .layers.absolute import SoftHuber
from .layers.concat import Concat
from .layers.groupsort import GroupSort, MaxMin
from .layers.parallel import Parallel
from .layers.potential import PotentialConv2d, PotentialLinear
from .layers.residual import Residual
from .layers.sandwich import SandwichConv2d, SandwichLinear
from .linalg import U, row_distances
from .normal_form import normal_form
from .normal_form._linear import conv, filled
from .operations import GroupNorms, Mask, PiecewiseLinear
from .program import Gather
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
        norm = isinstance(module, nn.Linear | _ConvNd)
        return {"lip": bound.value * (_PAD if norm else _NEAR), "rule": bound.rule}

    def add(self, name: str, tensor: Tensor) -> str:
        """Stores a tensor: in float32 if that is exact, else in float64, integers as they are."""
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
def describe(program: nn.Sequential, shape: Shape) -> tuple[list[Node], Arrays]:
    """Writes a program as data.

    Arguments:
        program: The program, as `normal_form` gives it.
        shape: The shape of one example, without batch dimension.

    Returns:
        The nodes of its operations, with what is proved of each; and its arrays.

    Raises:
        NotCertifiedError: If an operation has no bound.
    """
    writer = _Writer()
    return _describe(program, tuple(shape), "program", writer), writer.arrays


def _describe(program: nn.Module, shape: Shape, path: str, writer: _Writer) -> list[Node]:
    nodes = []
    for name, module in program._modules.items():  # noqa: SLF001 - named_children skips repetitions
        assert module is not None
        form = _FORMS[forward_owner(type(module))]
        node = form(module, shape, f"{path}.{name}", writer)
        nodes.append(node if "lip" in node else node | writer.proved(module, shape))
        shape = output_shape(module, shape)
    return nodes


def restore(nodes: list[Node], arrays: Arrays, shape: Shape) -> nn.Sequential:
    """Builds the program that nodes describe, in float64 and in evaluation mode.

    Arguments:
        nodes: The nodes of the program.
        arrays: The arrays of its file.
        shape: The shape of one example, without batch dimension.

    Raises:
        ValueError: If they describe none.
    """
    try:
        return _restore(nodes, _Reader(arrays), tuple(shape)).double().eval()
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"a node describes no operation: {error!r}") from error


class _Reader:
    """The arrays of a file, as tensors of their own."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __call__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(self.arrays[name].copy())
        return tensor.double() if tensor.is_floating_point() else tensor


Restore = Callable[[Node, _Reader, Shape], nn.Module]
_RESTORE: dict[str, Restore] = {}


def _restored(*names: str) -> Callable[[Restore], Restore]:
    def register(fn: Restore) -> Restore:
        _RESTORE.update(dict.fromkeys(names, fn))
        return fn

    return register


def _restore(nodes: list[Node], read: _Reader, shape: Shape) -> nn.Sequential:
    built = nn.Sequential()
    for node in nodes:
        built.append(_RESTORE[node["op"]](node, read, shape).double().eval())
        shape = output_shape(built[-1], shape)
    return built


def _product(nodes: list[Node]) -> float:
    """The constant of a chain of operations, with room."""
    return math.prod((node["lip"] for node in nodes), start=1.0) * _NEAR


# Branches


@_form(Residual, Concat, Parallel)
def _branches(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
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
        _describe(part, own, f"{path}.{i}", writer)
        for i, (part, own) in enumerate(zip(parts, shapes, strict=True))
    ]
    lips = [_product(branch) for branch in branches]
    lip, rule = {
        "sum": (sum(lips), "sum: triangle inequality"),
        "stack": (math.hypot(*lips), "on one input: root of the sum of squares"),
    }.get(str(join), (max(lips), "on channels of their own: the largest"))
    node = {"op": "branches", "join": join, "branches": branches}
    return {**node, "lip": float(lip) * _NEAR, "rule": rule}


@_restored("branches")
def _branches_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    join, branches = node["join"], node["branches"]
    sizes = join if isinstance(join, list) else [shape[0]] * len(branches)
    parts = [
        _restore(branch, read, (size, *shape[1:]))
        for branch, size in zip(branches, sizes, strict=True)
    ]
    if join == "sum":
        first, second = parts
        return Residual(second, first if len(first) else None)
    return Concat(*parts) if join == "stack" else Parallel(parts, sizes)


# Operations


@_form(Gather)
def _gather(module: Gather, shape: Shape, path: str, writer: _Writer) -> Node:
    every = torch.arange(math.prod(shape)) if module.index is None else module.index
    index = writer.add(f"{path}.index", every)
    return {"op": "gather", "index": index, "shape": [int(n) for n in module.shape]}


@_restored("gather")
def _gather_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    index, own = read(node["index"]), torch.arange(math.prod(shape))
    if torch.equal(index, own):
        return Gather(None, node["shape"])
    if tuple(node["shape"]) == tuple(shape) and torch.equal(index, own.where(index >= 0, -1)):
        return Mask(index.view(shape) >= 0)
    return Gather(index, node["shape"])


@_form(Mask)
def _mask(module: Mask, shape: Shape, path: str, writer: _Writer) -> Node:
    index = torch.arange(math.prod(shape)).where(module.keep.flatten(), -1)
    return {"op": "gather", "index": writer.add(f"{path}.index", index), "shape": list(shape)}


@_form(GroupNorms)
def _norms(module: GroupNorms, shape: Shape, path: str, writer: _Writer) -> Node:
    return {"op": "norm", "size": module.size}


@_restored("norm")
def _norms_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return GroupNorms(node["size"])


@_form(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Weights by groups, with shape (G, O / G, I / G, *K)."""
    zeros = torch.zeros(len(module.weight), dtype=torch.float64)
    weight = module.weight.unflatten(0, (getattr(module, "groups", 1), -1))
    return {
        "op": "conv",
        "weight": writer.add(f"{path}.weight", weight),
        "bias": writer.add(f"{path}.bias", zeros if module.bias is None else module.bias),
    }


@_restored("conv")
def _conv_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    weight, bias = read(node["weight"]), read(node["bias"])
    if weight.ndim == 3 and len(weight) == 1:
        return filled(nn.Linear(weight.shape[2], weight.shape[1]), weight[0], bias)
    return conv(weight.flatten(0, 1), bias, len(weight)).module


@_form(nn.ReLU, PiecewiseLinear)
def _pieces(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Of ReLU, one knot at 0 and slopes of 0 and 1."""
    if isinstance(module, nn.ReLU):
        zero = torch.zeros(1, dtype=torch.float64)
        module = PiecewiseLinear(zero[:, None], torch.tensor([[0.0, 1.0]]).double(), zero)
    names = {name: writer.add(f"{path}.{name}", getattr(module, name)) for name in _PIECES}
    return {"op": "pieces", **names}


_PIECES = ("knots", "slopes", "first")


@_restored("pieces")
def _pieces_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    knots, slopes, first = (read(node[name]) for name in _PIECES)
    relu = slopes.tolist() == [[0.0, 1.0]] and not knots.any() and not first.any()
    return nn.ReLU() if relu else PiecewiseLinear(knots, slopes, first)


@_form(MaxMin, GroupSort)
def _sort(module: nn.Module, shape: Shape, path: str, writer: _Writer) -> Node:
    return {"op": "sort", "size": int(getattr(module, "group_size", 2))}


@_restored("sort")
def _sort_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return MaxMin() if node["size"] == 2 else GroupSort(node["size"])


@_form(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape, path: str, writer: _Writer) -> Node:
    """Around a map W = [A, B] and an activation of slopes in [0, 1]; `outputs` are those of A, or 0."""
    outs = 0
    if isinstance(module, SandwichLinear | SandwichConv2d):
        spatial = isinstance(module, SandwichConv2d)
        outs = int(module.out_channels if spatial else module.out_features)
    joint = (outs + shape[0], *shape[1:])
    inner = _conv(module.inner, joint, f"{path}.inner", writer)
    inner |= writer.proved(module.inner, joint)
    hidden = output_shape(module.inner, joint)
    activation = _describe(module.activation, hidden, f"{path}.activation", writer)
    square = inner["lip"] ** 2
    lip = square / 2 * _NEAR if outs else max(1.0, (square - 1) * _NEAR) * _NEAR
    rule = "sandwich: |[A, B]|^2 / 2" if outs else "potential: max(1, |W|^2 - 1)"
    node = {"op": "block", "inner": inner, "activation": activation, "outputs": outs}
    return {**node, "lip": lip, "rule": rule}


@_restored("block")
def _block_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    outs = node["outputs"]
    inner: Any = _conv_of(node["inner"], read, shape).double().eval()
    hidden = output_shape(inner, (outs + shape[0], *shape[1:]))
    if isinstance(inner, nn.Linear):
        block: Any = SandwichLinear(shape[0], outs) if outs else PotentialLinear(shape[0], shape[0])
    elif outs:
        block = SandwichConv2d(shape[0], outs, 1)
    else:
        block = PotentialConv2d(shape[0], shape[0], 1)
    block.inner, block.activation = inner, _restore(node["activation"], read, hidden)
    return block


@_form(Round)
def _round(module: Round, shape: Shape, path: str, writer: _Writer) -> Node:
    return {"op": "round", "bits": int(module.bits)}


@_restored("round")
def _round_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    return Round(node["bits"])


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


@_restored(*_SMOOTH)
def _smooth_of(node: Node, read: _Reader, shape: Shape) -> nn.Module:
    cls, names = _SMOOTH[node["op"]]
    return cls(**{name: node[name] for name in names})


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
    shape = certificate.shape
    meta: dict[str, Any] = {
        "format": FORMAT,
        "statement": STATEMENT,
        "program": "float64",
        "arithmetic": certificate.arithmetic,
        "shape": [int(n) for n in shape],
        "classes": certificate.num_classes,
        "weights": certificate.weights,
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
    }
    try:
        certificate = rewritten(certificate)
        with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
            network, arrays = describe(certificate.program, shape)
        meta |= {"network": network, "lipschitz": _product(network)}
    except NotCertifiedError as error:
        if images is not None:
            raise
        network, arrays = [], {}
        meta |= {"network": str(error), "lipschitz": certificate.lipschitz * _PAD}
    program = certificate.program
    analysis = _Sums(FLOAT64, certificate._facts)  # noqa: SLF001 - what is known of its program
    diagonal = math.sqrt(math.prod(shape))
    sizes = torch.full((1,), diagonal, dtype=torch.float64)
    kept: Arrays = {
        "images": np.zeros((0, *shape)),
        "labels": np.zeros(0, "<i8"),
        "logits": np.zeros((0, certificate.num_classes)),
        "radii": np.zeros(0),
    }
    if images is not None:
        if labels is None or len(labels) != len(images):
            raise ValueError("Images to be stored should have a label each.")
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError("Images to be stored should be in [0, 1].")
        logits = certificate.logits(images)
        radii, exact = _radii(certificate, network, analysis, images, labels.cpu(), logits)
        meta["program"] = "exact" if exact else "float64"
        pixels = images.detach().cpu()
        kept["images"] = (pixels if pixels.dtype == torch.float64 else pixels.float()).numpy()
        kept |= {"labels": labels.cpu().numpy().astype("<i8"), "logits": logits.numpy()}
        kept["radii"] = radii.numpy()
    else:
        try:
            exact = analysis.are_exact(program, shape, sizes)
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


def rewritten(certificate: Any) -> Any:
    """The certificate of the program as files hold it: see `normal_form`.

    Raises:
        NotCertifiedError: If an operation has no form in files.
    """
    from .certify import certify  # which imports this module

    return certify(normal_form(certificate.program, certificate.shape), certificate.shape)


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
    if isinstance(meta["network"], str):
        raise ValueError(f"{meta['network']} Certify the model itself")  # noqa: TRY004 - of a file
    return meta, restore(meta["network"], arrays, tuple(meta["shape"]))


def refuse_claims(certificate: Any, meta: dict[str, Any]) -> None:
    """Makes sure that a program supports what a file claims of it.

    Raises:
        ValueError: If a bound of the file is below the one that is proved.
    """
    with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
        proved, _ = describe(certificate.program, certificate.shape)
    claims, found = list(_claims(meta["network"])), list(_claims(proved))
    if [name for name, _ in claims] != [name for name, _ in found]:
        raise ValueError("its program is not the one that it describes")
    claims.append(("the whole", meta["lipschitz"]))
    found.append(("the whole", _product(proved)))
    for (name, claim), (_, lip) in zip(claims, found, strict=True):
        if not (isinstance(claim, float) and lip <= claim * _PAD):
            raise ValueError(f"it claims a bound of {claim} for {name!r}, and {lip:.9g} is proved")


def _claims(nodes: list[Node]) -> Iterator[tuple[str, Any]]:
    """Operations and their bounds, from the outside in."""
    for node in nodes:
        yield node["op"], node["lip"]
        for branch in node.get("branches", [node.get("activation", [])]):
            yield from _claims(branch)
        if "inner" in node:
            yield node["inner"]["op"], node["inner"]["lip"]


def same_program(one: nn.Module, other: nn.Module, shape: Shape) -> bool:
    """Whether two programs are the same operations with the same numbers, bit by bit, once rewritten."""
    (a, arrays), (b, others) = (_plain(program, shape) for program in (one, other))
    return a == b and arrays == others


@torch.no_grad()
def _plain(program: nn.Module, shape: Shape) -> tuple[str, list[str]]:
    """A program without what is proved of it, nor how its modules are called."""
    writer = _Writer(prove=False)
    nodes = _describe(normal_form(program, shape), tuple(shape), "program", writer)
    names = {name: f"a{i}" for i, name in enumerate(writer.arrays)}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: renamed(v) for k, v in value.items() if k not in ("lip", "rule")}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    return json.dumps(renamed(nodes)), [_digest(array) for array in writer.arrays.values()]


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


class _Sums(Analysis):
    """An analysis that notices where a sum of numbers on a grid is rounded.

    Numbers of float64 are multiples of 2⁻¹⁰⁷⁴.  To round such a sum to a grid again makes its error small, but
    not the same in any order.
    """

    inexact = False

    def are_exact(self, program: nn.Module, shape: Shape, sizes: Tensor) -> bool:
        """Whether no sum of a program is rounded, on inputs of these norms."""
        self.inexact = False
        self(program, shape, Ball(norm=sizes, grid=1074))
        return not self.inexact

    def move(self, ball: Ball, *args: Any, **fields: Any) -> Ball:
        after = super().move(ball, *args, **fields)
        self.inexact |= ball.grid is not None and after.grid is None
        return after


def _of_head(certificate: Any, analysis: Analysis, sizes: Tensor) -> Tensor:
    """What the last matrix alone rounds, for inputs of these norms, with shape (B,)."""
    *before, head = certificate.program
    shape = certificate.shape
    ball = Ball(norm=sizes)
    for module in before:
        ball, shape = analysis(module, shape, ball), analysis.output_shape(module, shape)
    alone = analysis(head, shape, Ball(norm=ball.norm)).error
    return torch.as_tensor(alone, dtype=torch.float64).expand(len(sizes))


def _room(exact: bool) -> float:
    """By how much errors of rounding are enlarged: those of exact programs are known, but for rounding."""
    return 1 + 2.0**-10 if exact else _ROOM


def _radii(
    certificate: Any,
    network: list[Node],
    analysis: "_Sums",
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
) -> tuple[Tensor, bool]:
    """Radii from the bounds in the file, with room, and whether the program is exact at all these images."""
    classes, head = certificate.num_classes, certificate.program[-1]
    diagonal = math.sqrt(math.prod(certificate.shape))
    slopes = row_distances(head.weight) * _product(network[:-1]) * _NEAR
    sizes = norms(images)
    known = certificate.radii_of(logits, labels, images=images)
    around = known.clamp(0, diagonal) + 2.0**-100
    reach = (sizes + around) * (1 + 2.0**-40)
    exact = analysis.are_exact(certificate.program, certificate.shape, reach)
    errors = certificate.errors(labels, sizes) + certificate.errors(labels, sizes, around)
    if not exact:  # a checker bounds what the last matrix rounds as a whole
        errors = errors + _of_head(certificate, analysis, reach)[:, None]
    margins = logits.gather(1, labels[:, None]) - logits
    quotients = (margins * (1 - 8 * U) - errors * _room(exact)) / (slopes[labels] * (1 + 8 * U))
    quotients[slopes[labels] == 0] = math.inf
    constant = (margins - errors * _room(exact) <= 0) & (slopes[labels] == 0)
    quotients[constant] = 0.0
    own = torch.arange(classes) == labels[:, None]
    quotients = quotients.masked_fill(own, math.inf).amin(dim=1) * (1 - 2.0**-30)
    right = quotients.nan_to_num(0.0).clamp(0, diagonal * (1 - 8 * U))
    return torch.minimum(right, around).where(known > 0, 0.0), exact
