"""Almost-orthogonal Lipschitz (AOL) rescaling of matrices and convolutions.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160

Beyond the paper: with a stride s, inputs at different positions modulo s get scales of their own,
which is AOL of the convolution of stride 1 that acts after a `PixelUnshuffle(s)`; with groups, each
group is rescaled alone; a channel of zeros stays zero instead of being divided by zero.
"""

__all__ = ["AOL"]

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ._precision import full_precision, inverse_sqrt, unit_scale


class AOL(nn.Module):
    """Rescales the inputs of a matrix, or of the kernel of a convolution, to make it 1-Lipschitz.

    With G = KᵀK the autocorrelation of the kernel K, input i is divided by √(Σⱼₜ |Gᵢⱼ(t)|): then
    KᵀK is dominated by the identity, since D − |G| has a dominant diagonal.  Orthogonal kernels are
    left as they are.  The raw weight has the shape of the constrained one, (O, I) or (O, I / groups,
    H, W), and only its direction matters.

    Arguments:
        stride: The stride of the convolution.
        groups: The number of groups of the convolution.
    """

    def __init__(self, stride: tuple[int, ...] = (1, 1), groups: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.groups = groups

    def extra_repr(self) -> str:
        return f"stride={self.stride}, groups={self.groups}"

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        weight = unit_scale(weight)
        if weight.ndim == 2:
            return weight * inverse_sqrt((weight.mT @ weight).abs().sum(dim=1))
        height, width = weight.shape[-2:]
        rows, columns = self.stride
        pad = (0, -width % columns, 0, -height % rows)
        phases = rearrange(  # taps that meet the same inputs
            F.pad(weight, pad), "o i (h p) (w q) -> o (i p q) h w", p=rows, q=columns
        )
        scale = inverse_sqrt(self._row_sums(phases))  # (groups, I p q)
        scale = rearrange(scale, "g (i p q) -> g i p q", p=rows, q=columns)
        scale = scale.repeat_interleave(weight.shape[0] // self.groups, dim=0)  # (O, I, p, q)
        tiles = ((height + pad[3]) // rows, (width + pad[1]) // columns)
        return weight * scale.repeat(1, 1, *tiles)[..., :height, :width]

    def _row_sums(self, kernel: Tensor) -> Tensor:
        """Sums of the absolute autocorrelation over partners and lags, with shape (groups, I)."""
        height, width = kernel.shape[-2:]
        inputs = rearrange(kernel, "(g o) i h w -> i (g o) h w", g=self.groups)
        partners = rearrange(kernel, "(g o) i h w -> (g i) o h w", g=self.groups)
        gram = F.conv2d(
            inputs, partners, padding=(height - 1, width - 1), groups=self.groups
        )  # (I, g I, 2H − 1, 2W − 1)
        return rearrange(gram.abs().sum(dim=(2, 3)), "i (g j) -> g i j", g=self.groups).sum(dim=2)
