"""The orthogonal factor of the QR decomposition.

References:
    | Matrix Computations (Golub & Van Loan, 2013), section 5.2
    | How to generate random matrices from the classical compact groups (Mezzadri, 2007)
    | https://arxiv.org/abs/math-ph/0609050, for the signs
"""

__all__ = ["QR"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._dense import tall
from ._opaque import opaque
from ._precision import full_precision, unit_scale
from ._triangular import frame_gradient

_ERRORS = 8.0  # units of rounding


class QR(nn.Module):
    """Orthonormalizes the columns of a matrix one after another, or its rows where there are fewer.

    With positive numbers on the diagonal of R, without which columns would change their signs
    between steps.  The columns are orthonormal for any raw weight, zeros included; only the
    direction of each column of the raw weight matters.
    """

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:  # (O, I) -> (O, I)
        return tall(_qr, unit_scale(weight))


def _forward(weight: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    frame, upper = torch.linalg.qr(weight)
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(upper)
    # Reflections leave errors of some units of rounding, which must not exceed 1.
    below = 1 - _ERRORS * torch.finfo(weight.dtype).eps
    out = frame * (signs * below)
    return out, (out, upper * signs[:, None])


_qr = opaque("qr", _forward, frame_gradient)
