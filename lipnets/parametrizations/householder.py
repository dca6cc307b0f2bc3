"""Products of Householder reflections, in the compact WY representation.

References:
    | A Storage-Efficient WY Representation for Products of Householder Transformations
    | (Schreiber & Van Loan, 1989) https://doi.org/10.1137/0910005
    | Accumulating Householder Transformations, Revisited (Joffrain et al., 2006)
    | https://doi.org/10.1145/1141885.1141886, for the triangular factor
    | Efficient Orthogonal Parametrisation of Recurrent Neural Networks Using Householder Reflections
    | (Mhammedi et al., 2017) https://arxiv.org/abs/1612.00188

What differs: vectors need no unit norm and no zeros above a diagonal; a vector of zeros reflects
nothing, instead of making the result singular; and the derivative takes four products in all.
"""

__all__ = ["Householder"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import gram, plus_transpose, polished, tall
from ._opaque import opaque
from ._precision import full_precision, unit_scale


class Householder(nn.Module):
    """Makes the first columns of a product of reflections, one for each column of the raw weight.

    Rows where there are fewer of them.  Reflections depend on the direction of a column alone:
    weight decay changes nothing.  The raw weight has the shape of the constrained one; with N
    reflections of vectors of N entries, every orthogonal matrix of determinant (−1)ᴺ is reached.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return tall(_scaled, weight)


def _scaled(weight: Tensor) -> Tensor:
    return _reflections(unit_scale(weight, dim=0))


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """The first columns of ∏ᵢ (I − 2vᵢvᵢᵀ / vᵢᵀvᵢ) = I − VS⁻¹Vᵀ.

    S is the part of VᵀV on and above the diagonal, the diagonal halved: S + Sᵀ = VᵀV makes the product
    orthogonal.
    """
    columns = weight.shape[1]
    upper = gram(weight).triu_()
    diagonal = upper.diagonal()
    diagonal.copy_(torch.where(diagonal > 0, diagonal / 2, torch.ones_like(diagonal)))
    right = torch.linalg.solve_triangular(upper.mT, weight[:columns], upper=False, left=False)  # Zᵀ
    frame = torch.mm(weight, right.mT).neg_()
    frame.diagonal().add_(1)
    return polished(frame), (weight, upper, right)


def _backward(saved: Sequence[Tensor], grad: Tensor) -> Tensor:
    """With Y = VS⁻¹, Z = S⁻¹V₁ᵀ, V₁ the first rows of V, and C the gradient of the result.

    That of V is −CZᵀ + VB, and −CᵀY more for V₁, where B is symmetric and equal to YᵀCZᵀ, the gradient of
    S, on and above the diagonal.
    """
    weight, upper, right = saved
    columns = weight.shape[1]
    left = torch.linalg.solve_triangular(upper, weight, upper=True, left=False)  # Y
    outer = grad @ right  # CZᵀ
    inner = gram(left, outer).triu_()  # symmetric or not: what is above the diagonal is computed
    inner.diagonal().mul_(0.5)
    total = torch.addmm(outer, weight, plus_transpose(inner), beta=-1)
    total[:columns].addmm_(grad.mT, left, alpha=-1)
    return total.masked_fill_((weight == 0).all(dim=0), 0.0)


_reflections = opaque("householder", _forward, _backward)
