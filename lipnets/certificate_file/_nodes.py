"""Operations as nodes: who writes them, who builds them, and what a file claims a little less of.

**Room.**  A checker proves the same theorems with other roundings.  The file claims a little less than
was proved: bounds of norms grow by 2⁻²⁷ of themselves (what follows from them by 2⁻³⁶), and radii are
those of errors `ROOM` times as large.
"""

__all__ = [
    "NEAR",
    "PAD",
    "ROOM",
    "Arrays",
    "Node",
    "Reader",
    "Writer",
    "describe",
    "describe_chain",
    "form",
    "product",
    "restore",
    "restore_chain",
    "restored",
]

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..bounds import Shape, forward_owner, lipschitz
from ..normal_form import shape_behind

Node = dict[str, Any]
Arrays = dict[str, np.ndarray]

PAD = 1 + 2.0**-27  # of norms, for which a checker has another proof
NEAR = 1 + 2.0**-36  # of what follows from them
ROOM = 8.0


class Writer:
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
        return {"lip": bound.value * (PAD if norm else NEAR), "rule": bound.rule}

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


Describe = Callable[[Any, Shape, str, Writer], Node]
_FORMS: dict[type[nn.Module], Describe] = {}


def form(*owners: type[nn.Module]) -> Callable[[Describe], Describe]:
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
    writer = Writer()
    return describe_chain(program, tuple(shape), "program", writer), writer.arrays


def describe_chain(program: nn.Module, shape: Shape, path: str, writer: Writer) -> list[Node]:
    nodes = []
    for name, module in program._modules.items():  # noqa: SLF001 - named_children skips repetitions
        assert module is not None
        form = _FORMS[forward_owner(type(module))]
        node = form(module, shape, f"{path}.{name}", writer)
        nodes.append(node if "lip" in node else node | writer.proved(module, shape))
        shape = shape_behind(module, shape)
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
        return restore_chain(nodes, Reader(arrays), tuple(shape)).double().eval()
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"a node describes no operation: {error!r}") from error


class Reader:
    """The arrays of a file, as tensors of their own."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __call__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(self.arrays[name].copy())
        return tensor.double() if tensor.is_floating_point() else tensor


Restore = Callable[[Node, Reader, Shape], nn.Module]
_RESTORE: dict[str, Restore] = {}


def restored(*names: str) -> Callable[[Restore], Restore]:
    def register(fn: Restore) -> Restore:
        _RESTORE.update(dict.fromkeys(names, fn))
        return fn

    return register


def restore_chain(nodes: list[Node], read: Reader, shape: Shape) -> nn.Sequential:
    built = nn.Sequential()
    for node in nodes:
        built.append(_RESTORE[node["op"]](node, read, shape).double().eval())
        shape = shape_behind(built[-1], shape)
    return built


def product(nodes: list[Node]) -> float:
    """The constant of a chain of operations, with room."""
    return math.prod((node["lip"] for node in nodes), start=1.0) * NEAR
