"""Orthogonal matrices by geotorch.

References:
    | Trivializations for Gradient-Based Optimization on Manifolds (Lezcano-Casado, 2019)
    | https://arxiv.org/abs/1909.09501
    | geotorch, https://github.com/lezcano/geotorch

For matrices only: on a kernel it would constrain the last two axes, which makes no convolution
orthogonal.
"""

__all__ = ["Stiefel"]

import geotorch
import torch
from torch import Tensor

from ._precision import full_precision


class Stiefel(geotorch.Stiefel):
    """`geotorch.Stiefel`, outside autocast, and with raw weights that are contiguous.

    What `geotorch.orthogonal` registers, with the Cayley map by default.  Its raw weight is a
    displacement from a base point, a buffer that assigning the constrained weight sets.
    """

    def __init__(self, size: tuple[int, ...], triv: str = "cayley") -> None:
        super().__init__(size, triv)

    @classmethod
    def like(cls, weight: Tensor) -> "Stiefel":
        """Makes the manifold of matrices of the shape, dtype and device of a weight.

        Its base point is drawn on the CPU, where geotorch can, and then moved.
        """
        with torch.device("cpu"):
            manifold = cls(tuple(weight.shape))
        return manifold.to(device=weight.device, dtype=weight.dtype)

    @full_precision
    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 (its name in geotorch)
        return super().forward(X)

    def right_inverse(self, X: Tensor, check_in_manifold: bool = True) -> Tensor:  # noqa: N803
        if X.is_meta:
            return torch.empty_like(X)
        return super().right_inverse(X, check_in_manifold).contiguous()
