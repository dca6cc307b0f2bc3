"""Layers divided by a bound of their norm from powers of the Gram matrix, with the arguments of torch.nn."""

__all__ = ["pip_conv2d", "pip_linear"]

from dataclasses import replace

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations.pip import PIP
from ._convolution import coprime_stride, refuse_padding, start
from ._registry import Card, drop_in

_CARD = Card(
    kind="convolution",
    guarantee="1-Lipschitz",
    paper="Delattre et al., 2023",
    url="https://arxiv.org/abs/2305.16173",
    choose="For a norm below 1 without a search, where spectral normalization reaches it by one.",
)


@drop_in(nn.Conv2d, _CARD)
def pip_conv2d(conv: nn.Conv2d) -> None:
    """Builds a 1-Lipschitz convolution by dividing its kernel by a bound of its norm.

    Any stride, dilation and number of groups.  Under circular padding with a stride, at sizes of
    images that are multiples of the stride: elsewhere windows overlap where the image closes, and the
    certificate says by how much the norm exceeds 1.
    """
    refuse_padding(conv)
    start(conv)
    register_parametrization(conv, "weight", PIP(coprime_stride(conv), conv.groups))


@drop_in(nn.Linear, replace(_CARD, kind="dense"))
def pip_linear(linear: nn.Linear) -> None:
    """Builds a 1-Lipschitz linear layer by dividing its matrix by a bound of its norm."""
    nn.init.orthogonal_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    register_parametrization(linear, "weight", PIP())
