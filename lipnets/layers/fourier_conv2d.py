"""Convolutions parametrized in frequency, with the singular values that one sets.

No paper: the Cayley map of Trockman & Kolter (2021) at each frequency, of a raw matrix that belongs to
that frequency alone, times a gain that depends on the radius of the frequency.
"""

__all__ = ["FourierConv2d", "radial_gains"]

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..bounds import Shape
from ..parametrizations._precision import full_precision
from ..parametrizations.symbol_cayley import SymbolCayley
from ._fourier import half_plane, multiplicities, spatial_size
from ._registry import Card, named
from .symbol_conv2d import Geometry, StoredConv2d, certify_symbols, eager

Size = tuple[int, int]
Profile = Callable[[float], float] | Sequence[float]


def radial_gains(profile: Profile | None, size: Size) -> Tensor:
    """The gains that a profile gives to the frequencies of the half plane.

    Arguments:
        profile: A function of the radius of a frequency, in cycles per pixel, from 0 to √½; or gains
            at equally spaced radii from 0 to √½, straight lines between them; or None, 1 everywhere.
        size: The height and width of images.

    Returns:
        The gains in float64, with shape (P,).

    Raises:
        ValueError: If a gain is not in [0, 1].
    """
    signed = (half_plane(size) / np.array(size) + 0.5) % 1 - 0.5
    radii = np.hypot(signed[:, 0], signed[:, 1])
    if profile is None:
        gains = np.ones_like(radii)
    elif callable(profile):
        gains = np.array([float(profile(float(radius))) for radius in radii])
    else:
        knots = np.linspace(0, math.sqrt(0.5), len(profile))
        gains = np.interp(radii, knots, np.array(profile, dtype=np.float64))
    if not ((gains >= 0) & (gains <= 1)).all():
        raise ValueError(
            f"Gains of a profile should be in [0, 1], got {gains.min():g} to {gains.max():g}."
        )
    return torch.from_numpy(gains)


@named(
    "fourier_conv2d",
    Card(
        kind="frequency filter",
        guarantee="1-Lipschitz",
        paper="",
        url="",
        choose="Where all singular values at each frequency should be what one sets, 1 or less.",
        arguments={
            "in_channels": 3,
            "out_channels": 3,
            "size": (5, 6),
            "profile": (1.0, 0.9, 0.5, 0.25),
        },
        shape=(3, 5, 6),
    ),
)
class FourierConv2d(nn.Module):
    """Convolves on a torus, with g(|ω|) as every singular value at the frequency ω.

    At each frequency a raw complex matrix, a parameter of its own, becomes one with orthonormal
    columns or rows by the Cayley map, times the gain g(|ω|) of a profile.  Without a profile the layer
    is orthogonal; every convolution on the torus whose singular values are those is within reach, up
    to the closure, with kernels as large as the image.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        size: The height and width of images, the only size that is taken.
        profile: The gains over radii, see `radial_gains`.
        bias: Whether to add a bias to each channel.
        device: The device of the weights.
        dtype: The dtype of the weights.

    Raises:
        ValueError: If a gain is not in [0, 1].
    """

    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int | Size,
        profile: Profile | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.size = (size, size) if isinstance(size, int) else size
        self.gains = tuple(radial_gains(profile, self.size).tolist())
        self.geometry = Geometry((1, 1), (1, 1), ((0, 0), (0, 0)), (True, True))
        self.constraint = SymbolCayley()
        shape = (len(self.gains), out_channels, in_channels, 2)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        zeros = torch.zeros(out_channels, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws raw matrices of norms of about ½, independent at each frequency."""
        nn.init.normal_(self.weight, std=0.25 * max(self.in_channels, self.out_channels) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, size={self.size}"

    def symbols(self, size: Size) -> Tensor:
        """The matrices at the frequencies of `_fourier.half_plane`, with shape (P, O, I), complex.

        Raises:
            ValueError: If the size is not that of the layer.
        """
        self._refuse(size)
        raw = self._raw(self.weight.double())
        single = self.weight.dtype != torch.float64
        scaled = self._gains(raw)[:, None, None] * self.constraint(raw)
        return scaled.to(torch.complex64 if single else torch.complex128)

    def _raw(self, weight: Tensor) -> Tensor:
        """Raw matrices, real at the frequencies that are their own opposites."""
        imaginary = multiplicities(self.size).to(weight) - 1
        return torch.complex(weight[..., 0], weight[..., 1] * imaginary[:, None, None])

    def _refuse(self, size: Size) -> None:
        if size != self.size:
            raise ValueError(f"The layer was built for images of size {self.size}, got {size}.")

    def _gains(self, like: Tensor) -> Tensor:
        return torch.tensor(self.gains, dtype=like.real.dtype, device=like.device)

    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        return self._forward(x)

    @eager
    @full_precision
    def _forward(self, x: Tensor) -> Tensor:
        self._refuse(spatial_size(x))
        if self.training:
            wide = torch.promote_types(self.weight.dtype, torch.float32)
            raw = self._raw(self.weight.to(wide))
            gains = self._gains(raw)[:, None, None]
            out = self.geometry.convolve(x, lambda z: gains * self.constraint.act(raw, z))
        else:
            symbols = self.symbols(self.size)
            out = self.geometry.convolve(x, lambda z: z @ symbols.mT)
        return out if self.bias is None else out + self.bias[:, None, None]

    @torch.no_grad()
    def materialize(self, shape: Shape) -> StoredConv2d:
        """The same function with its symbols stored."""
        bias = None if self.bias is None else self.bias.detach().clone()
        return StoredConv2d(self.symbols((shape[-2], shape[-1])), self.size, self.geometry, bias)


certify_symbols(FourierConv2d)
