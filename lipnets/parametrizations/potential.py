"""Weights of norm √2, at which x − Wᵀσ(Wx + b) is 1-Lipschitz, and Aᵀσ(Bx + b) for W = [A, B].

References:
    | A Dynamical System Perspective for Lipschitz Neural Networks
    | (Meunier, Delattre, Araujo & Allauzen, 2022) https://arxiv.org/abs/2110.12690
    | A Unified Algebraic Perspective on Lipschitz Neural Networks
    | (Araujo, Havens, Delattre, Allauzen & Hu, 2023) https://arxiv.org/abs/2303.03169
    | Direct Parameterization of Lipschitz-Bounded Deep Networks (Wang & Manchester, 2023)
    | https://arxiv.org/abs/2301.11526

Both papers on x − Wᵀσ(Wx + b) scale by a diagonal between the two products, h = 2 / ‖W‖² of CPL and 2T⁻¹ of SLL.  Here
its root belongs to the weight: x − 2AᵀT⁻¹σ(Ax + b) is x − Wᵀσ(Wx + b′) with W = √2 T^{−½} A, σ being
rescaled with each hidden unit.  For ReLU that is the same function; any other activation with slopes
in [0, 1] keeps them.  What is stored is then what is certified, one weight that is used twice.

SLL's positive weights q, Tᵢ = Σⱼ |AAᵀ|ᵢⱼ qⱼ / qᵢ, are left out: they rescale the rows of A, since
T(A, q) = diag(q)⁻² T(diag(q) A, 1), and rows have a scale of their own already.
"""

__all__ = ["CPL", "SLL", "Sandwich"]

import math

from einops import rearrange
from torch import Tensor, nn

from ._peak import inverse, peak_norm
from ._precision import full_precision, unit_scale
from .aol import AOL
from .cayley import cayley
from .spectral_conv import SpectralConv
from .spectral_matrix import SpectralMatrix

# Below √2 by more than what rounding to float32 adds to the norm, and proofs to that.
_ROOT_2 = math.sqrt(2.0) * (1 - 2.0**-18)


class CPL(nn.Module):
    """Divides a matrix, or a kernel, by its norm over √2.

    The norm of a kernel is searched for: for long in evaluation, for a shorter time in training, where
    it may be missed by a percent.

    The raw weight has the shape of the constrained one, (O, I) or (O, I, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectral = SpectralMatrix()
        self.spectral_conv = SpectralConv()

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 2:
            return _ROOT_2 * self.spectral(weight)
        if not self.training:
            return _ROOT_2 * self.spectral_conv(weight)
        weight = unit_scale(weight)
        return weight * (_ROOT_2 * inverse(peak_norm(weight)))


class SLL(nn.Module):
    """Rescales the outputs of a matrix, or of a kernel, so that its norm is at most √2.

    AOL of the transpose: output i is divided by √(½ Σⱼₜ |Gᵢⱼ(t)|) with the autocorrelation G = AAᵀ.
    The raw weight has the shape of the constrained one, (O, I) or (O, I / groups, H, W).

    Arguments:
        groups: The number of groups of the convolution.
    """

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.aol = AOL(groups=groups)

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 2:
            return _ROOT_2 * self.aol(weight.mT).mT
        swap = "(g o) i h w -> (g i) o h w"
        adjoint = self.aol(rearrange(weight, swap, g=self.groups))
        return _ROOT_2 * rearrange(adjoint, swap, g=self.groups)


class Sandwich(nn.Module):
    """Makes the rows of a matrix orthogonal of norm √2, or its columns where there are fewer of them.

    By the Cayley map.  The raw weight has the shape of the constrained one, (O, I).
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        return _ROOT_2 * cayley(weight)
