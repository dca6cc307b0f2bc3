"""Convolutions whose matrices S(ω), one at each spatial frequency of the image, are constrained.

A raw kernel K has the symbol S(ω) = Σ_t K_t e^{iω·(t − p)}, with p the padding.  A map constrains each
S(ω), and the layer multiplies the Fourier coefficients of the image by the result: a convolution on
the torus of the image with a kernel as large as the image.  With a stride s, the s × s phases of the
image are its channels, and each output pixel reads one pixel of the image of phases.
"""

__all__ = ["Geometry", "StoredConv2d", "SymbolConv2d", "certify_symbols", "eager"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import matrix_norms
from ..parametrizations._precision import full_precision
from ..parametrizations.symbol_map import SymbolMap
from ..rounding import Analysis, Ball, rounding_rule
from ._fourier import apply_to_parts, apply_to_spectrum, half_plane, spatial_size, waves
from ._fourier_rounding import Transform, fourier_rounding
from .frequency import gain_rule

Size = tuple[int, int]


def eager(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Leaves a function to Python where torch compiles: factorizations are nothing to compile."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType, reportArgumentType]


@dataclass(frozen=True)
class Geometry:
    """How a convolution lies on a torus, along both axes.

    Arguments:
        kernel_size: The number k of taps.
        stride: The stride s.
        padding: The number p of pixels before the image, and the number after it.
        circular: Whether the image is a torus itself, or in the corner of a larger one.
    """

    kernel_size: Size
    stride: Size
    padding: tuple[Size, Size]
    circular: tuple[bool, bool]

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "Geometry":
        """Reads the arguments of `nn.Conv2d`.

        Raises:
            ValueError: If there are groups or a dilation, a stride larger than the kernel, or a
                padding that repeats pixels.
        """
        kernel = (conv.kernel_size[0], conv.kernel_size[1])
        stride = (conv.stride[0], conv.stride[1])
        if conv.groups != 1 or any(d != 1 for d in conv.dilation):
            raise ValueError(
                "Convolutions constrained in frequency take one group and dilation 1, got "
                f"{conv.groups} groups and dilation {conv.dilation}: aol_conv2d takes both."
            )
        if any(k < s for k, s in zip(kernel, stride, strict=True)):
            raise ValueError(
                f"'kernel_size' should be at least the stride {stride}, got {kernel}: otherwise "
                "there are pixels that the kernel never meets."
            )
        if conv.padding_mode not in ("zeros", "circular"):
            raise ValueError(
                f"'padding_mode' should be 'zeros' or 'circular', got '{conv.padding_mode}'."
            )
        if conv.padding == "same":
            padding = [((k - 1) // 2, k // 2) for k in kernel]
        else:
            given = (0, 0) if conv.padding == "valid" else conv.padding
            padding = [(int(p), int(p)) for p in given]
        wraps = [k - s <= sum(p) <= k - 1 for k, s, p in zip(kernel, stride, padding, strict=True)]
        circular = conv.padding_mode == "circular"
        if circular and any(sum(p) and not fits for p, fits in zip(padding, wraps, strict=True)):
            raise ValueError(
                "Circular 'padding' should be 'same', 0, or such that an image of n pixels gives "
                f"n / stride, got {conv.padding} for kernel {kernel} and stride {stride}."
            )
        return cls(
            kernel, stride, (padding[0], padding[1]), (circular and wraps[0], circular and wraps[1])
        )

    def taps(self, axis: int) -> tuple[int, int]:
        """The number of taps of the kernel of phases, and how many of them are before the output."""
        before = math.ceil(self.padding[axis][0] / self.stride[axis])
        front = before * self.stride[axis] - self.padding[axis][0]
        return math.ceil((front + self.kernel_size[axis]) / self.stride[axis]), before

    def of_phases(self) -> "Geometry":
        """The convolution of the image of phases, without stride."""
        counts, before = zip(self.taps(0), self.taps(1), strict=True)
        pads = [(p, k - 1 - p) for p, k in zip(before, counts, strict=True)]
        return Geometry((counts[0], counts[1]), (1, 1), (pads[0], pads[1]), self.circular)

    @property
    def phases(self) -> int:
        """The number s² of phases of the image."""
        return math.prod(self.stride)

    def outputs(self, size: Size) -> Size:
        """Height and width of the output for an image of a size.

        Raises:
            ValueError: If the layer does not take images of this size.
        """
        found = [self._output(axis, length) for axis, length in enumerate(size)]
        return found[0], found[1]

    def _output(self, axis: int, length: int) -> int:
        stride, total = self.stride[axis], sum(self.padding[axis])
        if self.circular[axis] and length % stride:
            raise ValueError(
                f"On a torus the size of images should be a multiple of the stride {stride}, got "
                f"{length}: resize or crop the image, or use padding_mode='zeros'."
            )
        if self.circular[axis]:
            return length // stride
        if length + total < self.kernel_size[axis]:
            raise ValueError(
                "Padded images should be at least as large as the kernel, got size "
                f"{length} + {total} for {self.kernel_size[axis]}."
            )
        return (length + total - self.kernel_size[axis]) // stride + 1

    def period(self, size: Size) -> Size:
        """The torus: one on which no output meets the image around it, unless circular (C2)."""
        found = []
        for axis, (length, outs) in enumerate(zip(size, self.outputs(size), strict=True)):
            pixels = math.ceil(length / self.stride[axis])
            count, before = self.taps(axis)
            reach = max(pixels + before, outs + count - 1 - before)
            found.append(pixels if self.circular[axis] else reach)
        return found[0], found[1]

    def symbols(self, kernel: Tensor, period: Size) -> Tensor:
        """S(ω) for the frequencies of `half_plane`, with shape (P, O, I s²), complex.

        Arguments:
            kernel: The kernel, with shape (O, I, *kernel_size).
            period: The size of the torus.
        """
        taps, (cosines, sines) = self.of_taps(kernel), self.waves(period).to(kernel)
        flat = taps.flatten(1)
        return torch.complex(cosines @ flat, sines @ flat).unflatten(1, taps.shape[1:])

    def of_taps(self, kernel: Tensor) -> Tensor:
        """The matrices K_t of a kernel of phases, with shape (T, O, I s²)."""
        pads: list[int] = []
        for axis in (1, 0):
            count, before = self.taps(axis)
            front = before * self.stride[axis] - self.padding[axis][0]
            pads += [front, count * self.stride[axis] - front - self.kernel_size[axis]]
        phases = F.pad(kernel, pads).unflatten(3, (-1, self.stride[1]))
        phases = phases.unflatten(2, (-1, self.stride[0]))  # (O, I, T₁, s₁, T₂, s₂)
        return phases.permute(2, 4, 0, 1, 3, 5).flatten(3).flatten(0, 1)

    def waves(self, period: Size) -> Tensor:
        """Cosines and sines of ω·t for the frequencies and the matrices K_t, (2, P, T), in float64."""
        offsets = [range(-before, count - before) for count, before in (self.taps(0), self.taps(1))]
        return waves(period, *offsets)

    def convolve(
        self, x: Tensor, act: Callable[[Tensor], Tensor], *, dense: bool = False
    ) -> Tensor:
        """Applies `act` to the Fourier coefficients of the phases of images on their torus."""
        size = spatial_size(x)
        period, outs = self.period(size), self.outputs(size)
        return apply_to_spectrum(self._phases_of(x), act, period, outs, dense=dense)

    def convolve_parts(self, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        """As `convolve`, for a map of the real and imaginary parts of coefficients."""
        size = spatial_size(x)
        return apply_to_parts(self._phases_of(x), act, self.period(size), self.outputs(size))

    def _phases_of(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return x
        pads = [-x.shape[3] % self.stride[1], -x.shape[2] % self.stride[0]]
        x = F.pad(x, (0, pads[0], 0, pads[1]))
        phases = x.unflatten(2, (-1, self.stride[0])).unflatten(4, (-1, self.stride[1]))
        return phases.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


class SymbolConv2d(nn.Module):
    """Constrains the matrices of a convolution at each frequency of its images.

    Arguments are those of `nn.Conv2d`.  Under circular padding the layer is the convolution on the
    torus with the constrained symbols; under zero padding the image lies in the corner of a larger
    torus, and the output is what falls on the image: a part of that operator, 1-Lipschitz where it
    is orthogonal.  Images of any size are taken; on a torus, multiples of the stride.

    In training the constraint acts in the precision of the weights, in evaluation it is computed in
    float64 and rounded once.  `materialize` computes it once for images of a size: what
    `lipnets.export(model, shape)` does.
    """

    bias: Tensor | None
    constraint: SymbolMap

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        reference = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device="meta",  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        self.geometry = self.raw_geometry = Geometry.of(reference)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.constraint = SymbolMap()
        shape = (out_channels, in_channels, *self.geometry.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        zeros = torch.zeros(out_channels, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a kernel whose symbols have norms of about ½."""
        fan = max(self.weight.shape[:2]) * math.prod(self.weight.shape[2:])
        nn.init.normal_(self.weight, std=0.25 * fan**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return _describe(self.in_channels, self.out_channels, self.geometry)

    def constrain(self, constraint: SymbolMap, channels: Size | None = None) -> None:
        """Sets the map, and draws a raw kernel for it.

        Arguments:
            constraint: The map of symbols.
            channels: The numbers of rows and columns of the raw matrices, by default those of the
                mapped ones, O and I s².
        """
        self.constraint = constraint
        if channels is not None:
            self.raw_geometry = self.geometry.of_phases()
            shape = (*channels, *self.raw_geometry.kernel_size)
            self.weight = nn.Parameter(self.weight.new_empty(shape))
            self.reset_parameters()

    def symbols(self, size: Size) -> Tensor:
        """The constrained matrices for images of a size, with shape (P, O, I s²), complex.

        Those at the frequencies of `_fourier.half_plane(geometry.period(size))`.
        """
        kernel = self.constraint.prepare(self.weight.double())
        raw = self.raw_geometry.symbols(kernel, self.geometry.period(size))
        single = self.weight.dtype != torch.float64
        return self.constraint(raw).to(torch.complex64 if single else torch.complex128)

    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H', W')
        return self._forward(x)

    @eager
    @full_precision
    def _forward(self, x: Tensor) -> Tensor:
        if self.training:
            period = self.geometry.period(spatial_size(x))
            wide = torch.promote_types(self.weight.dtype, torch.float32)
            taps = self.raw_geometry.of_taps(self.constraint.prepare(self.weight.to(wide)))
            waves = self.raw_geometry.waves(period).to(taps)
            out = self.geometry.convolve_parts(
                x, lambda z: self.constraint.act_on_parts(taps, waves, z)
            )
        else:
            symbols = self.symbols(spatial_size(x))
            out = self.geometry.convolve(x, lambda z: z @ symbols.mT)
        return out if self.bias is None else out + self.bias[:, None, None]

    @torch.no_grad()
    def materialize(self, shape: Shape) -> "StoredConv2d":
        """The same function of images of one size, with its symbols stored."""
        size = (shape[-2], shape[-1])
        bias = None if self.bias is None else self.bias.detach().clone()
        return StoredConv2d(self.symbols(size), size, self.geometry, bias)


class StoredConv2d(nn.Module):
    """Multiplies the Fourier coefficients of images of one size by stored matrices.

    Arguments:
        symbols: The matrices at the frequencies of `_fourier.half_plane(geometry.period(size))`,
            complex, with shape (P, O, I s²).
        size: The height and width of images.
        geometry: How the convolution lies on the torus.
        bias: What is added to each channel, with shape (O,).
    """

    bias: Tensor | None

    def __init__(
        self, symbols: Tensor, size: Size, geometry: Geometry, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.size, self.geometry = size, geometry
        self.weight = nn.Parameter(torch.view_as_real(symbols.resolve_conj()).clone())
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))

    def extra_repr(self) -> str:
        channels = (self.weight.shape[2] // self.geometry.phases, self.weight.shape[1])
        return f"{_describe(*channels, self.geometry)}, size={self.size}"

    def symbols(self, size: Size) -> Tensor:
        """The stored matrices, with shape (P, O, I s²), complex.

        Raises:
            ValueError: If they are for images of another size.
        """
        if size != self.size:
            raise ValueError(
                f"The symbols stored are for images of size {self.size}, got {size}: export the "
                "model for images of that size."
            )
        return torch.view_as_complex(self.weight)

    @full_precision
    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H', W')
        symbols = self.symbols(spatial_size(x))
        out = self.geometry.convolve(x, lambda z: z @ symbols.mT, dense=True)
        return out if self.bias is None else out + self.bias[:, None, None]


def _describe(in_channels: int, out_channels: int, geometry: Geometry) -> str:
    return (
        f"{in_channels}, {out_channels}, kernel_size={geometry.kernel_size}, "
        f"stride={geometry.stride}, padding={geometry.padding}, circular={geometry.circular}"
    )


class Symbolic(Protocol):
    """A layer that multiplies Fourier coefficients by matrices, which `symbols` gives for a size.

    In evaluation its forward is `geometry.convolve(x, lambda z: z @ symbols(size).mT)` plus a bias.
    """

    geometry: Geometry

    def symbols(self, size: Size) -> Tensor: ...


@rule(StoredConv2d)
def _symbol_conv2d(module: "Symbolic", shape: Shape) -> Bound:
    """The largest ‖S(ω)‖ over the frequencies of the torus of the image.

    *Proof.*  The linear part of the module is T = C R* Re₀ S R P, of real images (`_fourier`).  P lays
    the phases of the image into a torus, each pixel to a place of its own, and C takes some places
    of it: ‖P‖ ≤ 1 and ‖C‖ ≤ 1.  R maps a real image z of the torus to its Fourier coefficients at one of
    each pair ±ω, times √2, and at the frequencies that are their own opposites, all divided by √N:
    by Parseval's equation an isometry, whose range is the sequences that are real at the latter.
    The inverse transform that is computed, the sum of Re(e^{iω·x} y(ω)) with weights 2/N and 1/N, is
    R* on that range, and drops there what is imaginary: it is R* Re₀ with ‖Re₀‖ = 1.  S multiplies the
    vector of coefficients at ω by the matrix S(ω), of norm max ‖S(ω)‖ altogether.  So ‖T‖ ≤ max ‖S(ω)‖,
    whatever the matrices are, Hermitian symmetry or none.  The bias moves all outputs alike.

    The matrices are those of the forward in evaluation: the same method with the same argument.
    `matrix_norms` bounds their norms (D1).
    """
    if len(shape) != 3:
        raise NotCertifiedError(f"Images should have shape (C, H, W), got {tuple(shape)}.")
    size = (shape[1], shape[2])
    try:
        value = _norms(module, size).max().item()
    except ValueError as error:
        raise NotCertifiedError(str(error)) from error
    return Bound(value, "largest matrix of the convolution at a frequency of the torus (C1)")


@gain_rule(StoredConv2d)
def _gains(module: "Symbolic", size: Size) -> Tensor:
    """‖S(ω)‖ on a torus without stride, as P and C are identities then and ω and −ω one subspace.

    *Proof.*  As in the rule; of a pair ±ω both frequencies have the norm of the one that is kept.
    """
    geometry = module.geometry
    if not all(geometry.circular) or geometry.stride != (1, 1):
        raise NotCertifiedError(
            "A convolution keeps frequencies apart under circular padding, without stride; got "
            f"circular {geometry.circular} and stride {geometry.stride}."
        )
    norms = _norms(module, size)
    rows, columns = torch.from_numpy(half_plane(size).T)
    gains = torch.empty(size, dtype=torch.float64)
    gains[-rows % size[0], -columns % size[1]] = norms
    gains[rows, columns] = norms
    return gains


@rounding_rule(StoredConv2d)
def _stored_rounding(module: StoredConv2d, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """As `fourier_rounding` shows, with the phases of the image, moved as they are, for its channels."""
    size = (shape[1], shape[2])
    geometry = module.geometry
    symbols = module.weight.transpose(1, 2)  # (P, I s², O, 2), as products take them
    rows, columns = (-(-n // s) for n, s in zip(size, geometry.stride, strict=True))
    transform = Transform(
        symbols.shape[1], geometry.period(size), (rows, columns), geometry.outputs(size)
    )
    return fourier_rounding(module, shape, ball, analysis, symbols, module.bias, transform)


def _norms(module: "Symbolic", size: Size) -> Tensor:
    """Proved norms of the matrices at the frequencies of the half plane, with shape (P,)."""
    symbols = module.symbols(size)
    chunk = max(1, 2**23 // symbols[0].numel())  # 128 MB in float64
    return torch.cat([matrix_norms(part) for part in symbols.split(chunk)])


def certify_symbols(cls: type[nn.Module]) -> None:
    """Gives a class that is `Symbolic` the rules above: a part of the trusted kernel where it is used."""
    rule(cls)(_symbol_conv2d)
    gain_rule(cls)(_gains)


certify_symbols(SymbolConv2d)
