"""Branches of any kind on bands of spatial frequencies of their own.

References:
    | Octaves: Drop an Octave (Chen et al., 2019) https://arxiv.org/abs/1904.05049

What differs from the paper: bands of the Fourier transform, smooth or sharp, whose filters are a
tight frame; so the constant is that of the worst branch, not of their sum.
"""

__all__ = ["BandSplit"]

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, output_shape, refuse_inplace, rule
from ..linalg import mul_up
from ..parametrizations._precision import full_precision
from ..program import coordinates, lower, lowering
from ._fourier import from_spectrum, half_plane, to_spectrum
from ._sizes import known_size
from .filtered_conv2d import StoredFilter2d
from .parallel import Parallel
from .permute import Permute
from .responses import partition

_SLACK = 1 + 2.0**-40  # of Σ p², which is 1 but for some roundings in float64


class BandSplit(nn.Module):
    """Gives each branch a band of the frequencies of the image, P₁x, P₂x, ....

    The filters P have factors p(ω) ≥ 0 with Σ p(ω)² = 1: sharp bands, or bands with edges that are
    sines and cosines.

    Arguments:
        branches: The modules f₁, f₂, ... for the bands from low to high.
        edges: The radii between bands, in cycles per pixel, increasing, more than `rolloff` apart;
            one fewer than branches.
        combine: 'cat' for f₁(P₁x), f₂(P₂x), ... along the channels; or 'sum' for Σ P_b f_b(P_b x), where
            branches keep the size of images.
        rolloff: The width of the overlap of bands, in cycles per pixel; 0 for sharp bands.

    Raises:
        ValueError: If edges and branches do not match.
    """

    def __init__(
        self,
        branches: Sequence[nn.Module],
        edges: Sequence[float],
        combine: str = "cat",
        rolloff: float = 0.05,
    ) -> None:
        super().__init__()
        if len(branches) != len(edges) + 1 or combine not in ("cat", "sum"):
            raise ValueError(
                "BandSplit should have one branch more than edges and combine 'cat' or 'sum', got "
                f"{len(branches)} branches, edges {tuple(edges)} and '{combine}'."
            )
        self.branches, self.combine = nn.ModuleList(branches), combine
        self.bands = nn.ModuleList(partition(edges, [1.0] * len(branches), rolloff))

    def extra_repr(self) -> str:
        return f"combine='{self.combine}'"

    def forward(self, x: Tensor) -> Tensor:
        size = known_size(x)
        images = self._split(x)
        outs = [branch(image) for branch, image in zip(self.branches, images, strict=True)]
        if self.combine == "cat":
            return torch.cat(outs, dim=1)
        if any(out.shape != outs[0].shape or known_size(out) != size for out in outs):
            raise ValueError(
                "Branches that are summed should keep the size of images and have equal shapes, got "
                f"{[tuple(out.shape[1:]) for out in outs]}."
            )
        return self._merge(torch.stack(outs))

    def factors(self, size: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """The factors p of the filters at the frequencies of `half_plane`, with shape (bands, P)."""
        radius = torch.from_numpy(_radii(size)).to(device)
        return torch.stack([band(radius).sqrt() for band in self.bands])

    @full_precision
    def _split(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (bands, B, C, H, W)
        size = known_size(x)
        factors = self.factors(size, x.device).to(x)[..., None, None]  # (bands, P, 1, 1)
        spectrum = to_spectrum(x, size)
        return torch.stack([from_spectrum(p * spectrum, size, size) for p in factors])

    @full_precision
    def _merge(self, outs: Tensor) -> Tensor:  # (bands, B, C, H, W) -> (B, C, H, W)
        size = known_size(outs)
        factors = self.factors(size, outs.device).to(outs)[..., None, None]
        pairs = zip(factors, outs, strict=True)
        total = torch.stack([p * to_spectrum(out, size) for p, out in pairs]).sum(dim=0)
        return from_spectrum(total, size, size)


@torch.compiler.assume_constant_result
def _radii(size: tuple[int, int]) -> np.ndarray:
    indices = half_plane(size)
    signed = (indices + np.array(size) // 2) % np.array(size) - np.array(size) // 2
    return np.hypot(*(signed / np.array(size)).T)


@rule(BandSplit)
def _band_split(module: BandSplit, shape: Shape) -> Bound:
    """The largest constant of a branch.

    *Proof.*  Filters multiply Fourier coefficients by p_b(ω) ≥ 0 with Σ_b p_b(ω)² = 1: Σ ‖P_b d‖² = ‖d‖²
    by Parseval's equation, so Σ ‖f_b(P_b x) − f_b(P_b y)‖² ≤ Σ L_b² ‖P_b(x − y)‖² ≤ max L_b² ‖x − y‖².
    Those are the squared distances of concatenated outputs.  Of sums, the map from (u_b) to Σ P_b u_b is
    the adjoint of x → (P_b x), filters being symmetric, and of norm 1 as well.  The numbers p² sum to 1
    but for some roundings in float64, for which there is a slack.
    """
    refuse_inplace(module)
    if len(shape) != 3:
        raise NotCertifiedError(f"BandSplit takes images with channels, got examples of {shape}.")
    output_shape(module, shape)  # refuses outputs that do not fit
    parts = tuple(lipschitz(branch, shape) for branch in module.branches)
    value = mul_up(max(part.value for part in parts), _SLACK)
    return Bound(value, "BandSplit: largest of the bands", parts)


@lowering(BandSplit)
def _lowered(module: BandSplit, shape: Shape) -> nn.Module:
    """One filter to all bands of each channel, branches on groups of channels, and its adjoint for sums.

    The matrices of the filter are columns of the numbers p, of norm √Σp² = 1.
    """
    lipschitz(module, shape)  # refuses what is not the same function
    channels, size = shape[0], (shape[1], shape[2])
    factors = module.factors(size).T.to(torch.complex128)  # (P, bands)
    count = factors.shape[1]
    columns = factors[:, None, None, :].expand(-1, channels, 1, -1)
    outs = output_shape(module.branches[0], shape)
    lowered = nn.Sequential(
        StoredFilter2d(columns, size, _ALL),
        coordinates(_swapped(channels, count), (channels * count, *size)),
        Parallel([lower(branch, shape) for branch in module.branches], [channels] * count),
    )
    if module.combine == "cat":
        return lowered
    rows = factors[:, None, :, None].expand(-1, outs[0], -1, 1)
    return lowered.extend(
        [
            coordinates(_swapped(count, outs[0]), (count * outs[0], *size)),
            StoredFilter2d(rows, size, _ALL),
        ]
    )


_ALL = (0.0, 1.0)  # radii of all frequencies


def _swapped(outer: int, inner: int) -> nn.Module:
    """Channels in groups, the first of all groups first."""
    return nn.Sequential(
        nn.Unflatten(1, (outer, inner)), Permute(0, 2, 1, 3, 4), nn.Flatten(1, 2)
    ).eval()
