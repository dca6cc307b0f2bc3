"""Lenses: the matrices in a weight whose norms are followed, linear functions of the weight.

References:
    | The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408

The norm of a convolution on a torus is the largest of those of its symbol S(θ) = Σ_k K_k e^{iθ·k}, over the
frequencies θ there.  With a stride, each column is there once for each phase.
"""

__all__ = ["Convolution", "Dense", "Lens", "band_edges", "highest"]

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .singular import Top, top

_LARGEST = 32  # points of a torus along an axis: the symbol is smooth, see `Convolution`
_RANKING = 8  # steps of power iteration that rank frequencies
_FINALISTS = 4  # frequencies that are decomposed to find the highest
_CHUNK = 2**22  # complex numbers of symbols that are in memory at once


class Lens(Protocol):
    """Shows a weight as one matrix at each of several places."""

    @property
    def count(self) -> int:
        """The number of places."""
        ...

    def matrices(self, weight: Tensor, places: Tensor) -> Tensor:
        """The matrices at some places (F,), with shape (F, m, n): linear in the weight."""
        ...

    def norms(self, weight: Tensor) -> Tensor:
        """Estimates of the norms at all places, with shape (count,), to a few per cent."""
        ...

    def around(self, place: int) -> Tensor:
        """The places beside one, itself first."""
        ...

    def folded(self, places: Tensor) -> Tensor:
        """Of each place and of the one that has the same norm always, the first."""
        ...


class Dense:
    """Shows a weight as the matrix of its outputs by everything else: the one of a linear layer.

    Of the kernel of a convolution this is the reshaped kernel, whose norm bounds nothing.
    """

    count = 1

    def matrices(self, weight: Tensor, places: Tensor) -> Tensor:
        """The matrix, with shape (1, O, I), however often it is asked for."""
        return weight.flatten(1).double().expand(len(places), -1, -1)

    def norms(self, weight: Tensor) -> Tensor:
        """The norm, with shape (1,)."""
        return torch.linalg.matrix_norm(weight.flatten(1).double(), ord=2)[None]

    def around(self, place: int) -> Tensor:
        """Itself."""
        return torch.tensor([place])

    def folded(self, places: Tensor) -> Tensor:
        """Itself."""
        return places


