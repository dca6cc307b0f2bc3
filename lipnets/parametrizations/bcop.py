"""Paraunitary convolutions: block convolution orthogonal parametrization (BCOP).

References:
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li, Haque, Anil, Lucas, Grosse & Jacobsen, 2019) https://arxiv.org/abs/1911.00937
    | Dynamical Isometry and a Mean Field Theory of CNNs
    | (Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington, 2018) https://arxiv.org/abs/1806.05393

What differs: the projectors come from a Cholesky factor in float64 instead of Björck iterations,
and are applied to an orthogonal matrix one tap at a time, as products with thin matrices, instead
of being convolved with each other; heights and widths may differ, and be even.
"""

__all__ = ["BCOP"]

import torch
from torch import Tensor, nn

from ._precision import full_precision, unit_scale
from .cayley import cayley


class BCOP(nn.Module):
    """Makes the kernel of an orthogonal convolution.

    With orthogonal projectors P, each factor P + z(I − P) keeps norms at every frequency, and so
    does the kernel S(z, w) = ∏ᵢ (Pᵢ + z(I − Pᵢ)) ∏ⱼ (Pⱼ + w(I − Pⱼ)) H, where H is orthogonal: with H − 1
    and W − 1 factors, a kernel of H × W taps.  Every second factor has its projectors exchanged,
    (I − P) + zP, so that equal projectors cancel to a pure shift.

    Under circular padding the convolution is orthogonal, or has orthonormal rows or columns where
    the numbers of channels differ.  Zero padding, any stride and any dilation select rows and
    columns of such an operator, which keeps it 1-Lipschitz.

    Raw weights are the matrix H in coordinates of the Cayley map, with shape (O, I), which
    `parametrize` keeps as the original weight; and matrices that span the ranges of the projectors,
    which are a parameter of this module, drawn at random and equal in pairs.

    Arguments:
        in_channels: The number I of input channels.
        out_channels: The number O of output channels.
        kernel_size: The height and width of the kernel.

    Example:
        >>> conv = nn.Conv2d(4, 6, 3, padding="same")
        >>> conv.weight = nn.Parameter(torch.randn(6, 4))
        >>> bcop = BCOP(4, 6, (3, 3))
        >>> nn.utils.parametrize.register_parametrization(conv, "weight", bcop, unsafe=True)
        ParametrizedConv2d(...)
        >>> conv.weight.shape
        torch.Size([6, 4, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        size = max(in_channels, out_channels)
        shapes = [(length // 2, size, size // 2) for length in kernel_size]
        pairs = [torch.randn(shape, device=device, dtype=dtype) for shape in shapes]
        frames = [
            pair.repeat_interleave(2, dim=0)[: length - 1]
            for pair, length in zip(pairs, kernel_size, strict=True)
        ]
        self.frames = nn.Parameter(torch.cat(frames))  # (H − 1 + W − 1, max(O, I), R)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"

    @full_precision
    def forward(self, matrix: Tensor) -> Tensor:  # (O, I) -> (O, I, H, W)
        core = cayley(matrix.double())
        wide = core.shape[0] < core.shape[1]
        taps = (core.mT if wide else core)[:, None, None]  # (max(O, I), 1, 1, min(O, I))
        frames = _orthonormal(self.frames.double())
        vertical = self.kernel_size[0] - 1
        for i, frame in enumerate(frames[:vertical]):
            taps = _delay(taps, frame, dim=1, swap=i % 2 == 1)
        for i, frame in enumerate(frames[vertical:]):
            taps = _delay(taps, frame, dim=2, swap=i % 2 == 1)
        taps = taps.permute(3, 0, 1, 2) if wide else taps.permute(0, 3, 1, 2)
        return taps.to(matrix.dtype).contiguous()


def _orthonormal(frames: Tensor) -> Tensor:
    """Orthonormal bases V of the ranges of matrices, with shape (..., N, R).

    A Cholesky factor of the Gram matrix orthonormalizes, the second time to 1e-12.  A small multiple
    of the identity makes it exist for every matrix, and VᵀV ≤ I: then 0 ≤ VVᵀ ≤ I, and even where the
    rank is deficient VVᵀ + z(I − VVᵀ) is a contraction.
    """
    if frames.numel() == 0:  # kernels of one tap, or of one channel
        return frames
    identity = torch.eye(frames.shape[-1], dtype=frames.dtype, device=frames.device)
    for _ in range(2):
        frames = unit_scale(frames, dim=(-2, -1))
        gram = frames.mT @ frames
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
        factor = torch.linalg.cholesky(gram + 1e-12 * (trace + 1e-12) * identity)
        frames = torch.linalg.solve_triangular(factor, frames.mT, upper=False).mT
    return frames


def _delay(taps: Tensor, frame: Tensor, *, dim: int, swap: bool) -> Tensor:
    """Multiplies a kernel (N, H, W, M) by P + z(I − P), or by (I − P) + zP, along a dimension."""
    inside = frame @ (frame.mT @ taps.flatten(1))
    inside = inside.view_as(taps)
    now, later = (taps - inside, inside) if swap else (inside, taps - inside)
    empty = torch.zeros_like(taps.narrow(dim, 0, 1))
    return torch.cat([now, empty], dim) + torch.cat([empty, later], dim)
