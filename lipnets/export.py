"""The same function in plain modules, whose weights are stored and not computed."""

__all__ = ["export"]

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from .bounds import without_autocast


@torch.no_grad()
def export(model: nn.Module) -> nn.Module:
    """Copies a model in evaluation mode, with the weights that its parametrizations give.

    Parametrized layers become the layers of `torch.nn` that they specialize: the outputs and the
    certificate are the same, to the bit.  Activations and combinators that torch.nn lacks stay the
    modules they are.  The model itself is left as it is.

    Arguments:
        model: Any module, in either mode.

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
    return plain


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
