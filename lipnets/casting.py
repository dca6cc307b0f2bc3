"""Weights rounded to fewer bits, as they are stored for deployment.

The network that computes with them is another one than the one that was trained, near to it; its
certificate is proved from its own weights, as for any network.
"""

__all__ = ["cast"]

import torch
from torch import Tensor, nn
from torch.nn.modules import conv

_FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@torch.no_grad()
def cast(module: nn.Module, weights: str) -> None:
    """Rounds the parameters of a module in place; their dtype stays.

    Arguments:
        module: A module whose weights are stored and not computed.
        weights: "float16" or "bfloat16" for all floating-point parameters; "int8" for those named
            "weight" with two axes or more: for each output, integers from −127 to 127, times its largest
            modulus over 127.

    Raises:
        ValueError: If there is no such format, or if a number is too large for it.
    """
    if weights not in (*_FORMATS, "int8"):
        known = ", ".join([*_FORMATS, "int8"])
        raise ValueError(f"'weights' should be one of {known}, got {weights!r}.")
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.is_floating_point():
                continue
            if weights in _FORMATS:
                rounded = parameter.to(_FORMATS[weights]).to(parameter.dtype)
            elif name != "weight" or parameter.ndim < 2:
                continue
            else:
                groups = owner.groups if isinstance(owner, conv._ConvTransposeNd) else 0  # noqa: SLF001
                rounded = _levels(parameter, groups)
            if not rounded.isfinite().all():
                raise ValueError(f"'{name}' holds numbers that are too large for {weights}.")
            parameter.copy_(rounded)


def _levels(weight: Tensor, groups: int) -> Tensor:
    """The nearest of 255 multiples of a scale for each output; `groups` of transposed convolutions, else 0."""
    if groups:  # (I, O / G, *K), of inputs of each group
        split = weight.unflatten(0, (groups, -1))
        peak = split.abs().amax(dim=(1, *range(3, split.ndim)), keepdim=True)
        scale = (peak / 127).expand_as(split).flatten(0, 1)
    else:
        scale = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 127
    return torch.where(scale > 0, (weight / scale).round().clamp(-127, 127) * scale, 0.0)