class Convolution:
    """Shows a kernel by its symbol: a place is a frequency of a torus, of one group of channels.

    A symbol is a trigonometric polynomial of low degree: where the torus of the image has more than
    32 points along an axis, one of about so many is taken, of which the norm is less by a factor of
    cos(π degree / 64) at most, along an axis.

    Arguments:
        shape: The shape of the kernel, (O, I / groups, *K).
        torus: The number of pixels along each axis, see `torus_of`.
        stride: The stride along each axis.
        dilation: The dilation along each axis.
        groups: The number of groups of channels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        torus: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
    ) -> None:
        self.shape, self.groups = tuple(shape), groups
        self.stride, self.dilation = tuple(stride), tuple(dilation)
        self.points = tuple(
            max(1, math.ceil(min(n, _LARGEST) / s)) for n, s in zip(torus, stride, strict=True)
        )
        taps = itertools.product(*map(range, self.shape[2:]))
        moved = [
            [divmod(k * d, s) for k, d, s in zip(at, dilation, stride, strict=True)] for at in taps
        ]
        phases = sorted({tuple(a for _, a in each) for each in moved})
        self._offsets = torch.tensor([[t for t, _ in each] for each in moved]).double()  # (K, D)
        self._phases = [phases.index(tuple(a for _, a in each)) for each in moved]
        self._count_phases = len(phases)

    @property
    def count(self) -> int:
        """The number of groups times that of frequencies."""
        return self.groups * math.prod(self.points)

    @cached_property
    def angles(self) -> Tensor:
        """The frequencies θ of places of the first group, in radians, with shape (N, D)."""
        axes = [2 * torch.pi * torch.arange(n).double() / n for n in self.points]
        return torch.cartesian_prod(*axes).view(-1, len(axes))

    @cached_property
    def cycles(self) -> Tensor:
        """Their distance from zero in cycles per pixel, with shape (N,); of aliases, the lowest."""
        turns = self.angles / (2 * torch.pi)
        return ((turns - turns.round()) / torch.tensor(self.stride)).norm(dim=1)

    def within(self, low: float, high: float) -> Tensor:
        """Whether a place is in a band of frequencies, [low, high), with shape (count,).

        A band up to the corner of the spectrum includes the corner.
        """
        corner = math.sqrt(len(self.points)) / 2
        # Frequencies are rounded; none but the same are as close as this.
        upper = high + 1e-9 if high > corner - 1e-9 else high - 1e-9
        return ((self.cycles >= low - 1e-9) & (self.cycles < upper)).repeat(self.groups)

    def matrices(self, weight: Tensor, places: Tensor) -> Tensor:
        """The symbols at some places (F,), with shape (F, O / groups, I A / groups): A phases."""
        count = math.prod(self.points)
        kernels = self._kernels(weight)
        angles = self.angles[places % count]
        if self.groups == 1:
            return self._symbols(kernels[0].double(), angles)
        parts = zip(kernels[places // count].double(), angles, strict=True)
        return torch.cat([self._symbols(kernel, angle[None]) for kernel, angle in parts])

    def wave(self, place: int) -> tuple[int, Tensor, Tensor]:
        """What the symbol at a place makes of a kernel: its group, and of each tap what it is multiplied
        with and its phase, with shapes (K,).
        """
        group, at = divmod(place, math.prod(self.points))
        return group, self._waves(self.angles[at]), torch.tensor(self._phases)

    def norms(self, weight: Tensor) -> Tensor:
        """Estimates from below of the norms at all places: some steps of power iteration each."""
        found = weight.new_zeros(self.groups, math.prod(self.points))
        first, mirror = self._half
        for group, kernel in enumerate(self._kernels(weight).float()):
            size = max(1, _CHUNK // kernel.numel())
            values = [self._ranked(kernel, part) for part in self.angles[first].split(size)]
            found[group] = torch.cat(values)[mirror]
        return found.flatten()

    def around(self, place: int) -> Tensor:
        """The place and its neighbours on the torus."""
        group, at = divmod(place, math.prod(self.points))
        index = [int(i) for i in torch.unravel_index(torch.tensor(at), self.points)]
        near = {}
        for shift in itertools.product((0, 1, -1), repeat=len(index)):
            moved = tuple((i + s) % n for i, s, n in zip(index, shift, self.points, strict=True))
            near[moved] = None
        strides = [math.prod(self.points[axis + 1 :]) for axis in range(len(index))]
        flat = [sum(i * s for i, s in zip(each, strides, strict=True)) for each in near]
        return torch.tensor(flat) + group * math.prod(self.points)

    def folded(self, places: Tensor) -> Tensor:
        """Of each pair ±θ the first: the symbols of a real kernel there are conjugate."""
        count = math.prod(self.points)
        first, mirror = self._half
        return places // count * count + first[mirror[places % count]]

    @cached_property
    def _half(self) -> tuple[Tensor, Tensor]:
        """Of each pair ±θ the first place, and where among these each place is found."""
        every = torch.cartesian_prod(*(torch.arange(n) for n in self.points)).view(
            -1, len(self.points)
        )
        sizes = torch.tensor(self.points)
        strides = torch.tensor([math.prod(self.points[a + 1 :]) for a in range(len(sizes))])
        opposite = ((-every % sizes) * strides).sum(dim=1)
        leader = torch.minimum(torch.arange(len(every)), opposite)
        first, mirror = leader.unique(return_inverse=True)
        return first, mirror

    def _kernels(self, weight: Tensor) -> Tensor:
        """Kernels of the groups, with shape (G, O / G, I / G, K)."""
        return weight.detach().reshape(self.groups, -1, weight.shape[1], len(self._offsets))

    def _waves(self, angles: Tensor) -> Tensor:
        phases = angles @ self._offsets.mT
        return torch.polar(torch.ones_like(phases), phases)

    def _symbols(self, kernel: Tensor, angles: Tensor) -> Tensor:
        """The symbols of a kernel (O, I, K) at angles (F, D), with shape (F, O, I A)."""
        phase = torch.tensor(self._phases)
        waves = self._waves(angles)[:, None] * (phase == torch.arange(self._count_phases)[:, None])
        sums = torch.view_as_real(waves).movedim(-1, 0).to(kernel.device, kernel.dtype)
        real, imaginary = (sums @ kernel.flatten(0, 1).mT).unbind()  # (F, A, O I) of real numbers
        symbols = torch.complex(real, imaginary).unflatten(-1, kernel.shape[:2])
        if self._count_phases == 1:
            return symbols[:, 0]
        return symbols.movedim(1, -1).flatten(2)

    def _ranked(self, kernel: Tensor, angles: Tensor) -> Tensor:
        """Norms of the symbols of a kernel (O, I, K) at angles (F, D), from below."""
        symbols = self._symbols(kernel, angles)
        start = torch.arange(1, symbols.shape[2] + 1, device=kernel.device).float()
        vectors = torch.polar(torch.ones_like(start), start.square()).expand(len(angles), -1)
        vectors = vectors[..., None]
        for _ in range(_RANKING):
            vectors = ((symbols @ vectors).mH @ symbols).mH  # no copy of the adjoint is made
            vectors = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(
                1e-30
            )
        return torch.linalg.vector_norm(symbols @ vectors, dim=(1, 2))


def highest(lens: Lens, weight: Tensor) -> tuple[int, Top]:
    """The place where the norm is largest, and what is there.

    Places are ranked by estimates, and the first of them decomposed: what is found is a norm in any case,
    and mostly the largest.
    """
    if lens.count == 1:
        return 0, top(lens.matrices(weight, torch.tensor([0])))
    finalists = lens.norms(weight).topk(min(_FINALISTS, lens.count)).indices.cpu()
    tops = top(lens.matrices(weight, finalists))
    best = int(tops.value.argmax())
    place = finalists[best : best + 1]
    return int(place), top(lens.matrices(weight, place))


def band_edges(bands: int, axes: int = 2) -> list[float]:
    """The edges of bands of frequencies, in cycles per pixel: of one width up to 1/2.

    Beyond are the corners of the spectrum, up to √axes / 2, which the last band includes.

    Arguments:
        bands: The number of bands.
        axes: The number of axes of an image.

    Raises:
        ValueError: If the number of bands is less than 1.

    Example:
        >>> [round(edge, 3) for edge in band_edges(4)]
        [0.0, 0.125, 0.25, 0.375, 0.707]
    """
    if bands < 1:
        raise ValueError(f"'bands' should be at least 1, got {bands}.")
    return [i / (2 * bands) for i in range(bands)] + [math.sqrt(axes) / 2]
