"""What a layer does to each spatial frequency, proved from above.

The external lens: a convolution on the torus maps images of one frequency to images of the same
frequency, by a matrix S(ω) for its channels.  The norm of that matrix is the gain of the layer
there; the largest gain over a band of frequencies bounds what the layer does to any perturbation
confined to the band, and the largest of all is its norm.  A layer that keeps each s-th pixel folds
frequencies: those that differ by multiples of N / s become one, and their gains add in squares.
"""

__all__ = [
    "Gains",
    "band_gains",
    "conv_gains",
    "frequency_gains",
    "gain_rule",
    "keeps_frequencies",
]

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..bounds import (
    NotCertifiedError,
    Shape,
    chain,
    class_name,
    forward_owner,
    output_shape,
    refuse_inplace,
    refuse_unknown,
    without_autocast,
)
from ..convolutions import filtered_conv_gains
from ..linalg import U, mul_up, sqrt_up
from ..rules import (
    lipschitz,
    refuse_stale,
)  # with all rules of torch.nn, which may follow in a network
from ._sizes import pair
from .concat import Concat
from .residual import Residual
from .scale import Scale
from .standardize import Standardize

Size = tuple[int, int]
Gains = Tensor | tuple[Tensor, Size]
G = TypeVar("G", bound=Callable[..., Gains])
_GAINS: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any, Size], Gains]]] = {}
_UP = 1 + 8 * U  # a few operations on numbers that are not negative


def gain_rule(*owners: type[nn.Module]) -> Callable[[G], G]:
    """Registers the decorated function as the gains of the `forward` that `owners` define.

    The function takes a module and the size (H, W) of images, and returns a tensor of shape (H, W)
    in float64; for layers that fold frequencies also the strides (s, t), divisors of H and W: an
    image of frequency (j, k) is then mapped to one of frequency (j mod H / s, k mod W / t), of H / s
    × W / t pixels.  The docstring of the function is its proof.
    """

    def register(fn: G) -> G:
        for owner in owners:
            if owner in _GAINS:
                raise ValueError(f"{owner.__name__} already has gains, {_GAINS[owner][1]}.")
            _GAINS[owner] = (vars(owner)["forward"], fn)
        return fn

    return register


def frequency_gains(module: nn.Module, size: Size) -> Tensor:
    """Bounds the gain of a layer at each spatial frequency of images of a size.

    Arguments:
        module: A layer that keeps frequencies apart, or folds them, in evaluation mode; or an
            `nn.Sequential` of such layers.
        size: The height and width of its input.

    Returns:
        Upper bounds of the norm of the linear part of the layer on images of one frequency, with
        shape (H, W), in the order of `torch.fft`.  The largest over a set of frequencies bounds the
        layer on all images confined to the set, unless it folds frequencies: see `band_gains`.

    Raises:
        NotCertifiedError: If the layer does not map images of one frequency to such images.
    """
    return _gains(module, size)[0]


def band_gains(module: nn.Module, shape: Shape, edges: Sequence[float]) -> Tensor:
    """Bounds how much a module enlarges perturbations confined to a radial band of frequencies.

    ‖f(x + p) − f(x)‖ ≤ G ‖p‖ for all images x and all p whose frequencies are in the band, with one
    number G for each band: for a layer with gains per frequency, or an `nn.Sequential` that begins
    with such layers.

    *Proof.*  Frequencies that fold into one, Ω, are mapped to orthogonal subspaces of images for
    different Ω, and within one ‖Σ_ω T p_ω‖ ≤ Σ g(ω) ‖p_ω‖ ≤ √(Σ g(ω)²) ‖p‖: G is the largest of these
    roots over Ω, the sum running over the frequencies of Ω in the band.  The layers that follow
    multiply it by their Lipschitz constant.

    Arguments:
        module: The module, in evaluation mode.
        shape: The shape (C, H, W) of one example.
        edges: The radii between bands, in cycles per pixel, increasing.

    Returns:
        The bounds, one more than there are edges, of radii [0, e₁), [e₁, e₂), ...; 0 where no
        frequency of the size is in a band.

    Raises:
        NotCertifiedError: If the module, or its first layer, has no gains per frequency.
        ValueError: If edges do not increase, or the module does not take images of this shape.
    """
    if len(shape) != 3 or any(a >= b for a, b in pairwise(edges)):
        raise ValueError(
            f"There should be images of shape (C, H, W) and edges that increase, got {tuple(shape)} "
            f"and {tuple(edges)}."
        )
    size = (shape[1], shape[2])
    head, tail = _split(module, shape)
    (gains, strides), outputs = _gains(head, size), output_shape(head, shape)
    factor = 1.0 if tail is None else lipschitz(tail, outputs).value
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    radius = torch.hypot(rows[:, None], columns)
    found = []
    for low, high in zip([0.0, *edges], [*edges, math.inf], strict=True):
        inside = gains * ((radius >= low) & (radius < high))
        folded = inside.unflatten(1, (strides[1], -1)).unflatten(0, (strides[0], -1))
        if strides == (1, 1):
            found.append(mul_up(folded.max().item(), factor))
        else:
            terms = strides[0] * strides[1]
            squares = folded.square().sum(dim=(0, 2)).max().item() * (1 + 2 * (terms + 4) * U)
            found.append(mul_up(sqrt_up(squares), factor))
    return torch.tensor(found, dtype=torch.float64)


