"""Convolutions whose response is confined to a radial band of spatial frequencies."""

__all__ = ["BandConv2d", "band_conv2d", "band_gains"]

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..convolutions import filtered_conv_gains, filtered_conv_norm
from ..parametrizations._precision import full_precision
from ..parametrizations.band import BandSpectral, radial_mask
from ._registry import Card, drop_in
from .conv2d import start_orthogonal


class BandConv2d(nn.Module):
    """Convolves on the torus, and lets through a radial band of frequencies only.

    The circular convolution of the image with a k × k kernel, as `nn.Conv2d` with circular padding
    computes it, with the Fourier coefficient of frequency ω multiplied by a factor m(ω): 1 inside
    the band, 0 outside it, and in between near its edges.  Computed at the frequencies of the band
    alone, from the Fourier transform of the image and that of the kernel.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width k of the kernel.
        low: The least radius of frequencies that pass, in cycles per pixel; 0 passes constants.
        high: The largest radius that passes, in cycles per pixel.  Along an axis frequencies end at
            ½; the largest radius is √½, and from there on everything above `low` passes.
        rolloff: The width of the edges inside the band, in cycles per pixel.
        bias: Whether to add a bias to each channel, which is of frequency 0 in any case.
        device: The device of the weights.
        dtype: The dtype of the weights.

    Raises:
        ValueError: If the band is empty, or narrower than its edges.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        low: float = 0.0,
        high: float = 0.25,
        rolloff: float = 0.05,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        edges = (low > 0) + (high < math.sqrt(0.5))
        if not 0 <= low < high or not rolloff > 0 or edges * rolloff > high - low:
            raise ValueError(
                "A band should have 0 <= low < high in cycles per pixel, with room for its edges of "
                f"width rolloff > 0 in between, got low={low}, high={high}, rolloff={rolloff}."
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        self.low, self.high, self.rolloff = float(low), float(high), float(rolloff)
        shape = (out_channels, in_channels, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        zeros = torch.zeros(out_channels, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros) if bias else None)
        start_orthogonal(self.weight)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"low={self.low:g}, high={self.high:g}, rolloff={self.rolloff:g}"
        )

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """The factors m(ω) for images of a size, with shape (H, W), in the order of `torch.fft`."""
        return radial_mask(size, self.low, self.high, self.rolloff)[1]

    @full_precision  # transforms and complex products know no bfloat16
    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        size = (x.shape[-2], x.shape[-1])
        if any(length < k for length, k in zip(size, self.kernel_size, strict=True)):
            raise ValueError(
                f"Images should be at least as large as the kernel {self.kernel_size}, got {size}."
            )
        frequencies, factors = radial_mask(size, self.low, self.high, self.rolloff)
        half = slice(0, size[1] // 2 + 1)  # what `rfft2` keeps
        passed = np.flatnonzero(factors[:, half])
        factors = factors[:, half].reshape(-1)[passed]
        frequencies = frequencies[:, half].reshape(-1, 2)[passed]

        index = torch.from_numpy(passed).to(x.device)
        images = torch.fft.rfft2(x).flatten(2)[..., index]  # (B, I, F)
        symbols = self._symbols(frequencies, factors).to(images.dtype)  # (F, O, I)
        out = torch.einsum("foi,bif->bof", symbols, images)
        spectrum = out.new_zeros(*out.shape[:2], size[0] * (size[1] // 2 + 1))
        spectrum = spectrum.index_copy(2, index, out).unflatten(2, (size[0], -1))
        out = torch.fft.irfft2(spectrum, s=size)
        return out if self.bias is None else out + self.bias[:, None, None]

    def _symbols(self, frequencies: np.ndarray, factors: np.ndarray) -> Tensor:
        """m(ω) S(ω) with S(ω) = Σ_t K_t e^{2πi ω·(t − c)}, for the taps t around the center c."""
        height, width = self.kernel_size
        offsets = np.indices((height, width)).reshape(2, -1)
        offsets = offsets - np.array([[(height - 1) // 2], [(width - 1) // 2]])
        phases = 2 * np.pi * frequencies @ offsets  # (F, P)
        taps = self.weight.flatten(2).permute(2, 0, 1).flatten(1)  # (P, O I)
        real, imag = (
            torch.from_numpy(factors[:, None] * part(phases)).to(taps) @ taps
            for part in (np.cos, np.sin)
        )
        return torch.complex(real, imag).unflatten(1, self.weight.shape[:2])


@rule(BandConv2d)
def _band_conv2d(module: BandConv2d, shape: Shape) -> Bound:
    """The largest m(ω) ‖S(ω)‖ over the frequencies of the discrete Fourier transform.

    *Proof.*  On the torus of H × W pixels the unitary Fourier transform F turns the convolution
    with the kernel into multiplication of the vector of channels x̂(ω) by the symbol S(ω), and the
    filter into multiplication by the number m(ω): the linear part of the module is T = F* diag(m(ω)
    S(ω)) F.  Since m is even and K is real, opposite frequencies carry conjugate values: T is real,
    its half spectrum says all, and its norm over real images is that over complex ones.  The blocks
    act on orthogonal subspaces: ‖T‖ = max m(ω) ‖S(ω)‖ over the frequencies of the grid.  The bias
    moves all outputs alike.  `filtered_conv_norm` bounds the maximum, with m(ω) the numbers that
    the module multiplies by, which float64 holds exactly.
    """
    if len(shape) != 3 or any(n < k for n, k in zip(shape[1:], module.kernel_size, strict=True)):
        raise NotCertifiedError(
            f"Images should be at least as large as the kernel {module.kernel_size}, got {shape}."
        )
    gain = torch.from_numpy(module.mask((shape[1], shape[2])))
    value = filtered_conv_norm(module.weight, gain)
    return Bound(value, "BandConv2d: largest filtered symbol on the torus (C1)")


@torch.no_grad()
def band_gains(module: BandConv2d, size: tuple[int, int]) -> Tensor:
    """Bounds what the layer does to each frequency of images of a size.

    Arguments:
        module: The layer.
        size: The height and width of images.

    Returns:
        Upper bounds of m(ω) ‖S(ω)‖, with shape (H, W), in the order of `torch.fft`.
    """
    return filtered_conv_gains(module.weight, torch.from_numpy(module.mask(size)))


@drop_in(
    BandConv2d,
    Card(
        kind="frequency filter",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="To confine a layer to a band of spatial frequencies.",
        arguments={"in_channels": 2, "out_channels": 3, "kernel_size": 3, "high": 0.3},
        shape=(2, 6, 6),
    ),
)
def band_conv2d(conv: BandConv2d) -> None:
    """Builds a convolution confined to a band of frequencies, of norm about 1 there."""
    constraint = BandSpectral(conv.low, conv.high, conv.rolloff)
    register_parametrization(conv, "weight", constraint)
