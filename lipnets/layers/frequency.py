"""What a layer does to each spatial frequency, proved from above.

The external lens: a convolution on the torus maps images of one frequency to images of the same
frequency, by a matrix S(ω) for its channels.  The norm of that matrix is the gain of the layer
there; the largest gain over a band of frequencies bounds what the layer does to any perturbation
confined to the band, and the largest of all is its norm.
"""

__all__ = ["frequency_gains", "gain_rule"]

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, class_name, refuse_unknown, without_autocast
from ..convolutions import filtered_conv_gains

Size = tuple[int, int]
G = TypeVar("G", bound=Callable[..., Tensor])
_GAINS: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any, Size], Tensor]]] = {}


def gain_rule(*owners: type[nn.Module]) -> Callable[[G], G]:
    """Registers the decorated function as the gains of the `forward` that `owners` define.

    The function takes a module and the size of images, and returns a tensor of shape (H, W) in
    float64; its docstring is its proof.
    """

    def register(fn: G) -> G:
        for owner in owners:
            if owner in _GAINS:
                raise ValueError(f"{owner.__name__} already has gains, {_GAINS[owner][1]}.")
            _GAINS[owner] = (vars(owner)["forward"], fn)
        return fn

    return register


@torch.no_grad()
def frequency_gains(module: nn.Module, size: Size) -> Tensor:
    """Bounds the gain of a layer at each spatial frequency of images of a size.

    Arguments:
        module: A layer that is a convolution on the torus, in evaluation mode.
        size: The height and width of its input.

    Returns:
        Upper bounds of the norm of the layer on images of one frequency, with shape (H, W), in the
        order of `torch.fft`.  The largest over a set of frequencies bounds the layer on all images
        confined to the set.

    Raises:
        NotCertifiedError: If the layer is not one that keeps frequencies apart.
    """
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    if owner not in _GAINS:
        raise NotCertifiedError(
            f"{class_name(module)} has no proved gain per frequency: convolutions on the torus do, "
            "with circular padding and without stride."
        )
    forward, gains = _GAINS[owner]
    refuse_unknown(module, owner, forward)
    with without_autocast(module):
        return gains(module, size)


@gain_rule(nn.Conv2d)
def _convolution(module: nn.Conv2d, size: Size) -> Tensor:
    """‖S(ω)‖ by D1 at each frequency of the torus: theorem C1 of `convolutions`.

    A shift of the kernel by the padding multiplies S(ω) by a phase; groups are blocks of S(ω).
    """
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    padding = [0, 0] if module.padding == "valid" else module.padding
    same = module.padding == "same" or [2 * int(p) for p in padding] == reach
    circular = module.padding_mode == "circular" and same
    if (any(reach) and not circular) or module.stride != (1, 1) or module.dilation != (1, 1):
        raise NotCertifiedError(
            "A convolution keeps frequencies apart under circular padding 'same', without stride; "
            f"got padding {module.padding} ('{module.padding_mode}'), stride {module.stride} and "
            f"dilation {module.dilation}."
        )
    ones = torch.ones(size, dtype=torch.float64)
    groups = module.weight.chunk(module.groups)
    return torch.stack([filtered_conv_gains(kernel, ones) for kernel in groups]).amax(dim=0)