def conv_gains(weight: Tensor, groups: int, dilation: tuple[int, ...], gain: Tensor) -> Tensor:
    """Bounds of g(ω) ‖S(ω)‖ for a convolution on the torus: theorem C1 of `convolutions`.

    Groups are blocks of S(ω); a dilated kernel is one with zeros in between; a shift of the kernel
    by the padding multiplies S(ω) by a phase.

    Arguments:
        weight: The kernel, with shape (O, I / groups, K, L).
        groups: The number of groups of channels.
        dilation: The dilation along each axis.
        gain: The factors g(ω) ≥ 0, with shape (H, W).

    Returns:
        The bounds, with shape (H, W), in float64 on the CPU.
    """
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    kernel = weight.detach().new_zeros(*weight.shape[:2], *reach)
    kernel[:, :, :: dilation[0], :: dilation[1]] = weight.detach()
    parts = [filtered_conv_gains(group, gain) for group in kernel.chunk(groups)]
    return torch.stack(parts).amax(dim=0)


def keeps_frequencies(conv: nn.Conv2d) -> bool:
    """Whether a convolution has stride 1, and circular padding that keeps the size of images."""
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    padding = [0, 0] if conv.padding == "valid" else conv.padding
    same = conv.padding == "same" or [2 * int(p) for p in padding] == reach
    circular = conv.padding_mode == "circular" or not any(reach)
    return conv.stride == (1, 1) and circular and same


@torch.no_grad()
def _gains(module: nn.Module, size: Size) -> tuple[Tensor, Size]:
    owner = forward_owner(type(module))
    if owner not in _GAINS:
        raise NotCertifiedError(
            f"{class_name(module)} has no proved gain per frequency: convolutions on the torus do, "
            "with circular padding, and maps that act on all pixels alike."
        )
    forward, gains = _GAINS[owner]
    refuse_unknown(module, owner, forward)
    with without_autocast(module):
        found = gains(module, size)
    return found if isinstance(found, tuple) else (found, (1, 1))


def _split(module: nn.Module, shape: Shape) -> tuple[nn.Module, nn.Module | None]:
    """The first layers of a network, which have gains per frequency, and the others."""
    children = [child for _, child in chain(module)]
    if not children:
        return module, None
    refuse_unknown(module, nn.Sequential, nn.Sequential.forward)
    for count, child in enumerate(children):
        if inner := [each for _, each in chain(child)]:
            refuse_unknown(child, nn.Sequential, nn.Sequential.forward)
            children[count : count + 1] = inner
            return _split(nn.Sequential(*children).eval(), shape)
        try:
            _gains(child, (shape[1], shape[2]))
        except NotCertifiedError:
            if count == 0:
                raise
            return nn.Sequential(*children[:count]).eval(), nn.Sequential(*children[count:]).eval()
        shape = output_shape(child, shape)
    return module, None


def _everywhere(value: float, size: Size) -> Tensor:
    return torch.full(size, value, dtype=torch.float64)


@gain_rule(nn.Conv2d)
def _convolution(module: nn.Conv2d, size: Size) -> Gains:
    """‖S(ω)‖, over √(st) with strides s and t that divide the size.

    Without stride: `conv_gains`.  With stride s | N, each s-th pixel of the convolution on the torus
    remains: of an image S(ω)v e^{2πiω·x} of one frequency one with the amplitude S(ω)v, on a share
    1 / st of the pixels.  A window of at most s pixels, without padding, never meets the edge, so
    that any padding mode is circular.
    """
    refuse_stale(module)
    stride = (module.stride[0], module.stride[1])
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    unpadded = module.padding == "valid" or module.padding == (0, 0)
    inside = unpadded and all(r <= s for r, s in zip(reach, stride, strict=True))
    padding = module.padding if isinstance(module.padding, str) else tuple(map(int, module.padding))
    circular = module.padding_mode == "circular" and (
        padding == "same" or list(padding) == [(r - 1) / 2 for r in reach]
    )
    divides = not any(n % s for n, s in zip(size, stride, strict=True))
    if not (divides and (inside or circular)):
        raise NotCertifiedError(
            "A convolution keeps frequencies apart under circular padding 'same', with strides that "
            f"divide the size {size}; got padding {module.padding} ('{module.padding_mode}'), "
            f"kernel size {module.kernel_size}, stride {module.stride} and dilation "
            f"{module.dilation}."
        )
    factor = math.sqrt(1 / math.prod(stride)) * _UP if stride != (1, 1) else 1.0
    gain = _everywhere(factor, size)
    return conv_gains(module.weight, module.groups, module.dilation, gain), stride


