"""Orthogonal convolutions with a small kernel and a dilation that spans the image: ECO, made sound.

References:
    | Constructing Orthogonal Convolutions in an Explicit Manner
    | (Yu, Li, Cai & Li, 2022) https://openreview.net/forum?id=Zr5W2LSRhD

**Where sizes are no multiples of the kernel it cannot be sound.**  On a torus of n pixels a kernel of k
taps with dilation d has at the frequency j the symbol Σ_t K_t e^{2πi jtd/n}.  If n = kd, that is
Σ_t K_t e^{2πi jt/k}, one of the k values of the discrete Fourier transform of the kernel itself: make
these k matrices orthogonal and the whole convolution is.  That is the idea of the paper, and it is
exact.  For k = 3 and images of 32, 16 or 8 pixels no d has n = kd.  With d = ⌊n/k⌋ other values of the
trigonometric polynomial S(θ) = Σ_t K_t e^{iθt} count, and between the k points at which it is orthogonal
nothing holds its norm: the taps −2/3, 1/3, −2/3 give S(θ) = 1/3 − 4/3 cos θ, which is −1, 1, 1 at
θ = 0, ±2π/3, and 5/3 at θ = π, a frequency of each of these images.  More taps are no remedy: the norm
of interpolation at k points grows as log k.  A norm of 1.7 was measured of a published implementation.

What differs: sizes of images should be multiples of the kernel, or images are refused; the
convolution is computed for what it is, one on a torus of k × k pixels for each of the d × d grids of
pixels d apart, at the few frequencies of that torus.
"""

__all__ = ["ExplicitConv2d"]

import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import matrix_norms
from ..parametrizations._precision import full_precision
from ..parametrizations.symbol_exponential import SymbolExponential
from ..program import lowering
from ._fourier import from_spectrum, half_plane, spatial_size
from ._registry import Card, named
from .frequency import gain_rule
from .symbol_conv2d import Geometry, eager

Size = tuple[int, int]


