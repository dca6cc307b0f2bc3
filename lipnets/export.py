"""The same function in plain modules, whose weights are stored and not computed."""

__all__ = ["export"]

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .bounds import Shape, fake_forward, without_autocast
from .casting import cast
from .program import lower
from .snapping import exact


@torch.no_grad()
def export(
    model: nn.Module,
    shape: Shape | None = None,
    *,
    program: Literal["plain", "float64", "exact"] = "plain",
    weights: Literal["float16", "bfloat16", "int8"] | None = None,
) -> nn.Module:
    """Copies a model in evaluation mode, with the weights that its parametrizations give.

    Parametrized layers become the layers of `torch.nn` that they specialize: the outputs and the
    certificate are the same, to the bit.  Activations and combinators that torch.nn lacks stay the
    modules they are.  The model itself is left as it is.

    Layers that compute their weights in each forward, because they depend on the size of images,
    have a method `materialize(shape)`: with the shape of an example given, such a layer is replaced
    by what that returns, the same function at that size with its weights stored.

    What is exported is a network like any other: `lipnets.certify` proves its bound from its weights.

    Arguments:
        model: Any module, in either mode.
        shape: The shape of one example, without batch dimension; programs other than "plain" need it.
        program: "plain" for modules as above, in the dtype of the model; "float64" for the program
            that is certified, in the operations of `lipnets.program`; "exact" for a float64 program with
            weights and activations on grids, whose logits are the same, to the bit, for any size of
            batch, number of threads, order of sums and library: `lipnets.snapping`.
        weights: A format, "float16", "bfloat16" or "int8", that weights are rounded to first: what
            is returned holds the rounded numbers, in the dtype of the model: `lipnets.casting`.

    Returns:
        The copy, in evaluation mode, which shares no tensor with the model.

    Raises:
        ValueError: If an argument is none of these, if the shape is missing, or if weights overflow.
        NotCertifiedError: If the exact program was asked for, and an operation is exact on no grid.

    Example:
        >>> layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4))
        >>> plain = export(layer)
        >>> type(plain), torch.equal(plain.weight, layer.weight)
        (<class 'torch.nn.modules.linear.Linear'>, True)
    """
    plain = copy.deepcopy(model).eval()
    with without_autocast(plain):
        for module in plain.modules():
            if parametrize.is_parametrized(module):
                _materialize(module)
        if shape is not None:
            plain = _sized(plain, shape)
    if weights is not None:
        cast(plain, weights)
    if program == "plain":
        return plain
    if program not in ("float64", "exact"):
        raise ValueError(f"'program' should be plain, float64 or exact, got {program!r}.")
    if shape is None:
        raise ValueError(f"The {program} program is for one size of images: give its 'shape'.")
    lowered = lower(plain.double(), shape)
    return exact(lowered, tuple(shape)) if program == "exact" else lowered


def _sized(model: nn.Module, shape: Shape) -> nn.Module:
    """Replaces the layers that have a method `materialize` by what it returns."""
    names = {m: name for name, m in model.named_modules() if hasattr(m, "materialize")}
    shapes: dict[nn.Module, set[Shape]] = {module: set() for module in names}

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        shapes[module].add(tuple(args[0].shape[1:]))

    handles = [module.register_forward_pre_hook(note) for module in names]
    try:
        if names:
            fake_forward(model, shape)
    finally:
        for handle in handles:
            handle.remove()
    for module, name in names.items():
        if len(shapes[module]) != 1:  # unused, or used at several sizes: it stays as it is
            continue
        materialize: Callable[[Shape], nn.Module] = getattr(module, "materialize")  # noqa: B009
        stored = materialize(*shapes[module]).eval()
        if not name:
            return stored
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, stored)
    return model


def _materialize(module: nn.Module) -> None:
    """Stores what the parametrizations of a module give.

    `torch.nn.utils.parametrize.remove_parametrizations` would break the original: copies share its
    generated class.  The base of that class is left alone by either.
    """
    names = list(module.get_submodule("parametrizations")._modules)
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module._modules["parametrizations"]
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))
