"""Division by the Frobenius norm.

References:
    | Spectral Norm Regularization for Improving the Generalizability of Deep Learning
    | (Yoshida & Miyato, 2017) https://arxiv.org/abs/1705.10941
    | Achieving Robustness in Classification Using Optimal Transport with Hinge Regularization
    | (Serrurier et al., 2021) https://arxiv.org/abs/2006.06520, whose library has such a layer
"""

__all__ = ["Frobenius"]

from torch import Tensor, nn

from ._precision import full_precision, inverse_sqrt, unit_scale


class Frobenius(nn.Module):
    """Divides a matrix by its Frobenius norm, which is at least its largest singular value.

    Exact for one output, and up to the root of the rank too small for many.  Zeros stay zeros.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        weight = unit_scale(weight)
        return weight * inverse_sqrt(weight.square().sum())
