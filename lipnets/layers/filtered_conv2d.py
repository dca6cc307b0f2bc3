"""Convolutions behind radial filters, computed at the frequencies that pass.

The layer sees an image through the discrete Fourier transform, where a circular convolution is a
matrix S(ω) for each frequency ω.  A band of low frequencies holds few of them: a band up to ¼ cycle
per pixel, a tenth of the half plane at 16 × 16, makes a training step three times cheaper than that
of the plain convolution.

References:
    | The matrices S(ω): The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408
"""

__all__ = ["FilteredConv2d", "StoredFilter2d"]

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import matrix_norms
from ..parametrizations._precision import full_precision
from ..rounding import Analysis, Ball, rounding_rule
from ._fourier import from_spectrum, half_plane, roots, to_spectrum
from ._fourier_rounding import Transform, fourier_rounding
from ._sizes import known_size
from .frequency import conv_gains, frequency_gains, gain_rule, keeps_frequencies
from .responses import RadialBand, RadialCurve

Size = tuple[int, int]
Band = tuple[float, float]  # the least and the largest radius, in cycles per pixel
_DENSE = 40_000  # entries up to which a product with the matrix of waves beats a fast transform
_SLACK = 1 + 2.0**-40  # of factors in float64, which are a few roundings off


class FilteredConv2d(nn.Module):
    """A sum of circular convolutions, each behind a radial filter: Σ m(ω) S(ω) at frequency ω.

    Each convolution is that of `nn.Conv2d` with circular padding, with the Fourier coefficient of
    frequency ω multiplied by the factor m(ω) of its filter.

    Arguments:
        convs: The convolutions: stride 1, circular padding that keeps the size, the same numbers of
            channels and groups.
        responses: The filter of each of them.

    Raises:
        ValueError: If a convolution is of another kind.
    """

    def __init__(
        self, convs: Sequence[nn.Conv2d], responses: Sequence[RadialBand | RadialCurve]
    ) -> None:
        super().__init__()
        if not convs or len(convs) != len(responses):
            raise ValueError(
                "There should be as many responses as convolutions, and at least one, got "
                f"{len(responses)} and {len(convs)}."
            )
        for conv in convs:
            if not isinstance(conv, nn.Conv2d) or not keeps_frequencies(conv):
                raise ValueError(
                    "Filtered convolutions should be layers of nn.Conv2d with stride 1 and circular "
                    f"padding that keeps the size of images, got {conv}."
                )
        if len({(conv.in_channels, conv.out_channels, conv.groups) for conv in convs}) > 1:
            raise ValueError("Convolutions that are summed should have equal channels and groups.")
        self.convs: Sequence[nn.Conv2d] = nn.ModuleList(convs)  # pyright: ignore[reportAttributeAccessIssue]
        self.responses: Sequence[RadialBand | RadialCurve] = nn.ModuleList(responses)  # pyright: ignore
        self.low = min(response.low for response in responses)
        self.high = max(response.high for response in responses)

    def extra_repr(self) -> str:
        return f"passes {max(self.low, 0):g} to {self.high:g} cycles per pixel"

    @full_precision  # transforms and complex products know no bfloat16
    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        size = known_size(x)
        refuse_small(self, size)
        out = _multiply(x, self._symbols(size, x), size, (self.low, self.high))
        for bias in (conv.bias for conv in self.convs if conv.bias is not None):
            out = out + bias.to(out)[:, None, None]
        return out

    def _symbols(self, size: Size, like: Tensor) -> Tensor:
        """Σ m(ω) S(ω), transposed, with S(ω) = Σ_t K_t e^{2πi ω·(t − c)} for the taps around c."""
        band = (self.low, self.high)
        radius = torch.from_numpy(_radii(size, band)).to(like.device)
        waves, taps = [], []
        for conv, response in zip(self.convs, self.responses, strict=True):
            phases = torch.from_numpy(_phases(size, band, conv.kernel_size, conv.dilation))
            waves.append(response(radius).to(like)[:, None] * phases.to(like))  # (2, F, P)
            grouped = conv.weight.to(like).unflatten(0, (conv.groups, -1)).flatten(3)
            taps.append(grouped.permute(3, 0, 2, 1))  # (P, G, I/G, O/G)
        kernel = torch.cat(taps)
        parts = torch.cat(waves, dim=2).flatten(0, 1) @ kernel.flatten(1)
        parts = parts.view(2, -1, *kernel.shape[1:])
        return torch.complex(parts[0], parts[1])  # (F, G, I/G, O/G)

    @torch.no_grad()
    def materialize(self, shape: Shape) -> "StoredFilter2d":
        """The same function of images of one size, with its matrices stored."""
        size = (shape[-2], shape[-1])
        weight = self.convs[0].weight
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        biases = [conv.bias.detach() for conv in self.convs if conv.bias is not None]
        bias = torch.stack(biases).sum(dim=0) if biases else None
        return StoredFilter2d(self._symbols(size, wide), size, (self.low, self.high), bias)


