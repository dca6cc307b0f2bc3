"""Programs rewritten in the few operations that certificate files know.

`normal_form` takes a program of `program`'s operations and gives one with the same real function, but for
roundings of what it precomputes, made of a chain of

    gathers, convolutions in circles (matrices on vectors), piecewise linear and smooth functions, sorts and
    norms of groups of channels, averages of tokens, blocks, branches, and roundings.

A file's certificate is of the rewritten program: its logits, bounds and radii are those of what is written.
Were a rewriting wrong, it would be a true certificate of another program, which the tests compare.
"""

__all__ = ["conv", "filled", "normal_form", "shape_behind"]

import torch
from torch import nn

from ..bounds import Shape, output_shape
from . import _activations, _blocks, _containers, _convolutions, _fourier, _pooling
from ._linear import conv, filled, linear
from ._rewriting import chain_of, shape_behind


@torch.no_grad()
def normal_form(program: nn.Module, shape: Shape) -> nn.Sequential:
    """Rewrites a program of operations.

    Arguments:
        program: The program, in float64 and in evaluation mode, as `lower` gives it.
        shape: The shape of one example, without batch dimension.

    Returns:
        A chain of operations that ends in a linear layer, in evaluation mode.

    Raises:
        NotCertifiedError: If an operation has no form in files.
    """
    chain = chain_of(program, tuple(shape))
    outputs = output_shape(chain.eval(), tuple(shape))
    if len(outputs) == 1 and (not len(chain) or type(chain[-1]) is not nn.Linear):
        chain.append(linear(torch.eye(outputs[0], dtype=torch.float64)))  # whose products are exact
    return chain.double().eval()
