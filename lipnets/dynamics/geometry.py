"""The shape of a weight: all its singular values, or those of the symbol of a convolution.

References:
    | The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408
    | Sampling from large matrices: an approach through geometric functional analysis
    | (Rudelson & Vershynin, 2007) https://arxiv.org/abs/math/0503442, for the stable rank
"""

__all__ = ["Geometry", "geometry"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .lenses import Lens, highest

_WORK = 2e9  # multiplications for the singular values of a weight, about
_PLACES = 1024  # the largest number of places
_CHUNK = 2**22  # numbers of matrices that are in memory at once


@dataclass(frozen=True)
class Geometry:
    """What singular values of a weight say; of convolutions, those of the symbols at all frequencies.

    Arguments:
        largest: σ₁.
        smallest: The smallest of the min(m, n) singular values, 0 where it is lost in rounding.
        frobenius: The Frobenius norm of the weight: its square is the mean over frequencies of
            Σⱼ sⱼ², summed over groups.
        defect: The Frobenius norm of G − 1 for the smaller Gram matrix G; its root mean square over
            frequencies, where G is that of the symbol of all groups.  0 if the weight is orthogonal.
        places: The number of frequencies and groups that were looked at for these.
    """

    largest: float
    smallest: float
    frobenius: float
    defect: float
    places: int

    @property
    def stable_rank(self) -> float:
        """‖W‖_F² / σ₁²: a number of channels, at least 1; 0 for zeros."""
        return (self.frobenius / self.largest) ** 2 if self.largest else 0.0

    @property
    def condition(self) -> float:
        """σ₁ over the smallest singular value; infinite where that is 0."""
        return self.largest / self.smallest if self.smallest else math.inf


def geometry(lens: Lens, weight: Tensor) -> Geometry:
    """All singular values of a weight.

    Where matrices are large, or groups many, a part of the places is looked at, spread evenly: the
    smallest singular value is then one from above, as it is where `Convolution` thins frequencies.

    Arguments:
        lens: What is seen of the weight.
        weight: The weight.
    """
    weight = weight.detach()
    places, counts = lens.folded(torch.arange(lens.count)).unique(return_counts=True)
    high, wide = lens.matrices(weight, places[:1]).shape[1:]
    most = max(1, min(_PLACES, int(_WORK / (high * wide * min(high, wide)))))
    thin = math.ceil(len(places) / most)
    places, counts = places[::thin], counts[::thin].double()
    place, _ = highest(lens, weight)
    largest = torch.linalg.svdvals(lens.matrices(weight, torch.tensor([place])))[0]  # (min(m, n),)
    values = torch.cat(
        [
            torch.linalg.svdvals(lens.matrices(weight, chunk)).cpu()
            for chunk in places.split(max(1, _CHUNK // (high * wide)))
        ]
    )  # (F, min(m, n))
    groups = lens.count // _frequencies(lens)
    defects = (values.square() - 1).square().sum(dim=1)
    smallest = min(values.min().item(), largest.min().item())
    norm = max(values.max().item(), largest.max().item())
    rounding = max(high, wide) * torch.finfo(torch.float64).eps * norm
    return Geometry(
        largest=norm,
        smallest=smallest if smallest > rounding else 0.0,
        frobenius=torch.linalg.vector_norm(weight.double()).item(),
        defect=math.sqrt(groups * ((defects * counts).sum() / counts.sum()).item()),
        places=len(places),
    )


def _frequencies(lens: Lens) -> int:
    """The number of places of a group."""
    return math.prod(getattr(lens, "points", (1,)))