class StoredFilter2d(nn.Module):
    """A `FilteredConv2d` for images of one size, with the matrices at its frequencies stored.

    Arguments:
        symbols: The transposed matrices at the frequencies of `half_plane` in the band, complex,
            with shape (F, G, I/G, O/G).
        size: The height and width of images.
        band: The least and the largest radius of the band, in cycles per pixel.
        bias: What is added to each channel, with shape (O,).
    """

    bias: Tensor | None

    def __init__(self, symbols: Tensor, size: Size, band: Band, bias: Tensor | None = None) -> None:
        super().__init__()
        self.size, self.band = size, band
        self.weight = nn.Parameter(torch.view_as_real(symbols).clone())
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))

    def extra_repr(self) -> str:
        groups, inputs, outputs = self.weight.shape[1:4]
        low, high = self.band
        return (
            f"{groups * inputs}, {groups * outputs}, groups={groups}, size={self.size}, passes "
            f"{max(low, 0):g} to {high:g} cycles per pixel"
        )

    @full_precision
    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        if known_size(x) != self.size:
            raise ValueError(
                f"The matrices stored are for images of size {self.size}, got {known_size(x)}: export "
                "the model for images of that size."
            )
        symbols = torch.view_as_complex(self.weight.to(x))
        out = _multiply(x, symbols, self.size, self.band, dense=True)
        return out if self.bias is None else out + self.bias.to(out)[:, None, None]


def _multiply(x: Tensor, symbols: Tensor, size: Size, band: Band, *, dense: bool = False) -> Tensor:
    """Multiplies the Fourier coefficients of images in a band by matrices; the others become 0."""
    groups = symbols.shape[1]
    spectrum = _transform(x, size, band, dense=dense).unflatten(2, (groups, -1)).transpose(1, 2)
    product = (spectrum @ symbols).transpose(1, 2).flatten(2)  # (F, B, O)
    return _inverse_transform(product, size, band, dense=dense)


def refuse_small(module: FilteredConv2d, size: Size) -> None:
    """Refuses images that circular padding would wrap more than once around.

    Raises:
        ValueError: If a side of the image is shorter than a kernel reaches.
    """
    for conv in module.convs:
        reach = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(length < k for length, k in zip(size, reach, strict=True)):
            raise ValueError(
                f"Images should be at least as large as the kernel {tuple(reach)}, got {size}."
            )


# What depends on the size alone is computed once, in numpy: tensors in a cache would be found by fake
# and compiled calls, which need their own.


