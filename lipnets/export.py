"""The same function in plain modules, whose weights are stored and not computed."""

__all__ = ["export"]

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .bounds import Shape, fake_forward, without_autocast


@torch.no_grad()
def export(model: nn.Module, shape: Shape | None = None) -> nn.Module:
    """Copies a model in evaluation mode, with the weights that its parametrizations give.

    Parametrized layers become the layers of `torch.nn` that they specialize: the outputs and the
    certificate are the same, to the bit.  Activations and combinators that torch.nn lacks stay the
    modules they are.  The model itself is left as it is.

    Layers that compute their weights in each forward, because they depend on the size of images,
    have a method `materialize(shape)`: with the shape of an example given, such a layer is replaced
    by what that returns, the same function at that size with its weights stored.

    Arguments:
        model: Any module, in either mode.
        shape: The shape of one example, without batch dimension.

    Returns:
        The copy, in evaluation mode, which shares no tensor with the model.

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
    return plain


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
