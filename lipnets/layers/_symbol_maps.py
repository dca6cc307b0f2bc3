"""The maps that convolutions constrained at each frequency are built with, for images and signals."""

__all__ = ["cayley", "clip", "exponential", "polar", "reflect"]

from ..parametrizations.reflection import SymbolReflection
from ..parametrizations.symbol_cayley import SymbolCayley
from ..parametrizations.symbol_clip import SymbolClip
from ..parametrizations.symbol_exponential import SymbolExponential
from ..parametrizations.symbol_polar import SymbolPolar
from ._convolution import start_orthogonal
from .symbol_conv2d import SymbolConv2d


def cayley(conv: SymbolConv2d) -> None:
    """Constrains a layer by the Cayley map."""
    conv.constrain(SymbolCayley())


def polar(conv: SymbolConv2d) -> None:
    """Constrains a layer to polar factors, started at one tap."""
    conv.constrain(SymbolPolar())
    start_orthogonal(conv.weight, conv.geometry.stride)


def clip(conv: SymbolConv2d) -> None:
    """Constrains singular values of a layer to 1 at the most, started at one tap."""
    conv.constrain(SymbolClip())
    start_orthogonal(conv.weight, conv.geometry.stride)


def reflect(conv: SymbolConv2d) -> None:
    """Constrains a layer to block reflections of half of the larger number of channels."""
    rows, columns = _channels(conv)
    size = max(rows, columns)
    conv.constrain(SymbolReflection(rows, columns), (size, (size + 1) // 2))


def exponential(conv: SymbolConv2d) -> None:
    """Constrains a layer to exponentials of skew matrices of the larger number of channels."""
    rows, columns = _channels(conv)
    size = max(rows, columns)
    (_, top), (_, left) = conv.geometry.taps(0), conv.geometry.taps(1)
    conv.constrain(SymbolExponential(rows, columns, center=(top, left)), (size, size))


def _channels(conv: SymbolConv2d) -> tuple[int, int]:
    return conv.out_channels, conv.in_channels * conv.geometry.phases
