"""What parametrizations of the kernels of convolutions have in common."""

__all__ = ["OfKernels"]

from collections.abc import Sequence

from torch import nn


class OfKernels(nn.Module):
    """A parametrization that knows how a convolution uses its kernel.

    Arguments:
        stride: The stride along each axis, divided by what it shares with the dilation; 1 where it
            is left out.
        groups: The number of groups of channels.
    """

    def __init__(self, stride: Sequence[int] = (), groups: int = 1) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.groups = groups

    def extra_repr(self) -> str:
        return f"stride={self.stride}, groups={self.groups}"