@gain_rule(nn.AvgPool2d)
def _average_pool(module: nn.AvgPool2d, size: Size) -> Gains:
    """The convolution of each channel with a window of constants, without overlap or padding.

    Each constant is within u of the quotient, in which the sum of moduli of a row is 1: the slack.
    """
    kernel, stride = (pair(value) for value in (module.kernel_size, module.stride))
    divides = not any(n % s for n, s in zip(size, stride, strict=True))
    if kernel != stride or pair(module.padding) != (0, 0) or not divides:
        raise NotCertifiedError(
            "Average pooling keeps frequencies apart with windows side by side, without padding, "
            f"that fill the size {size}; got {module}."
        )
    count = module.divisor_override or math.prod(kernel)
    window = torch.full((1, 1, *kernel), 1 / abs(count), dtype=torch.float64)
    gain = _everywhere(math.sqrt(1 / math.prod(stride)) * _UP, size)
    exact = 8 * U * math.prod(kernel) / abs(count)
    return conv_gains(window, 1, (1, 1), gain) + exact, stride


@gain_rule(nn.PixelUnshuffle)
def _pixel_unshuffle(module: nn.PixelUnshuffle, size: Size) -> Gains:
    """Keeps the norm; each phase of an image of one frequency is one of that frequency, folded."""
    factor = module.downscale_factor
    return _everywhere(1.0, size), (factor, factor)


@gain_rule(
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.ChannelShuffle,
    Scale,
)
def _pointwise(module: nn.Module, size: Size) -> Gains:
    """Acts on all pixels alike and linearly, up to a constant: the constant, at any frequency."""
    return _everywhere(lipschitz(module, (1, *size)).value, size)


@gain_rule(_BatchNorm)
def _batch_norm(module: _BatchNorm, size: Size) -> Gains:
    """Acts on all pixels alike, in evaluation mode."""
    return _everywhere(lipschitz(module, (module.num_features, *size)).value, size)


@gain_rule(Standardize)
def _standardize(module: Standardize, size: Size) -> Gains:
    """Divides all pixels of a channel alike; more channels than the image has are refused."""
    return _everywhere(lipschitz(module, (len(module.std), *size)).value, size)


@gain_rule(nn.Sequential)
def _sequential(module: nn.Sequential, size: Size) -> Gains:
    """A layer maps images of frequency ω to images of one frequency, which the next layer maps."""
    total, strides = _everywhere(1.0, size), (1, 1)
    for child in module:
        gains, (s, t) = _gains(child, (size[0] // strides[0], size[1] // strides[1]))
        total = total * gains.repeat(*strides) * _UP
        strides = (strides[0] * s, strides[1] * t)
    return total, strides


@gain_rule(Residual)
def _residual(module: Residual, size: Size) -> Gains:
    """‖p + f(p)‖ ≤ (1 + g(ω)) ‖p‖ for a branch that keeps frequencies; gains of a shortcut add too.

    With strides, branch and shortcut map an image of one frequency to one of the same, folded.
    """
    refuse_inplace(module)
    gains, strides = _gains(module.branch, size)
    straight = (torch.ones_like(gains), (1, 1))
    more, others = straight if module.shortcut is None else _gains(module.shortcut, size)
    if strides != others:
        raise NotCertifiedError(
            "The branch of a Residual should have the stride of its shortcut, and keep the size of "
            f"its input without one; got {strides} beside {others}."
        )
    return (more + gains) * _UP, strides


@gain_rule(Concat)
def _concat(module: Concat, size: Size) -> Gains:
    """√Σg² of branches on one input."""
    refuse_inplace(module)
    gains, strides = zip(*(_gains(branch, size) for branch in module.branches), strict=True)
    if len(set(strides)) > 1:
        raise NotCertifiedError(f"The branches of a Concat should have one stride, got {strides}.")
    squares = torch.stack(gains).square().sum(dim=0)
    return squares.sqrt() * (1 + 2 * (len(gains) + 8) * U), strides[0]