@lru_cache(maxsize=64)
def _frequencies(size: Size, band: Band) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of `half_plane` in a band: where they are in it, (F,); what they are, (F, 2); radii, (F,)."""
    indices = half_plane(size)
    signed = (indices + np.array(size) // 2) % np.array(size) - np.array(size) // 2
    radius = np.hypot(*(signed / np.array(size)).T)
    places = np.flatnonzero((radius >= band[0]) & (radius <= band[1]))
    return places, indices[places], radius[places]


@lru_cache(maxsize=64)
def _waves(size: Size, band: Band, places: tuple[range, range]) -> np.ndarray:
    """Cosines and sines of 2πω·t at places t, with shape (2, F, T)."""
    _, indices, _ = _frequencies(size, band)
    rows, columns = (axis.ravel() for axis in np.meshgrid(*places, indexing="ij"))
    # Whole turns are taken out in integers: each wave is off by 4u at most.
    a, b = roots(size[0])[:, np.outer(indices[:, 0], rows) % size[0]]
    c, d = roots(size[1])[:, np.outer(indices[:, 1], columns) % size[1]]
    return np.stack([a * c - b * d, a * d + b * c])


@torch.compiler.assume_constant_result
def _places(size: Size, band: Band) -> np.ndarray:
    return _frequencies(size, band)[0]


@torch.compiler.assume_constant_result
def _radii(size: Size, band: Band) -> np.ndarray:
    return _frequencies(size, band)[2]


@torch.compiler.assume_constant_result
def _phases(
    size: Size, band: Band, kernel_size: tuple[int, ...], dilation: tuple[int, ...]
) -> np.ndarray:
    """Real and imaginary parts of e^{2πi ω·(t − c)} for the taps t, with shape (2, F, P)."""
    places = []
    for length, step in zip(kernel_size, dilation, strict=True):
        first = -(step * (length - 1) // 2)
        places.append(range(first, first + step * length, step))
    return _waves(size, band, (places[0], places[1]))


@torch.compiler.assume_constant_result
def _pixel_waves(size: Size, band: Band) -> np.ndarray:
    """Cosines and sines at the pixels, with shape (2, F, H W)."""
    return _waves(size, band, (range(size[0]), range(size[1])))


@torch.compiler.assume_constant_result
def _weights(size: Size, band: Band) -> np.ndarray:
    """How many frequencies one of the half plane stands for, over the number of pixels, (F, 1)."""
    _, indices, _ = _frequencies(size, band)
    alone = (2 * indices % np.array(size) == 0).all(axis=1, keepdims=True)
    return np.where(alone, 1.0, 2.0) / (size[0] * size[1])


def _transform(x: Tensor, size: Size, band: Band, *, dense: bool = False) -> Tensor:
    """The Fourier coefficients of images in a band, with shape (F, B, I)."""
    places = _places(size, band)
    if len(places) * size[0] * size[1] > _DENSE:
        return to_spectrum(x, size, dense=dense)[torch.from_numpy(places).to(x.device)]
    waves = torch.from_numpy(_pixel_waves(size, band)).to(x)
    real, imag = (waves.flatten(0, 1) @ x.flatten(2).flatten(0, 1).mT).chunk(2)
    return torch.complex(real, -imag).unflatten(1, x.shape[:2])


def _inverse_transform(spectrum: Tensor, size: Size, band: Band, *, dense: bool = False) -> Tensor:
    """The images of the coefficients in a band, with shape (B, O, H, W)."""
    if len(spectrum) * size[0] * size[1] > _DENSE:
        whole = spectrum.new_zeros(len(half_plane(size)), *spectrum.shape[1:])
        places = torch.from_numpy(_places(size, band)).to(spectrum.device)
        return from_spectrum(whole.index_copy(0, places, spectrum), size, size, dense=dense)
    waves = torch.from_numpy(_pixel_waves(size, band) * _weights(size, band))
    waves = waves.to(spectrum.real)
    parts = torch.cat([spectrum.real, -spectrum.imag]).flatten(1)  # (2 F, B O)
    return (parts.mT @ waves.flatten(0, 1)).view(*spectrum.shape[1:], *size)


@gain_rule(FilteredConv2d)
def _filtered_gains(module: FilteredConv2d, size: Size) -> Tensor:
    """‖Σ m(ω) S(ω)‖ ≤ Σ m(ω) ‖S(ω)‖, an equality where one filter alone passes ω.

    *Proof.*  On the torus of H × W pixels the unitary Fourier transform turns a convolution into
    multiplication of the vector of channels x̂(ω) by the symbol S(ω) (theorem C1), and a filter into
    multiplication by the number m(ω).  Filters are even and kernels real, so opposite frequencies
    carry conjugate values, and the half plane says all.  Where no filter passes ω, or the half plane
    is not computed, the sum is 0.  The numbers m(ω) are those the module multiplies by, computed in
    float64, but for some roundings of each, for which there is a slack.
    """
    rows, columns = (torch.from_numpy(np.fft.fftfreq(length)) for length in size)
    radius = torch.hypot(rows[:, None], columns)
    total = torch.zeros(size, dtype=torch.float64)
    for conv, response in zip(module.convs, module.responses, strict=True):
        factors = response(radius.to(conv.weight.device)).cpu() * _SLACK
        total = total + conv_gains(conv.weight, conv.groups, conv.dilation, factors)
    return total * _SLACK if len(module.convs) > 1 else total


@rule(FilteredConv2d)
def _filtered_conv2d(module: FilteredConv2d, shape: Shape) -> Bound:
    """The largest gain over the frequencies of the discrete Fourier transform.

    Frequencies stay apart, and the subspaces of images of one frequency each are orthogonal: the
    norm of the map is the largest of its norms on them.  The biases move all outputs alike.
    """
    if len(shape) != 3:
        raise NotCertifiedError(f"FilteredConv2d takes images with channels, got shape {shape}.")
    size = (shape[1], shape[2])
    try:
        refuse_small(module, size)
    except ValueError as error:
        raise NotCertifiedError(str(error)) from None
    value = frequency_gains(module, size).max().item()
    return Bound(value, "FilteredConv2d: largest filtered symbol on the torus (C1)")


@gain_rule(StoredFilter2d)
def _stored_gains(module: StoredFilter2d, size: Size) -> Tensor:
    """‖S(ω)‖ at ±ω for the matrices stored, D1; 0 elsewhere.

    The inverse transform takes the real part of what it sums, where ω and −ω have conjugate values
    for real images: at a frequency that is its own opposite the map is Re S(ω), at the others S(ω)
    and its conjugate.  Groups are blocks of S(ω).
    """
    if size != module.size:
        raise NotCertifiedError(f"The matrices stored are for size {module.size}, got {size}.")
    symbols = torch.view_as_complex(module.weight.detach())
    norms = matrix_norms(symbols.flatten(0, 1)).view(symbols.shape[:2]).amax(dim=1)
    rows, columns = torch.from_numpy(_frequencies(size, module.band)[1].T)
    gains = torch.zeros(size, dtype=torch.float64)
    gains[-rows % size[0], -columns % size[1]] = norms
    gains[rows, columns] = norms
    return gains


@rule(StoredFilter2d)
def _stored_filter2d(module: StoredFilter2d, shape: Shape) -> Bound:
    """The largest gain over the frequencies, as for `FilteredConv2d`."""
    if len(shape) != 3:
        raise NotCertifiedError(f"StoredFilter2d takes images with channels, got shape {shape}.")
    value = frequency_gains(module, (shape[1], shape[2])).max().item()
    return Bound(value, "StoredFilter2d: largest matrix at a frequency of the torus (C1)")


@rounding_rule(StoredFilter2d)
def _stored_filter_rounding(
    module: StoredFilter2d, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """As `fourier_rounding` shows: along each axis, or by the waves of the few frequencies of the band."""
    size = module.size
    count = len(module.weight)
    waves = None
    if 0 < count * size[0] * size[1] <= _DENSE:
        waves = torch.from_numpy(_pixel_waves(size, module.band).reshape(2 * count, -1))
    return fourier_rounding(
        module,
        shape,
        ball,
        analysis,
        module.weight.flatten(0, 1),
        module.bias,
        Transform(shape[0], size, size, size, waves),
    )