@named(
    "eco_conv2d",
    Card(
        kind="convolution",
        guarantee="orthogonal",
        paper="Yu et al., 2022",
        url="https://openreview.net/forum?id=Zr5W2LSRhD",
        choose="Orthogonal from a few exponentials, where sizes of images are multiples of the kernel.",
        arguments={"in_channels": 3, "out_channels": 3, "kernel_size": 3},
        shape=(3, 3, 6),
    ),
)
class ExplicitConv2d(nn.Module):
    """Convolves on the torus with taps at distances of a k-th of the image.

    Arguments:
        in_channels: The number of channels of images.
        out_channels: The number of channels of the output.
        kernel_size: The height and width k of the kernel, odd; those of images are multiples of it.
        bias: Whether to add a bias to each channel.
        device: The device of the weights.
        dtype: The dtype of the weights.

    Raises:
        ValueError: If a side of the kernel is even.
    """

    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Size,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        if isinstance(kernel_size, int):
            kernel_size = (kernel_size, kernel_size)
        self.kernel_size: Size = (kernel_size[0], kernel_size[1])
        if any(k % 2 == 0 for k in self.kernel_size):
            raise ValueError(f"'kernel_size' should be odd, got {self.kernel_size}.")
        pads = [((k - 1) // 2, (k - 1) // 2) for k in self.kernel_size]
        self.geometry = Geometry(self.kernel_size, (1, 1), (pads[0], pads[1]), (True, True))
        self.constraint = SymbolExponential(out_channels, in_channels)
        side = max(in_channels, out_channels)
        shape = (side, side, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        zeros = torch.zeros(out_channels, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a kernel whose symbols have norms of about ½."""
        nn.init.normal_(self.weight, std=0.25 * self.weight[0].numel() ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"

    def symbols(self) -> Tensor:
        """The matrices at the frequencies of a torus as large as the kernel, (P, O, I), complex."""
        raw = self.geometry.symbols(self.weight.double(), self.kernel_size)
        single = self.weight.dtype != torch.float64
        return self.constraint(raw).to(torch.complex64 if single else torch.complex128)

    def dilation(self, size: Size) -> Size:
        """The distances of taps, for images of a size.

        Raises:
            ValueError: If the size is no multiple of the kernel.
        """
        if any(n % k for n, k in zip(size, self.kernel_size, strict=True)):
            raise ValueError(
                f"Sizes of images should be multiples of the kernel {self.kernel_size}, got {size}: "
                "resize the image, or use soc_conv2d, which takes any size."
            )
        return size[0] // self.kernel_size[0], size[1] // self.kernel_size[1]

    def forward(self, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        return self._forward(x)

    @eager
    @full_precision
    def _forward(self, x: Tensor) -> Tensor:
        down, across = self.dilation(spatial_size(x))
        symbols = self.symbols()
        grids = x.unflatten(3, (-1, across)).unflatten(2, (-1, down))  # (B, I, k, d, k, d)
        grids = grids.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
        out = self.geometry.convolve(grids, lambda z: z @ symbols.mT)
        out = out.unflatten(0, (-1, down, across)).permute(0, 3, 4, 1, 5, 2)
        out = out.flatten(4).flatten(2, 3)
        return out if self.bias is None else out + self.bias[:, None, None]

    @torch.no_grad()
    def materialize(self, shape: Shape) -> nn.Conv2d:
        """The same function of images of one size, as a dilated convolution with stored weights."""
        symbols = self.symbols()
        flipped = symbols.conj().resolve_conj()  # an impulse is answered by the kernel mirrored
        taps = from_spectrum(flipped, self.kernel_size, self.kernel_size)
        centers = [(k - 1) // 2 for k in self.kernel_size]
        kernel = taps.roll(centers, dims=(2, 3))
        conv = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, padding="same",
            dilation=self.dilation((shape[-2], shape[-1])), padding_mode="circular",
            bias=self.bias is not None, device=kernel.device, dtype=kernel.dtype,
        )  # fmt: skip
        conv.weight.copy_(kernel)
        if self.bias is not None and conv.bias is not None:
            conv.bias.copy_(self.bias)
        return conv


@rule(ExplicitConv2d)
def _explicit_conv2d(module: ExplicitConv2d, shape: Shape) -> Bound:
    """The largest ‖S(ω)‖ over the frequencies of a torus as large as the kernel.

    *Proof.*  The pixels (ad + b) with the same remainders b make d × d disjoint images of k × k pixels;
    the layer applies to each the same real linear map, of norm max ‖S(ω)‖ at most by the rule of
    `symbol_conv2d`, and puts the results where the pixels were.  A direct sum of equal maps has their
    norm.  The bias moves all outputs alike.
    """
    try:
        module.dilation((shape[-2], shape[-1]))
    except (ValueError, IndexError) as error:
        raise NotCertifiedError(str(error)) from error
    symbols = module.symbols()
    if module.bias is not None and symbols.shape[-2] != module.bias.numel():
        raise NotCertifiedError(
            f"The matrices of ExplicitConv2d have {symbols.shape[-2]} rows, which a bias of "
            f"{module.bias.numel()} numbers would repeat."
        )
    value = matrix_norms(symbols).max().item()
    return Bound(value, "largest matrix of the convolution at a frequency of the kernel (C1)")


@lowering(ExplicitConv2d)
def _lowered(module: ExplicitConv2d, shape: Shape) -> nn.Module:
    """The dilated convolution that it is at this size."""
    return module.materialize(shape)


@gain_rule(ExplicitConv2d)
def _gains(module: ExplicitConv2d, size: Size) -> Tensor:
    """‖S(j mod k)‖ at the frequency j: a wave of n pixels is one of k pixels on each grid.

    *Proof.*  e^{2πi jy/n} at the pixels y = ad + b, n = kd, is e^{2πi ja/k} times a constant.
    """
    down, across = module.dilation(size)
    height, width = module.kernel_size
    rows, columns = torch.from_numpy(half_plane(module.kernel_size).T)
    gains = torch.empty(module.kernel_size, dtype=torch.float64)
    norms = matrix_norms(module.symbols())
    gains[-rows % height, -columns % width] = norms
    gains[rows, columns] = norms
    return gains.repeat(down, across)
