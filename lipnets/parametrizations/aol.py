"""Almost-orthogonal Lipschitz (AOL) rescaling of matrices and convolutions.

References:
    | Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz Networks
    | (Prach & Lampert, 2022) https://arxiv.org/abs/2208.03160

Beyond the paper: any number of axes, strides, dilations and groups.  With a stride s, inputs at
different positions modulo s get scales of their own, which is AOL of the convolution that acts on
those positions as channels; each group is rescaled alone; a channel of zeros stays zero instead of
being divided by zero.  The autocorrelation is computed as one product of matrices for each pair of
taps that meet, of which one of each pair of opposite lags: 45 for a kernel of 3 × 3, where a
convolution of the kernel with itself takes 225.
"""

__all__ = ["AOL"]

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._precision import full_precision, unit_scale

Lag = tuple[int, int, tuple[tuple[int, int], ...]]


class AOL(nn.Module):
    """Rescales the inputs of a matrix, or of the kernel of a convolution, to make it 1-Lipschitz.

    With G = KᵀK the autocorrelation of the kernel K, input i is divided by √(Σⱼₜ |Gᵢⱼ(t)|): then
    KᵀK is dominated by the identity, since D − |G| has a dominant diagonal.  Orthogonal kernels are
    left as they are.  The raw weight has the shape of the constrained one, (O, I) or (O, I / groups,
    *K), and only its direction matters.  A transposed convolution is the adjoint of the convolution
    with the same kernel, stride and dilation, which has the same norm.

    Arguments:
        stride: The stride of the convolution along each axis; 1 where it is left out.
        groups: The number of groups of the convolution.
        dilation: The dilation of the convolution along each axis; 1 where it is left out.
    """

    def __init__(
        self, stride: Sequence[int] = (), groups: int = 1, dilation: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.groups = groups
        self.dilation = tuple(dilation)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, groups={self.groups}, dilation={self.dilation}"

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        weight = unit_scale(weight)
        kernel_size = tuple(weight.shape[2:])
        ones = (1,) * len(kernel_size)
        phases, lags = _meetings(kernel_size, self.stride or ones, self.dilation or ones)
        grouped = weight.reshape(self.groups, -1, weight.shape[1], len(phases))  # (G, O, I, P)
        taps = grouped.permute(3, 0, 1, 2).contiguous()
        scale = _inverse_sqrt(_absolute_sums(taps, phases, lags))[phases, :]  # (P, G, I)
        return (grouped * scale.permute(1, 2, 0)[:, None]).reshape(weight.shape)


def _inverse_sqrt(sums: Tensor) -> Tensor:
    """1 / √x, and 1 where x is so small that squares of weights have lost digits, or are zero.

    What such channels add to the norm is far below rounding, and zeros get a gradient of 0.
    """
    lost = torch.finfo(sums.dtype).tiny / torch.finfo(sums.dtype).eps
    return torch.where(sums > lost, sums, torch.ones_like(sums)).rsqrt()


def _meetings(
    kernel_size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, ...], tuple[Lag, ...]]:
    """Which taps meet which inputs, and each other in which output.

    Returns:
        The phase of the inputs that each tap meets, numbered from 0: the positions that it reads,
        modulo the stride.  For each phase and lag, one of each pair ± of lags: the phase, that of
        the partners, and the pairs of taps whose products sum to the autocorrelation there.
    """
    taps = list(itertools.product(*map(range, kernel_size)))
    places = [
        tuple(d * q % s for d, q, s in zip(dilations, tap, strides, strict=True)) for tap in taps
    ]
    numbers = {place: number for number, place in enumerate(sorted(set(places)))}
    phases = tuple(numbers[place] for place in places)
    lags: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, here in enumerate(taps):
        for j in range(i, len(taps)):
            lag = [b - a for a, b in zip(here, taps[j], strict=True)]
            lags.setdefault((phases[i], *lag), []).append((i, j))
    return phases, tuple(
        (phases[pairs[0][0]], phases[pairs[0][1]], tuple(pairs)) for pairs in lags.values()
    )


def _absolute_sums(taps: Tensor, phases: Sequence[int], lags: Sequence[Lag]) -> Tensor:
    """Sums of the absolute autocorrelation over partners and lags, from taps (P, G, O, I).

    A lag and its opposite have transposed matrices: one gives row sums to its inputs, and column
    sums to their partners.

    Returns:
        The sums, with shape (phases, G, I).
    """
    each, flipped = taps.unbind(), taps.mT.unbind()
    sums: dict[int, Tensor] = {}
    for phase, partner, pairs in lags:
        gram = flipped[pairs[0][0]] @ each[pairs[0][1]]  # (G, I, I)
        for i, j in pairs[1:]:
            gram = torch.baddbmm(gram, flipped[i], each[j])
        modulus = gram.abs()
        rows = modulus.sum(dim=2)
        sums[phase] = sums[phase] + rows if phase in sums else rows
        if pairs[0][0] != pairs[0][1]:
            columns = modulus.sum(dim=1)
            sums[partner] = sums[partner] + columns if partner in sums else columns
    return torch.stack([sums[phase] for phase in sorted(sums)])
